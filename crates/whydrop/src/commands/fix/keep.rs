//! What keeps a change beyond a reboot: written where the distribution has a place for it, else told.

use std::path::Path;

use whydrop_cure::{Changes, Conflict, Record, RecordedWrite, persistent};
use whydrop_model::{EvidenceItem, EvidenceValue, Target};

use super::{Chosen, tell};
use crate::cli::Fix;

/// What became of `--persist`.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Files that were written.
    pub(super) files: Vec<String>,
    /// What the operator has to know or to place.
    pub(super) notes: Vec<String>,
}

/// Writes the files, and tells what is left to the operator.
pub(super) fn keep(
    options: &Fix,
    chosen: &Chosen<'_>,
    changes: &Changes,
    record: &mut Record,
    helped: bool,
) -> anyhow::Result<Kept> {
    let mut kept = Kept::default();
    if !helped {
        kept.notes.push("Not made permanent: it is not proven to help".into());
        return Ok(kept);
    }
    kept.notes.extend(chosen.proposal.permanent.iter().cloned());
    let (first, elsewhere): (Vec<_>, Vec<_>) =
        record.writes.iter().cloned().partition(|write| is_first(options, write));
    kept.notes.extend(elsewhere.iter().filter_map(in_other_namespaces));
    let found = persistent(&options.root, &first, &reasons(chosen))?;
    kept.notes.extend(found.conflicts.iter().map(told));
    kept.notes.extend(found.notes);
    if found.conflicts.iter().any(|conflict| conflict.wins) {
        kept.notes.push("Not made permanent: a line that is read later would win over it".into());
        return Ok(kept);
    }
    let files = found.files.iter().map(|file| file.path.display().to_string()).collect();
    changes.persist(record, found.files, &mut |step| tell::step(step))?;
    kept.files = files;
    Ok(kept)
}

/// The evidence, as comments.
fn reasons(chosen: &Chosen<'_>) -> Vec<String> {
    let measured = |item: &EvidenceItem| match &item.value {
        EvidenceValue::Number(number) => format!("{}: {number}", item.name),
        EvidenceValue::Text(text) => format!("{}: {text}", item.name),
    };
    let mut lines = vec![format!("{}: {}", chosen.cure.cause, chosen.proposal.summary)];
    lines.extend(chosen.proposal.measured.iter().map(measured));
    lines.extend(chosen.proposal.sizing.clone());
    lines
}

/// True for a setting of the namespace whose sysctls are set at boot: that of the first process. A
/// test names another root and means its own namespace.
fn is_first(options: &Fix, write: &RecordedWrite) -> bool {
    let process = if options.root == Path::new("/") { "1" } else { "self" };
    let link = std::fs::read_link(format!("/proc/{process}/ns/net"));
    let wanted = write.netns.inode.map(|inode| format!("net:[{inode}]"));
    link.is_ok_and(|link| wanted.is_some_and(|wanted| link.as_os_str() == wanted.as_str()))
}

/// `/etc/sysctl.d` is for the first namespace only; whoever makes another one has to set it there.
fn in_other_namespaces(write: &RecordedWrite) -> Option<String> {
    let Target::Sysctl { name } = &write.target else { return None };
    let value = write.became.as_ref().unwrap_or(&write.new);
    let netns = write.netns.name.as_deref().unwrap_or("this namespace");
    Some(format!(
        "{name}={value} is a setting of {netns}, which sysctl.d does not reach: let what makes the \
         namespace set it (docker run --sysctl {name}={value}; securityContext.sysctls of a pod; \
         ExecStartPost= of the unit)"
    ))
}

fn told(conflict: &Conflict) -> String {
    let Conflict { path, line, text, wins } = conflict;
    let what = if *wins { "is read later and would win: edit it" } else { "is overridden" };
    format!("{}:{line} `{text}` {what}", path.display())
}
