//! Where drops go: lines of text, lines of JSON, or a capture file; noise into a count, stacks into
//! folds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, bail};
use whydrop_model::{Class, Sighting};
use whydrop_show::drops;
use whydrop_show::pcapng::{self, Packet};
use whydrop_show::stacks::{self, Stacks};

use super::conditions::Conditions;
use super::names::label;
use super::tell;
use crate::cli::{Lines, Watch};
use crate::output;

/// Who wrote a capture file.
const PROGRAM: &str = concat!("whydrop ", env!("CARGO_PKG_VERSION"));

enum Sink {
    Text(Box<dyn Write>),
    Ndjson(Box<dyn Write>),
    Capture(Box<pcapng::Writer<Box<dyn Write>>>),
}

/// What becomes of drops.
pub(super) struct Screen {
    pub(super) conditions: Conditions,
    sink: Sink,
    /// Noise is shown as well.
    noise: bool,
    /// Noise that was not shown, by cause.
    folded: BTreeMap<String, u64>,
    stacks: Option<Stacks>,
    /// Whether stacks are written with the lines.
    show_stacks: bool,
    zone: jiff::tz::TimeZone,
}

impl Screen {
    pub(super) fn new(options: &Watch, conditions: Conditions) -> anyhow::Result<Self> {
        let sink = match (&options.write, options.format) {
            (Some(path), _) => Sink::Capture(Box::new(capture(path, options.snaplen)?)),
            (None, Lines::Text) => Sink::Text(Box::new(output::stdout())),
            (None, Lines::Ndjson) => Sink::Ndjson(Box::new(output::stdout())),
        };
        let stacks = options.stack || options.flame.is_some();
        Ok(Self {
            noise: options.benign || options.quick || options.count || conditions.names_noise(),
            conditions,
            sink,
            folded: BTreeMap::new(),
            stacks: stacks.then(Stacks::default),
            show_stacks: options.stack,
            zone: jiff::tz::TimeZone::system(),
        })
    }

    /// Everything, stacks as well, into memory.
    #[cfg(any(test, fuzzing))]
    pub(super) fn into_memory(
        format: Option<Lines>,
        out: Box<dyn Write>,
        conditions: Conditions,
    ) -> anyhow::Result<Self> {
        let sink = match format {
            Some(Lines::Text) => Sink::Text(out),
            Some(Lines::Ndjson) => Sink::Ndjson(out),
            None => Sink::Capture(Box::new(pcapng::Writer::new(out, PROGRAM, 256)?)),
        };
        Ok(Self {
            conditions,
            sink,
            noise: true,
            folded: BTreeMap::new(),
            stacks: Some(Stacks::default()),
            show_stacks: true,
            zone: jiff::tz::TimeZone::UTC,
        })
    }

    /// Whether noise is counted instead of shown.
    pub(super) fn folds_noise(&self) -> bool {
        !self.noise
    }

    /// Whether this drop is to be shown; counts it if it is noise that is not.
    pub(super) fn wants(&mut self, sighting: &Sighting) -> bool {
        if !self.conditions.admit(sighting) {
            return false;
        }
        match &sighting.verdict {
            Some(verdict) if verdict.class == Class::Benign && !self.noise => {
                *self.folded.entry(verdict.cause.clone()).or_default() += 1;
                false
            }
            _ => true,
        }
    }

    /// Whether the stacks of drops are shown, or drawn.
    pub(super) fn wants_stacks(&self) -> bool {
        self.stacks.is_some()
    }

    /// Shows a drop that is wanted. `packet` is `None` where its bytes are not known.
    pub(super) fn show(
        &mut self,
        sighting: &Sighting,
        time: jiff::Timestamp,
        packet: Option<Packet<'_>>,
    ) -> anyhow::Result<()> {
        let netns = label(sighting.netns_name.as_deref(), sighting.drop.netns);
        let stack = self.stacks.as_mut().and_then(|stacks| stacks.add(sighting));
        match &mut self.sink {
            Sink::Text(out) => {
                let local = time.to_zoned(self.zone.clone()).strftime("%H:%M:%S%.6f").to_string();
                drops::write_drop(sighting, &local, &netns, out)?;
                if let Some((number, new)) = stack.filter(|_| self.show_stacks) {
                    stacks::write_stack(sighting, number, new, out)?;
                }
            }
            Sink::Ndjson(out) => {
                serde_json::to_writer(&mut *out, sighting)?;
                writeln!(out)?;
            }
            Sink::Capture(writer) => {
                if let Some(packet) = packet {
                    let at_ns = u64::try_from(time.as_nanosecond()).unwrap_or(0);
                    writer.write(sighting, packet, at_ns, &netns)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Text(out) | Sink::Ndjson(out) => out.flush(),
            Sink::Capture(writer) => writer.flush(),
        }
    }

    /// The stream of lines; `None` for a capture file.
    pub(super) fn lines(&mut self) -> Option<(&mut dyn Write, Lines)> {
        match &mut self.sink {
            Sink::Text(out) => Some((out, Lines::Text)),
            Sink::Ndjson(out) => Some((out, Lines::Ndjson)),
            Sink::Capture(_) => None,
        }
    }

    /// Noise that was seen and not shown, by cause.
    pub(super) fn folded(&self) -> &BTreeMap<String, u64> {
        &self.folded
    }

    /// Writes what there is to say of all drops together: how often each stack was seen, and the
    /// flame graph.
    pub(super) fn finish(&mut self, flame: Option<&Path>) -> anyhow::Result<()> {
        let Some(stacks) = self.stacks.take().filter(|stacks| !stacks.is_empty()) else {
            if flame.is_some() {
                tell("no drop was shown, so there is no flame graph");
            }
            return Ok(self.flush()?);
        };
        if let Sink::Text(out) = &mut self.sink
            && self.show_stacks
        {
            writeln!(out)?;
            stacks.write(out)?;
        }
        if let Some(path) = flame {
            write_flame(path, &stacks)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(self.flush()?)
    }
}

/// A capture file, or standard output for `-`.
fn capture(path: &Path, snaplen: u32) -> anyhow::Result<pcapng::Writer<Box<dyn Write>>> {
    let out: Box<dyn Write> = if path.as_os_str() == "-" {
        if rustix::termios::isatty(io::stdout()) {
            bail!(
                "a capture file is not for a terminal: redirect or pipe it, as in `-w - | wireshark -k -i -`"
            );
        }
        Box::new(BufWriter::new(io::stdout()))
    } else {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Box::new(BufWriter::new(file))
    };
    Ok(pcapng::Writer::new(out, PROGRAM, snaplen)?)
}

fn write_flame(path: &Path, stacks: &Stacks) -> anyhow::Result<()> {
    let mut options = inferno::flamegraph::Options::default();
    options.title = "Drops by kernel stack".into();
    options.count_name = "drops shown".into();
    let lines = stacks.folded();
    let mut image = Vec::new();
    inferno::flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut image)?;
    Ok(std::fs::write(path, image)?)
}
