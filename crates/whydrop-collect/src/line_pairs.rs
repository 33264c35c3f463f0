//! The form of `/proc/net/snmp` and `/proc/net/netstat`: a line of names, then a line of values,
//! both begun by the group.
//!
//! ```text
//! Udp: InDatagrams NoPorts InErrors
//! Udp: 185 0 0
//! ```
//!
//! Values are found by name only: kernels insert new names in the middle. Used by the collectors of
//! both files and by the looks in between; decides nothing.

/// Calls `each` with group, name and value of every counter. Negative values are skipped: those are
/// settings (`Tcp.MaxConn` is -1). A pair of lines that do not belong together is skipped.
pub(crate) fn for_each<'a>(text: &'a str, mut each: impl FnMut(&'a str, &'a str, u64)) {
    let mut lines = text.lines();
    let mut names = lines.next();
    while let (Some(heads), Some(line)) = (names, lines.next()) {
        let (Some((group, heads)), Some((same, values))) =
            (heads.split_once(':'), line.split_once(':'))
        else {
            names = Some(line);
            continue;
        };
        if group != same {
            names = Some(line);
            continue;
        }
        for (name, value) in heads.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
            if let Ok(value) = value.parse() {
                each(group, name, value);
            }
        }
        names = lines.next();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Vec<(&str, &str, u64)> {
        let mut found = Vec::new();
        for_each(text, |group, name, value| found.push((group, name, value)));
        found
    }

    #[test]
    fn pairs_are_read_by_name() {
        let text =
            "Tcp: RtoMin MaxConn InSegs\nTcp: 200 -1 7\nUdp: NoPorts\nUdp: 18446744073709551615\n";
        let expected = [("Tcp", "RtoMin", 200), ("Tcp", "InSegs", 7), ("Udp", "NoPorts", u64::MAX)];
        assert_eq!(all(text), expected);
    }

    #[test]
    fn what_does_not_fit_is_skipped_and_the_rest_is_read() {
        assert_eq!(all("A: x y z\nA: 1 2\n"), [("A", "x", 1), ("A", "y", 2)], "values missing");
        assert_eq!(all("A: x\nB: y\nB: 5\n"), [("B", "y", 5)], "a group without values");
        assert_eq!(all("noise\nB: y\nB: 5\n"), [("B", "y", 5)]);
        assert_eq!(all("A: x\nA: banana\nB: y\nB: 5"), [("B", "y", 5)]);
        assert_eq!(all("A: x"), []);
        assert_eq!(all(""), []);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[A-C: \n0-9x-]{0,200}") {
            all(&text);
        }
    }
}
