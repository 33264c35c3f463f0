//! Reads what a TOML file may say from the Rust types that it is read into: formatted source text,
//! of which only declarations and their comments matter.

/// A type that derives `Deserialize`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Path of its file.
    pub(super) file: String,
    pub(super) name: String,
    pub(super) docs: String,
    pub(super) shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// A table with keys.
    Table(Vec<Field>),
    /// One of several.
    Choice { variants: Vec<Variant>, untagged: bool },
    /// Text that is taken apart; the comments of its parts.
    Text(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) key: String,
    pub(super) docs: String,
    /// As written in Rust.
    pub(super) kind: String,
    pub(super) needed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) key: String,
    pub(super) docs: String,
    pub(super) payload: Payload,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Payload {
    Nothing,
    Kind(String),
    Fields(Vec<Field>),
}

/// Comment and attributes above a declaration.
#[derive(Default)]
struct Above {
    docs: Vec<String>,
    attributes: String,
}

impl Above {
    /// True if it took the line.
    fn take(&mut self, line: &str) -> bool {
        if let Some(doc) = line.strip_prefix("///") {
            self.docs.push(doc.trim().to_owned());
        } else if line.starts_with("#[") {
            self.attributes.push_str(line);
        } else {
            return false;
        }
        true
    }

    fn docs(&self) -> String {
        self.docs.join(" ")
    }
}

/// All types of a file that derive `Deserialize`.
pub(super) fn items(file: &str, text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut above = Above::default();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if above.take(line) {
            continue;
        }
        let above = std::mem::take(&mut above);
        if !above.attributes.contains("Deserialize") {
            continue;
        }
        let Some((what, name)) = declared(line) else { continue };
        let body: Vec<_> = if line.ends_with('{') {
            lines.by_ref().take_while(|line| *line != "}").collect()
        } else {
            Vec::new()
        };
        let shape = if above.attributes.contains("try_from") {
            Shape::Text(variants(&body).into_iter().map(|variant| variant.docs).collect())
        } else if what == "enum" {
            let untagged = above.attributes.contains("untagged");
            Shape::Choice { variants: variants(&body), untagged }
        } else {
            Shape::Table(fields(&body))
        };
        items.push(Item { file: file.to_owned(), name, docs: above.docs(), shape });
    }
    items
}

/// `struct` or `enum`, and the name.
fn declared(line: &str) -> Option<(&str, String)> {
    let mut words = line.split(' ').filter(|word| !word.starts_with("pub"));
    let what = words.next().filter(|word| ["struct", "enum"].contains(word))?;
    let name: String = words.next()?.chars().take_while(char::is_ascii_alphanumeric).collect();
    Some((what, name))
}

/// The fields among these lines, however deep.
fn fields(lines: &[&str]) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut above = Above::default();
    for line in lines.iter().map(|line| line.trim()) {
        if above.take(line) {
            continue;
        }
        let above = std::mem::take(&mut above);
        let declaration = line.trim_start_matches("pub(crate) ").trim_end_matches(',');
        let Some((name, kind)) = declaration.split_once(": ") else { continue };
        if above.attributes.contains("(skip)") {
            continue;
        }
        let renamed =
            above.attributes.split("rename = \"").nth(1).and_then(|it| it.split('"').next());
        let key = renamed.map_or_else(|| kebab(name.trim_start_matches("r#")), str::to_owned);
        let needed = !kind.starts_with("Option<") && !above.attributes.contains("default");
        fields.push(Field { key, docs: above.docs(), kind: kind.to_owned(), needed });
    }
    fields
}

/// The variants among the lines of an enum.
fn variants(lines: &[&str]) -> Vec<Variant> {
    let mut variants = Vec::new();
    let mut above = Above::default();
    let mut lines = lines.iter();
    while let Some(line) = lines.next() {
        if above.take(line.trim()) {
            continue;
        }
        let above = std::mem::take(&mut above);
        let line = line.trim().trim_end_matches(',');
        let name: String = line.chars().take_while(char::is_ascii_alphanumeric).collect();
        if name.is_empty() {
            continue;
        }
        let rest = &line[name.len()..];
        let payload = if rest.starts_with(" {") {
            let inner: Vec<_> =
                lines.by_ref().take_while(|line| line.trim() != "},").copied().collect();
            Payload::Fields(fields(&inner))
        } else if let Some(kind) = rest.strip_prefix('(').and_then(|it| it.strip_suffix(')')) {
            Payload::Kind(kind.to_owned())
        } else {
            Payload::Nothing
        };
        variants.push(Variant { key: kebab(&name), docs: above.docs(), payload });
    }
    variants
}

/// As serde's `kebab-case` has it, for fields as for variants.
fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for (place, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && place > 0 {
            kebab.push('-');
        }
        kebab.push(if letter == '_' { '-' } else { letter.to_ascii_lowercase() });
    }
    kebab
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
/// A piece.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Piece {
    #[serde(skip)]
    pub(crate) name: String,
    /// How
    /// long.
    pub(crate) max_size: Option<u16>,
    #[serde(rename = "try")]
    pub(crate) attempt: Line,
    #[serde(default)]
    pub(crate) r#type: u8,
}

/// Not read from a file.
#[derive(Debug)]
struct Other {
    a: u8,
}

/// When.
#[derive(Debug, Deserialize)]
enum When {
    /// Now.
    AtOnce,
    /// Later.
    Every {
        /// Pause.
        millis: u64,
    },
    /// Like that.
    Other(Piece),
}

/// Bytes.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Hex(pub(crate) Vec<u8>);
"#;

    #[test]
    fn declarations_are_read() {
        let items = items("x.rs", SOURCE);
        let names: Vec<_> = items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["Piece", "When", "Hex"]);
        let Shape::Table(fields) = &items[0].shape else { panic!("{items:?}") };
        let told: Vec<_> =
            fields.iter().map(|it| (it.key.as_str(), it.docs.as_str(), it.needed)).collect();
        assert_eq!(
            told,
            [("max-size", "How long.", false), ("try", "", true), ("type", "", false)]
        );
        let Shape::Choice { variants, untagged: false } = &items[1].shape else {
            panic!("{items:?}")
        };
        assert_eq!(variants[0].key, "at-once");
        assert!(
            matches!(&variants[1].payload, Payload::Fields(fields) if fields[0].key == "millis")
        );
        assert_eq!(variants[2].payload, Payload::Kind("Piece".into()));
        assert_eq!(items[2].shape, Shape::Text(Vec::new()));
    }
}
