//! Evidence on disk: gzip'd JSON, one document.
//!
//! gzip carries a checksum, so a truncated or damaged file is recognised as such, and any host has
//! `zcat` to look inside.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use whydrop_model::{EVIDENCE_SCHEMA, Evidence};

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

/// Reads evidence that [`write`] stored.
pub(crate) fn read(path: &Path) -> anyhow::Result<Evidence> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read evidence file {shown}"))?;
    let mut compressed = BufReader::new(file);
    let start =
        compressed.fill_buf().with_context(|| format!("cannot read evidence file {shown}"))?;
    if !GZIP_MAGIC.starts_with(&start[..start.len().min(GZIP_MAGIC.len())]) {
        bail!("{shown} is not an evidence file of whydrop (no gzip header)");
    }
    let mut text = String::new();
    GzDecoder::new(compressed)
        .take(LARGEST)
        .read_to_string(&mut text)
        .map_err(|error| damaged(path, &error))?;
    if text.len() as u64 >= LARGEST {
        bail!("{shown} holds more than 1 GiB: not an evidence file of whydrop");
    }
    let document: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| anyhow!("{shown} is not an evidence file of whydrop: {error}"))?;
    match document.get("schema").and_then(serde_json::Value::as_str) {
        Some(EVIDENCE_SCHEMA) => {}
        Some(schema) => bail!(
            "{shown} has schema {schema:?}; this whydrop reads {EVIDENCE_SCHEMA}: use the release that \
             wrote it"
        ),
        None => bail!("{shown} is not an evidence file of whydrop: it has no schema"),
    }
    serde_json::from_value(document)
        .map_err(|error| anyhow!("{shown} is damaged, or from another release: {error}"))
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
