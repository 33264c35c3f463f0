//! The reference of scenario files, `docs/lab.md`: every key with its meaning, made from the types that
//! the lab reads them into. A key without a comment there has none here, which a test forbids.

use std::collections::VecDeque;
use std::fmt::Write as _;

use crate::tidy::Tree;

mod source;

use source::{Field, Item, Payload, Shape, Variant};

/// Where the types are.
const SOURCES: &str = "crates/whydrop-lab/src/";
/// The type of a whole file.
const ROOT: &str = "Scenario";
/// Where counters are read, by the first word of their names.
const PLACES: &str = "crates/whydrop-lab/src/counters/table.rs";

const INTRODUCTION: &str = "# The lab

Every cause that whydrop names can be seen at work: `whydrop lab` builds network namespaces, provokes
the loss in them, has the program itself diagnose it from outside, and compares the report with the
kernel's own counters. It needs root and iproute2, some scenarios nftables; nothing outside its
namespaces is changed, and nothing stays behind.

    whydrop lab list                     all scenarios
    whydrop lab run NAME... --remedy     some of them, then the same traffic with the remedy applied
    whydrop lab run NAME... --fix        some of them, cured by the program itself, undone, and lost again
    whydrop lab run --all --jobs 4       all of them, four side by side
    whydrop lab run NAME NAME --together both at once under one diagnosis, which must tell them apart
    whydrop lab run NAME --repeat 10     ten times
    whydrop lab shell NAME               its traffic again and again, while you look at it from a shell

NAME is a scenario, or a cause, as in a report: that stands for all scenarios that reproduce it.

A scenario is one file in [scenarios](../crates/whydrop-lab/scenarios). It is right if

- its counters moved as it claims (`counters`), or else no report could be judged by it;
- each cause it expects was found in its namespace with its class, one of its variants, and where it
  says so its device, object, or socket and process; and counts exactly as many packets as
  `packets-from` adds up to, less at most what the report says that its tracer lost;
- nothing else that loses packets was found, and nothing of what must be `quiet`;
- nothing is unexplained, the sums of the ledger agree, and verdict and exit status are those that
  follow from what is expected.

With its remedy a scenario must come out clean, and the counters that told the loss must stand still
unless `remedy.counters` says otherwise. With `--fix` the program must find the change by itself, judge it to be a
cure, and undo it so that every setting is as before and the loss comes back; or answer as `no-fix` says.

A file may be `like` another one (`like = \"NAME\"`): then every key that it has takes the place of the
other's, whole, and the rest is the other's. A scenario that disturbs what all namespaces share says
why it must be `alone`: everything else on this host waits for it.

Traffic of one `act` is played all at once, act after act. Where the tables below say *needed*, a file
without the key is refused, as is one with a key that is not here.
";

/// The document.
pub(crate) fn document(tree: &Tree) -> String {
    let items = read(tree);
    let aliases = aliases(tree);
    let page = Page { items: &items, aliases: &aliases };
    let mut text = format!("{}\n\n{INTRODUCTION}", crate::docs::MADE);
    let mut waiting: VecDeque<&Item> = page.find(ROOT, "").into_iter().collect();
    let mut known: Vec<&Item> = waiting.iter().copied().collect();
    while let Some(item) = waiting.pop_front() {
        page.section(item, &mut text);
        for next in page.named_by(item) {
            if !known.contains(&next) {
                known.push(next);
                waiting.push_back(next);
            }
        }
    }
    counters(tree, &mut text);
    text
}

fn read(tree: &Tree) -> Vec<Item> {
    let files = tree.rust().filter(|(path, _)| path.starts_with(SOURCES));
    files.flat_map(|(path, text)| source::items(path, text)).collect()
}

/// Types that stand for others: `type Sysctls = ...;`.
fn aliases(tree: &Tree) -> Vec<(String, String)> {
    let files = tree.rust().filter(|(path, _)| path.starts_with(SOURCES));
    let lines = files.flat_map(|(_, text)| text.lines());
    let alias = |line: &str| {
        let (name, kind) = line.strip_prefix("type ")?.split_once(" = ")?;
        Some((name.to_owned(), kind.trim_end_matches(';').to_owned()))
    };
    lines.filter_map(alias).collect()
}

