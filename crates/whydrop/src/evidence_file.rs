//! Evidence on disk: gzip'd JSON, one document.
//!
//! gzip carries a checksum, so a truncated or damaged file is recognised as such, and any host has
//! `zcat` to look inside.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use whydrop_model::{EVIDENCE_SCHEMA, Evidence, MOST};

/// How every gzip file begins (RFC 1952).
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// A document larger than this is refused: no host fills it, a hostile file might.
const LARGEST: u64 = 1 << 30;

/// Says now, and not after the window, that evidence cannot be stored there.
pub(crate) fn check_writable(path: &Path) -> anyhow::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if path.is_dir() {
        bail!("cannot write {}: it is a directory", path.display());
    }
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK)
        .with_context(|| format!("cannot write into {}", folder.display()))
}

/// Stores evidence, whole or not at all: it is written beside the file and moved into place.
pub(crate) fn write(path: &Path, evidence: &Evidence) -> anyhow::Result<()> {
    let unfinished = beside(path);
    let result = write_to(&unfinished, evidence)
        .and_then(|()| fs::rename(&unfinished, path))
        .with_context(|| format!("cannot write {}", path.display()));
    if result.is_err() {
        // The error to report is the first one.
        let _ = fs::remove_file(&unfinished);
    }
    result
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

fn write_to(path: &Path, evidence: &Evidence) -> io::Result<()> {
    let file = File::create(path)?;
    let mut gzip = GzEncoder::new(BufWriter::new(file), Compression::default());
    serde_json::to_writer(&mut gzip, evidence)?;
    let mut buffer = gzip.finish()?;
    buffer.flush()?;
    buffer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// Reads evidence that [`write()`] stored.
pub(crate) fn read(path: &Path) -> anyhow::Result<Evidence> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read evidence file {shown}"))?;
    parse(BufReader::new(file), path)
}

/// Reads what a file holds. `path` is for the errors alone.
fn parse(mut compressed: impl io::BufRead, path: &Path) -> anyhow::Result<Evidence> {
    let shown = path.display();
    let start =
        compressed.fill_buf().with_context(|| format!("cannot read evidence file {shown}"))?;
    if !GZIP_MAGIC.starts_with(&start[..start.len().min(GZIP_MAGIC.len())]) {
        bail!("{shown} is not an evidence file of whydrop: it does not begin as a gzip file");
    }
    let mut text = String::new();
    GzDecoder::new(compressed)
        .take(LARGEST)
        .read_to_string(&mut text)
        .map_err(|error| damaged(path, &error))?;
    if text.len() as u64 >= LARGEST {
        bail!("{shown} holds more than 1 GiB: not an evidence file of whydrop");
    }
    document(&text, path)
}

/// Reads the document in a file.
pub(crate) fn document(text: &str, path: &Path) -> anyhow::Result<Evidence> {
    let shown = path.display();
    let document: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| anyhow!("{shown} is not an evidence file of whydrop: {error}"))?;
    match document.get("schema").and_then(serde_json::Value::as_str) {
        Some(EVIDENCE_SCHEMA) => {}
        Some(schema) => bail!(
            "{shown} has schema {schema:?}; this whydrop reads {EVIDENCE_SCHEMA}: use the release that \
             wrote it"
        ),
        None => bail!("{shown} is not an evidence file of whydrop: it has no schema"),
    }
    let evidence: Evidence = serde_json::from_value(document)
        .map_err(|error| anyhow!("{shown} is damaged, or from another release: {error}"))?;
    if evidence.tracer.totals.iter().any(|total| total.packets > MOST) {
        bail!("{shown} is no recording of a host: none drops so many packets");
    }
    Ok(evidence)
}

