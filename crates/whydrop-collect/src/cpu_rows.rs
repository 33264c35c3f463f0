//! The form of `/proc/net/stat/*`: a line of names, then a line of hexadecimal numbers for each CPU.
//!
//! Values are found by name only. Numbers are of 32 bits each and wrap, and so does their sum.

/// Calls `each` with the name of every column, the sum over all CPUs and the value of the first: a
/// level such as `entries` is repeated in each line. A line that does not fit is skipped.
pub(crate) fn for_each<'a>(text: &'a str, mut each: impl FnMut(&'a str, u32, u32)) {
    let mut lines = text.lines();
    let Some(names) = lines.next() else { return };
    let names: Vec<&str> = names.split([' ', ',', '\t']).filter(|name| !name.is_empty()).collect();
    let mut rows = lines.filter_map(|line| {
        line.split_ascii_whitespace()
            .map(|number| u32::from_str_radix(number, 16).ok())
            .collect::<Option<Vec<u32>>>()
            .filter(|row| !row.is_empty())
    });
    let Some(first) = rows.next() else { return };
    let mut sums = first.clone();
    for row in rows {
        for (sum, number) in sums.iter_mut().zip(row) {
            *sum = sum.wrapping_add(number);
        }
    }
    for ((name, sum), first) in names.into_iter().zip(sums).zip(first) {
        each(name, sum, first);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Vec<(&str, u32, u32)> {
        let mut found = Vec::new();
        for_each(text, |name, sum, first| found.push((name, sum, first)));
        found
    }

    #[test]
    fn columns_are_added_by_name() {
        let text = "entries, drop  early_drop\n0000000a ffffffff 00000001\n0000000a 00000002 10\n";
        assert_eq!(all(text), [("entries", 20, 10), ("drop", 1, u32::MAX), ("early_drop", 17, 1)]);
    }

    #[test]
    fn what_does_not_fit_is_skipped() {
        assert_eq!(
            all("a b c\n1 2\n3 4 5\n"),
            [("a", 4, 1), ("b", 6, 2)],
            "a column without values"
        );
        assert_eq!(all("a\n1 7\nx\n\n2\n"), [("a", 3, 1)]);
        assert_eq!(all("a b\n"), []);
        assert_eq!(all(""), []);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[a-g0-9 ,\n-]{0,200}") {
            all(&text);
        }
    }
}
