//! Rust sources as text: enough of the language to leave out what is not code.

/// The source without its tests: up to the first `#[cfg(test)]` that stands before a `mod`.
pub(crate) fn without_tests(source: &str) -> &str {
    let mut start = 0;
    while let Some(found) = source[start..].find("#[cfg(test)]") {
        let at = start + found;
        let at_line_start = at == 0 || source.as_bytes()[at - 1] == b'\n';
        let after = source[at..].lines().map(str::trim_start).skip(1);
        let next = after.into_iter().find(|line| !line.starts_with("#[") && !line.is_empty());
        if at_line_start && next.is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
        {
            return &source[..at];
        }
        start = at + 1;
    }
    source
}

/// The source with comments and the contents of string and character literals blanked out. Every
/// byte stays where it was.
pub(crate) fn code(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = at
            + match bytes[at] {
                b'/' if rest.starts_with(b"//") => line_comment(rest),
                b'/' if rest.starts_with(b"/*") => block_comment(rest),
                b'"' => string(rest),
                b'r' if !follows_word(bytes, at) => raw_string(rest).unwrap_or(1),
                b'\'' => character(rest),
                _ => 1,
            };
        if end > at + 1 {
            for byte in &mut code[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at = end;
    }
    // Whole characters were blanked, byte by byte, so the rest still is UTF-8.
    String::from_utf8_lossy(&code).into_owned()
}

fn line_comment(rest: &[u8]) -> usize {
    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of `r"..."` or `r#"..."#`, if it is one.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    let open = 1 + hashes;
    (rest.get(open) == Some(&b'"')).then_some(())?;
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &rest[open + 1..];
    let end = body.windows(close.len()).position(|window| window == close);
    Some(end.map_or(rest.len(), |end| open + 1 + end + close.len()))
}

/// Length of a character literal; 1 for the quote of a lifetime.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        // The escaped character may be a quote; what follows it up to the closing one may be \u{...}.
        let close = rest.iter().skip(3).position(|byte| *byte == b'\'');
        return close.map_or(1, |close| close + 4);
    }
    let text = str::from_utf8(&rest[1..rest.len().min(6)]);
    let text =
        text.unwrap_or_else(|error| str::from_utf8(&rest[1..=error.valid_up_to()]).unwrap_or(""));
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(first), Some('\'')) => first.len_utf8() + 2,
        _ => 1,
    }
}

fn follows_word(bytes: &[u8], at: usize) -> bool {
    // `br"..."` is a raw string too.
    let before = at.checked_sub(1).map(|before| bytes[before]);
    before.is_some_and(|byte| (byte.is_ascii_alphanumeric() || byte == b'_') && byte != b'b')
}

/// Offsets at which `word` stands in `code` as a word of its own, or as the beginning of a path.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let bytes = code.as_bytes();
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        !part(before) && !part(bytes.get(at + word.len()))
    })
}

/// Every path that the `use` declarations of `code` import, with the offset of the declaration:
/// `use std::{fs, net::TcpStream};` gives `std::fs` and `std::net::TcpStream`.
pub(crate) fn imports(code: &str) -> Vec<(usize, String)> {
    let mut imports = Vec::new();
    for at in words(code, "use") {
        let tree: String = code[at + 3..].split(';').next().unwrap_or_default().into();
        // Renaming does not change what is imported.
        let tree: Vec<&str> = tree.split_whitespace().collect();
        let mut paths = Vec::new();
        flatten(&tree.join(" "), "", &mut paths);
        imports.extend(paths.into_iter().map(|path| (at, path)));
    }
    imports
}

fn flatten(tree: &str, prefix: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        if !path.is_empty() {
            paths.push(format!("{prefix}{path}").replace(' ', ""));
        }
        return;
    };
    let prefix = format!("{prefix}{}", &tree[..open]).replace(' ', "");
    let inner = tree[open + 1..].trim_end().trim_end_matches('}');
    let (mut depth, mut start) = (0, 0);
    // The closing brace of the group itself may have been trimmed together with an inner one.
    for (at, character) in inner.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                flatten(&inner[start..at], &prefix, paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    flatten(&inner[start..], &prefix, paths);
}

#[cfg(test)]
mod tests {
    use super::{code, imports, without_tests, words};

    #[test]
    fn tests_are_cut_off_and_single_test_items_are_not() {
        let source =
            "fn a() {}\n#[cfg(test)]\nfn b() {}\n#[cfg(test)]\n#[expect(x)]\nmod tests {\n}\n";
        assert_eq!(without_tests(source), "fn a() {}\n#[cfg(test)]\nfn b() {}\n");
        let elsewhere = "#[cfg(test)]\nmod tests;\nfn a() {}\n";
        assert_eq!(without_tests(elsewhere), elsewhere);
    }

    #[test]
    fn only_code_is_left() {
        for (source, left) in [
            ("a // word", "a        "),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"a("wo\"rd") b"#, "a(        ) b"),
            (r##"a(r#"wo"rd"#) b"##, "a(          ) b"),
            (r#"a(br"word") b"#, "a(b       ) b"),
            ("for r in b", "for r in b"),
            ("'a' '\\'' '\"' x", "             x"),
            ("'\\u{1F600}' 'é' x", "                 x"),
            ("&'a str /**/", "&'a str     "),
            ("var\"x\"", "var   "),
            ("\"a\nb\"", "  \n  "),
        ] {
            assert_eq!(code(source), left, "{source}");
            assert_eq!(code(source).len(), source.len(), "{source}");
        }
    }

    #[test]
    fn words_are_whole() {
        let found: Vec<_> = words("use reuse use_ (use) useful use", "use").collect();
        assert_eq!(found, [0, 16, 28]);
    }

    #[test]
    fn groups_of_imports_are_taken_apart() {
        let code = "use std::fs;\nuse std::{env, io::{self, Read as R}, net::TcpStream};\npub use a::b::{c};";
        let paths: Vec<_> = imports(code).into_iter().map(|(_, path)| path).collect();
        assert_eq!(
            paths,
            [
                "std::fs",
                "std::env",
                "std::io::self",
                "std::io::Read",
                "std::net::TcpStream",
                "a::b::c"
            ]
        );
    }
}