fn damaged(path: &Path, error: &io::Error) -> anyhow::Error {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            anyhow!("{shown} is truncated: it ends in the middle; copy or record it again")
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            anyhow!("{shown} is corrupt ({error}); copy or record it again")
        }
        _ => anyhow!("cannot read evidence file {shown}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::Value;
    use whydrop_diagnose::{Thresholds, diagnose};
    use whydrop_show::format;

    use super::*;

    /// Two namespaces of 6.18 that lose packets in four ways, as `record --redact` of the first
    /// release wrote them. Any later release of this schema must read it.
    const OLDEST: &[u8] = include_bytes!("../tests/fixtures/evidence-1.whydrop");

    fn oldest() -> Value {
        serde_json::from_reader(GzDecoder::new(OLDEST)).unwrap()
    }

    fn parsed(bytes: &[u8]) -> anyhow::Result<Evidence> {
        parse(bytes, Path::new("file"))
    }

    fn zipped(document: &Value) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        serde_json::to_writer(&mut gzip, document).unwrap();
        gzip.finish().unwrap()
    }

    /// Pointers to the numbers and texts of a document, those that mean the same together.
    fn leaves(value: &Value, at: &str, like: &str, found: &mut BTreeMap<String, Vec<String>>) {
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    leaves(item, &format!("{at}/{index}"), &format!("{like}/*"), found);
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    let pointer = name.replace('~', "~0").replace('/', "~1");
                    leaves(field, &format!("{at}/{pointer}"), &format!("{like}/{name}"), found);
                }
            }
            Value::Number(_) | Value::String(_) => {
                found.entry(like.to_owned()).or_default().push(at.to_owned());
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// Adds a field to every object, as a later release would.
    fn add_fields(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(add_fields),
            Value::Object(fields) => fields.values_mut().for_each(add_fields),
            _ => {}
        }
        // A map of counters would take it for a counter.
        if let Value::Object(fields) = value
            && fields.values().any(|field| !field.is_object() && !field.is_string())
            && !fields.values().all(Value::is_number)
        {
            fields.insert("of_a_later_release".into(), Value::from("something"));
        }
    }

    #[test]
    fn the_first_releases_file_is_read_and_diagnosed() {
        let evidence = parsed(OLDEST).unwrap();
        assert_eq!(evidence.namespaces.len(), 2);
        let report = diagnose(&evidence, &Thresholds::default());
        let causes: Vec<&str> = report.findings.iter().map(|it| it.cause.as_str()).collect();
        for cause in ["accept-queue-full", "udp-receive-buffer-full", "netfilter-rule-drop"] {
            assert!(causes.contains(&cause), "{cause} in {causes:?}");
        }
    }

    #[test]
    fn fields_of_a_later_release_are_left_alone() {
        let mut document = oldest();
        add_fields(&mut document);
        let evidence = parsed(&zipped(&document)).unwrap();
        assert_eq!(evidence, parsed(OLDEST).unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn a_damaged_file_is_an_error_of_one_line(at in 0..OLDEST.len(), bit in 0..8_u8, cut in 0..OLDEST.len()) {
            let mut bytes = OLDEST.to_vec();
            bytes[at] ^= 1 << bit;
            for bytes in [&bytes[..], &OLDEST[..cut]] {
                if let Err(error) = parsed(bytes) {
                    prop_assert_eq!(format!("{error:#}").lines().count(), 1);
                }
            }
            // The checksum is not there to be cut off.
            prop_assert!(parsed(&OLDEST[..cut]).is_err());
        }

        #[test]
        fn any_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parsed(&bytes).is_err());
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(&bytes).unwrap();
            prop_assert!(parsed(&gzip.finish().unwrap()).is_err());
        }

        /// Whatever its numbers and names say, as long as each fits its field.
        #[test]
        fn a_hostile_file_is_diagnosed_and_shown(
            places in proptest::collection::vec(any::<[prop::sample::Index; 2]>(), 40),
            number in prop_oneof![Just(0_u64), Just(MOST), Just(u64::from(u32::MAX)), 0..MOST],
            text in prop_oneof![Just(String::new()), Just("\u{1b}[2J\r\n".to_owned()), any::<String>()],
        ) {
            let mut document = oldest();
            let mut found = BTreeMap::new();
            leaves(&document, "", "", &mut found);
            let found: Vec<Vec<String>> = found.into_values().collect();
            for [like, which] in places {
                let pointer: &String = which.get(like.get::<Vec<String>>(&found));
                let leaf = document.pointer_mut(pointer).unwrap();
                let new = if leaf.is_number() { number.into() } else { text.as_str().into() };
                let old = std::mem::replace(leaf, new);
                if serde_json::from_value::<Evidence>(document.clone()).is_err() {
                    *document.pointer_mut(pointer).unwrap() = old;
                }
            }
            document["schema"] = EVIDENCE_SCHEMA.into();
            let evidence = parsed(&zipped(&document)).unwrap();
            let report = diagnose(&evidence, &Thresholds::default());
            let mut shown = Vec::new();
            format::FORMATS[0].write(&report, 80, &mut shown).unwrap();
            let shown = String::from_utf8(shown).unwrap();
            prop_assert!(!shown.contains('\r') && !shown.contains("\u{1b}[2J"), "{}", shown);
        }
    }
}
