//! What would help against each fault, for a person: the change with every number it follows from, or
//! whose turn it is.

use std::io::{self, Write};

use whydrop_model::{Answer, Cure, Handover, Proposal, Shortage};

use crate::format::text::{count, labelled, place, proof};
use crate::safe::Safe;
use crate::style::{FAULT, GOOD, STRONG};

/// Writes one cure after the other, for a terminal `width` columns wide.
///
/// # Errors
///
/// Those of `out`.
pub fn write(cures: &[Cure], width: usize, out: &mut dyn Write) -> io::Result<()> {
    let changes = cures.iter().filter(|cure| matches!(cure.answer, Answer::Change(_))).count();
    if cures.is_empty() {
        return writeln!(out, "{GOOD}whydrop: no fault, nothing to change{GOOD:#}");
    }
    writeln!(
        out,
        "{FAULT}whydrop: {}, {changes} with a change to propose{FAULT:#}",
        count(cures.len() as u64, "fault")
    )?;
    for cure in cures {
        writeln!(out)?;
        self::cure(cure, width, out)?;
    }
    Ok(())
}

fn cure(cure: &Cure, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let variant = cure.variant.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let title = format!("{}{variant}", cure.cause.replace('-', " "));
    let lost = count(cure.packets, "packet");
    writeln!(out, "{FAULT}FAULT{FAULT:#}  {STRONG}{}{STRONG:#}: {lost}", Safe(&title))?;
    labelled("where", [place(&cure.site)], width, out)?;
    match &cure.answer {
        Answer::Change(change) => proposal(change, width, out),
        Answer::Capacity(short) => shortage(short, width, out),
        Answer::Operator(handover) => self::handover(handover, width, out),
    }
}

fn safe(lines: &[String]) -> impl Iterator<Item = String> + '_ {
    lines.iter().map(|line| Safe(line).to_string())
}

fn proposal(change: &Proposal, width: usize, out: &mut dyn Write) -> io::Result<()> {
    labelled("change", [Safe(&change.summary).to_string()], width, out)?;
    let writes = change.writes.iter().map(|write| {
        let target = write.target.to_string();
        let old = write.old.as_deref().unwrap_or("not known");
        format!("{}: {} -> {}", Safe(&target), Safe(old), Safe(&write.new))
    });
    labelled("write", writes, width, out)?;
    labelled("measured", change.measured.iter().map(proof), width, out)?;
    labelled("size", change.sizing.iter().map(|line| Safe(line).to_string()), width, out)?;
    labelled("risk", [Safe(&change.risk).to_string()], width, out)?;
    let weakens =
        change.weakens.iter().map(|what| format!("{}; needs --allow-weaker-security", Safe(what)));
    labelled("security", weakens, width, out)?;
    let interrupts =
        change.interrupts.iter().map(|what| format!("{}; needs --allow-link-reset", Safe(what)));
    labelled("stops", interrupts, width, out)?;
    let live = change.is_live().then(|| {
        "it sets the socket of a running program; needs --live, or do it in the program's own \
         configuration"
            .to_owned()
    });
    labelled("live", live, width, out)?;
    labelled("undo", ["`whydrop undo` restores what was there before".to_owned()], width, out)?;
    labelled("keep", safe(&change.permanent), width, out)?;
    labelled("left out", safe(&change.left_out), width, out)
}

fn shortage(short: &Shortage, width: usize, out: &mut dyn Write) -> io::Result<()> {
    labelled("short of", [Safe(&short.resource).to_string()], width, out)?;
    labelled("why", [Safe(&short.why).to_string()], width, out)?;
    labelled("cure", [Safe(&short.advice).to_string()], width, out)?;
    labelled("in vain", safe(&short.left_out), width, out)
}

fn handover(handover: &Handover, width: usize, out: &mut dyn Write) -> io::Result<()> {
    labelled("yours", [Safe(&handover.advice).to_string()], width, out)?;
    for command in &handover.commands {
        // Never wrapped: it is there to be copied.
        writeln!(out, "              {STRONG}{}{STRONG:#}", Safe(command))?;
    }
    labelled("in vain", safe(&handover.left_out), width, out)
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Answer, Cure, NetnsRef, Proposal, Shortage, Target, Write};

    use crate::fixture;

    fn text(answer: Answer) -> String {
        let finding = fixture::report().findings.remove(0);
        let cure = Cure {
            cause: finding.cause,
            variant: finding.variant,
            packets: finding.packets,
            site: finding.site,
            answer,
        };
        let mut bytes = Vec::new();
        super::write(&[cure], 80, &mut bytes).expect("written");
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn a_change_shows_what_is_written_and_what_it_needs() {
        let text = text(Answer::Change(Box::new(Proposal {
            summary: "Change it".into(),
            writes: vec![Write {
                netns: NetnsRef { inode: Some(1), name: None },
                target: Target::Sysctl { name: "net.core.somaxconn".into() },
                old: Some("8".into()),
                new: "64".into(),
            }],
            measured: Vec::new(),
            sizing: None,
            risk: "None\u{1b}[2J".into(),
            weakens: Some("the host".into()),
            interrupts: None,
            permanent: Vec::new(),
            left_out: Vec::new(),
        })));
        assert!(text.contains("net.core.somaxconn: 8 -> 64"), "{text}");
        assert!(text.contains("--allow-weaker-security") && !text.contains("--live"), "{text}");
        assert!(text.contains(r"None\u{1b}[2J"), "{text}");
    }

    #[test]
    fn a_shortage_proposes_nothing() {
        let text = text(Answer::Capacity(Shortage {
            resource: "CPU quota of /web".into(),
            why: "it was throttled".into(),
            advice: "Raise it".into(),
            left_out: Vec::new(),
        }));
        assert!(text.contains("0 with a change") && text.contains("CPU quota of /web"), "{text}");
    }
}