/// The names that counters may have.
fn counters(tree: &Tree, text: &mut String) {
    let places = tree.find(PLACES).and_then(|file| file.text()).unwrap_or_default();
    let list = places.split("enum Place {").nth(1).and_then(|rest| rest.split("\n}").next());
    let docs = list.unwrap_or_default().lines().filter_map(|line| line.trim().strip_prefix("/// "));
    text.push_str(
        "\n## Counters\n\nA counter is written `ROLE:NAME`, as in `b:TcpExt.ListenDrops`. By its name it is \
         read from:\n\n",
    );
    for doc in docs {
        let _ = writeln!(text, "- {doc}");
    }
}

struct Page<'a> {
    items: &'a [Item],
    aliases: &'a [(String, String)],
}

impl<'a> Page<'a> {
    /// The type of this name, the one of the same file if there are several.
    fn find(&self, name: &str, file: &str) -> Option<&'a Item> {
        let named = || self.items.iter().filter(|item| item.name == name);
        named().find(|item| item.file == file).or_else(|| named().next())
    }

    /// Heading of a type; with the file's if another one has the same name.
    fn title(&self, item: &Item) -> String {
        let first = self.items.iter().find(|other| other.name == item.name);
        if first == Some(item) {
            return item.name.clone();
        }
        let stem = item.file.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        format!("{} of {stem}", item.name)
    }

    /// Types that a type's keys name, in their order.
    fn named_by(&self, item: &Item) -> Vec<&'a Item> {
        let of = |fields: &[Field]| fields.iter().map(|it| it.kind.clone()).collect::<Vec<_>>();
        let kinds = match &item.shape {
            Shape::Table(fields) => of(fields),
            Shape::Choice { variants, .. } => {
                let kinds = variants.iter().flat_map(|variant| match &variant.payload {
                    Payload::Nothing => Vec::new(),
                    Payload::Kind(kind) => vec![kind.clone()],
                    Payload::Fields(fields) => of(fields),
                });
                kinds.collect()
            }
            Shape::Text(_) => Vec::new(),
        };
        kinds.iter().flat_map(|kind| self.names_in(kind, &item.file)).collect()
    }

    fn names_in(&self, kind: &str, file: &str) -> Vec<&'a Item> {
        let words = kind.split(|letter: char| !letter.is_ascii_alphanumeric());
        let mut found = Vec::new();
        for word in words.filter(|word| !word.is_empty()) {
            match self.aliases.iter().find(|(name, _)| name == word) {
                Some((_, kind)) => found.extend(self.names_in(kind, file)),
                None => found.extend(self.find(word, file)),
            }
        }
        found
    }

    fn section(&self, item: &Item, text: &mut String) {
        let _ = write!(text, "\n## {}\n\n{}\n", self.title(item), item.docs);
        match &item.shape {
            Shape::Table(fields) => self.fields(fields, &item.file, text),
            Shape::Text(parts) => {
                let parts: Vec<_> = parts.iter().filter(|part| !part.is_empty()).collect();
                text.push_str(if parts.is_empty() { "" } else { "\n" });
                for part in parts {
                    let _ = writeln!(text, "- {part}");
                }
            }
            Shape::Choice { variants, untagged } => {
                text.push_str("\n| one of | value | meaning |\n|---|---|---|\n");
                for Variant { key, docs, payload } in variants {
                    let value = match payload {
                        Payload::Nothing => String::new(),
                        Payload::Kind(kind) => self.kind(kind, &item.file),
                        Payload::Fields(fields) => {
                            let key = |it: &Field| {
                                format!(
                                    "`{}` ({}): {}",
                                    it.key,
                                    self.kind(&it.kind, &item.file),
                                    it.docs
                                )
                            };
                            fields.iter().map(key).collect::<Vec<_>>().join(" ")
                        }
                    };
                    let key = if *untagged { String::new() } else { format!("`{key}`") };
                    let _ = writeln!(text, "| {key} | {value} | {docs} |");
                }
            }
        }
    }

    fn fields(&self, fields: &[Field], file: &str, text: &mut String) {
        text.push_str("\n| key | value | needed | meaning |\n|---|---|---|---|\n");
        for Field { key, docs, kind, needed } in fields {
            let needed = if *needed { "yes" } else { "" };
            let docs = self.meaning(docs, kind, file);
            let _ = writeln!(text, "| `{key}` | {} | {needed} | {docs} |", self.kind(kind, file));
        }
    }

    /// What a key means: as its comment says, or else that of its type.
    fn meaning(&self, docs: &str, kind: &str, file: &str) -> String {
        if docs.is_empty() {
            self.names_in(kind, file).first().map(|item| item.docs.clone()).unwrap_or_default()
        } else {
            docs.to_owned()
        }
    }

    /// A Rust type in words.
    fn kind(&self, kind: &str, file: &str) -> String {
        let inside = |outer: &str| kind.strip_prefix(outer).and_then(|rest| rest.strip_suffix('>'));
        if let Some(inner) = inside("Option<").or_else(|| inside("Box<")) {
            return self.kind(inner, file);
        }
        if let Some(inner) = inside("Vec<") {
            return format!("list of {}", self.kind(inner, file));
        }
        if let Some((_, inner)) = inside("BTreeMap<").and_then(|pair| pair.split_once(", ")) {
            return format!("by name: {}", self.kind(inner, file));
        }
        if let Some((_, kind)) = self.aliases.iter().find(|(name, _)| name == kind) {
            return self.kind(kind, file);
        }
        let word = kind.rsplit("::").next().unwrap_or(kind);
        match word {
            "bool" => "`true` or `false`".into(),
            "u8" | "u16" | "u32" | "u64" | "i32" | "i64" | "usize" => "number".into(),
            "String" => "text".into(),
            "Class" => "`fault`, `policy`, `peer`, `benign` or `info`".into(),
            "IpAddr" | "Ipv4Addr" | "Ipv6Addr" => "address".into(),
            "SocketAddr" => "`ADDRESS:PORT`".into(),
            _ => match self.find(word, file) {
                Some(item) => {
                    let title = self.title(item);
                    let anchor = title.to_lowercase().replace(' ', "-");
                    format!("[{title}](#{anchor})")
                }
                None => format!("`{word}`"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn items() -> Vec<Item> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        read(&Tree::read(&root).unwrap())
    }

    #[test]
    fn every_type_is_found_and_told() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = document(&Tree::read(&root).unwrap());
        for told in [
            "## Scenario",
            "| `topology` | [Topology](#topology) | yes |",
            "## HttpShort",
            "## Mac",
        ] {
            assert!(text.contains(told), "{told}");
        }
        // A type that nothing is known about is set as code, and so are keys and words of two letters.
        let unknown = text.lines().filter(|line| line.starts_with('|'));
        let unknown = unknown.filter(|line| {
            line.split('|').nth(2).is_some_and(|kind| {
                let kind = kind.trim();
                kind.starts_with('`')
                    && kind.chars().nth(1).is_some_and(|it| it.is_ascii_uppercase())
                    && kind != "`ADDRESS:PORT`"
            })
        });
        assert_eq!(unknown.collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn nothing_that_a_scenario_may_say_is_without_a_meaning() {
        let items = items();
        let page = Page { items: &items, aliases: &[] };
        let mut waiting = vec![page.find(ROOT, "").unwrap()];
        let mut known = waiting.clone();
        let mut bare = Vec::new();
        while let Some(item) = waiting.pop() {
            if let Shape::Table(fields) = &item.shape {
                let means = |field: &&Field| page.meaning(&field.docs, &field.kind, &item.file);
                let silent = fields.iter().filter(|field| means(field).is_empty());
                bare.extend(silent.map(|field| format!("{} of {}", field.key, item.name)));
            }
            for next in page.named_by(item) {
                if !known.contains(&next) {
                    known.push(next);
                    waiting.push(next);
                }
            }
        }
        assert_eq!(bare, [""; 0]);
    }
}
