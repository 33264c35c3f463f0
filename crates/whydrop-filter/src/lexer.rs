//! Cuts an expression into words, as libpcap's scanner does (`scanner.l`, 1.10): a word is as long
//! as it can be, so that `tcp-syn` is a name and `5-1` is not a subtraction.

use std::net::Ipv6Addr;
use std::ops::Range;

use crate::Error;

/// One word of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    /// Its bytes.
    pub(crate) place: Range<usize>,
}

/// What a word is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number: decimal, `0x` hexadecimal or `0` octal.
    Number(u32),
    /// Two to four decimal numbers with dots between them, most significant first.
    Dotted(Vec<u8>),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// An Ethernet address.
    Mac([u8; 6]),
    /// A keyword or a name.
    Word(String),
    /// A name that is not to be taken for a keyword: `\tcp`.
    Escaped(String),
    /// `and`, `&&`.
    And,
    /// `or`, `||`.
    Or,
    /// `not`, `!`.
    Not,
    /// `=` or `==`, `!=`, `<`, `<=`, `>`, `>=`, `+ - * / % & | ^ << >>`, brackets, `:`.
    Symbol(&'static str),
}

/// Longest first, so that none is taken for the beginning of another.
const SYMBOLS: &[&str] = &[
    "<<", ">>", "<=", ">=", "!=", "==", "<", ">", "=", "+", "-", "*", "/", "%", "&", "|", "^", "(",
    ")", "[", "]", ":",
];

/// All words of an expression.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, Error> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(character) = text[at..].chars().next() {
        if character.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let rest = &text[at..];
        let (kind, length) = token(text, at, rest)?;
        tokens.push(Token { kind, place: at..at + length });
        at += length;
    }
    Ok(tokens)
}

fn token(text: &str, at: usize, rest: &str) -> Result<(Kind, usize), Error> {
    let operators =
        [("&&", Kind::And), ("||", Kind::Or), ("!=", Kind::Symbol("!=")), ("!", Kind::Not)];
    for (symbol, kind) in operators {
        if rest.starts_with(symbol) {
            return Ok((kind, symbol.len()));
        }
    }
    if let Some((kind, length)) = with_colons(rest) {
        return Ok((kind, length));
    }
    if let Some(name) = rest.strip_prefix('\\') {
        let length = word_length(name);
        if length > 0 {
            return Ok((Kind::Escaped(name[..length].to_owned()), length + 1));
        }
    }
    let length = word_length(rest);
    if length > 0 {
        return word(text, at, &rest[..length]).map(|kind| (kind, length));
    }
    for symbol in SYMBOLS {
        if rest.starts_with(symbol) {
            let kind = Kind::Symbol(if *symbol == "==" { "=" } else { symbol });
            return Ok((kind, symbol.len()));
        }
    }
    let length = rest.chars().next().map_or(0, char::len_utf8);
    Err(Error::new(text, at..at + length, "this character means nothing in a filter"))
}

/// Bytes of the name or number that begins here; a hyphen or underscore does not end one.
fn word_length(text: &str) -> usize {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    if !text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return 0;
    }
    let most = text.bytes().take_while(|byte| part(byte)).count();
    text[..most].trim_end_matches(['-', '_']).len()
}

/// An IPv6 or Ethernet address with colons. Two colons at least tell it from `tcp[0:2]`.
fn with_colons(text: &str) -> Option<(Kind, usize)> {
    let part = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    let length = text.bytes().take_while(|byte| part(byte)).count();
    let found = &text[..length];
    if found.matches(':').count() < 2
        || text[length..].starts_with(|next: char| next.is_ascii_alphanumeric())
    {
        return None;
    }
    let kind = mac(found, ':').map(Kind::Mac).or_else(|| found.parse().ok().map(Kind::Ipv6))?;
    Some((kind, length))
}

fn mac(text: &str, between: char) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text
        .split(between)
        .map(|part| (part.len() <= 2).then(|| u8::from_str_radix(part, 16).ok()).flatten())
        .collect();
    bytes?.try_into().ok()
}

fn word(text: &str, at: usize, word: &str) -> Result<Kind, Error> {
    match word {
        "and" => return Ok(Kind::And),
        "or" => return Ok(Kind::Or),
        "not" => return Ok(Kind::Not),
        _ => {}
    }
    let place = at..at + word.len();
    if word.bytes().all(|byte| byte.is_ascii_digit())
        || word
            .strip_prefix("0x")
            .is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return number(word).map(Kind::Number).ok_or_else(|| {
            Error::new(text, place, "not a number of 32 bits")
                .hint("numbers are decimal, hexadecimal with 0x, or octal with a leading 0")
        });
    }
    if word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        let parts: Option<Vec<u8>> = word.split('.').map(|part| part.parse().ok()).collect();
        return match parts {
            Some(parts) if parts.len() <= 4 => Ok(Kind::Dotted(parts)),
            _ => Err(Error::new(text, place, "not an IPv4 address")
                .hint("four numbers from 0 to 255 with dots between them")),
        };
    }
    Ok(mac(word, '-').map_or_else(|| Kind::Word(word.to_owned()), Kind::Mac))
}

fn number(word: &str) -> Option<u32> {
    if let Some(digits) = word.strip_prefix("0x") {
        return u32::from_str_radix(digits, 16).ok();
    }
    match word.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => u32::from_str_radix(digits, 8).ok(),
        _ => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokens(text).unwrap().into_iter().map(|token| token.kind).collect()
    }

    fn word(text: &str) -> Kind {
        Kind::Word(text.into())
    }

    #[test]
    fn words_are_as_long_as_they_can_be() {
        assert_eq!(kinds("tcp-syn 80-90 5-1"), [word("tcp-syn"), word("80-90"), word("5-1")]);
        assert_eq!(kinds("tcp[13]-1").len(), 6);
        assert_eq!(kinds("0x1f 010 9"), [31, 8, 9].map(Kind::Number));
        assert_eq!(kinds("!=!"), [Kind::Symbol("!="), Kind::Not]);
        assert_eq!(kinds(r"\tcp"), [Kind::Escaped("tcp".into())]);
    }

    #[test]
    fn addresses_are_told_from_indices() {
        assert_eq!(kinds("ip[0:2]").len(), 6);
        assert_eq!(kinds("::1"), [Kind::Ipv6(Ipv6Addr::LOCALHOST)]);
        assert_eq!(kinds("fe80::/10").len(), 3);
        assert_eq!(kinds("::ffff:1.2.3.4").len(), 1);
        assert_eq!(kinds("0:1:2:a:b:c"), [Kind::Mac([0, 1, 2, 10, 11, 12])]);
        assert_eq!(kinds("00-01-02-0a-0b-0c"), [Kind::Mac([0, 1, 2, 10, 11, 12])]);
        assert_eq!(kinds("10.1.2.3"), [Kind::Dotted(vec![10, 1, 2, 3])]);
    }

    #[test]
    fn what_is_no_word_has_a_place() {
        for (text, at) in [("tcp $", 4), ("host 1.2.3.256", 5), ("1 = 0x1ffffffff", 4), ("ö", 0)] {
            assert_eq!(tokens(text).unwrap_err().position(), at, "{text}");
        }
    }
}
