//! The report for a person: the answer first, then each layer, then each finding with its proof and
//! its cure, then the ledger.

use std::io::{self, Write};

use whydrop_model::{
    Attach, Class, Confidence, EvidenceItem, EvidenceKind, EvidenceValue, Finding, LayerState,
    LayerVerdict, Ledger, LedgerEntry, Report, Site, Verdict,
};

use super::Format;
use crate::safe::Safe;
use crate::style::{FAINT, FAULT, GOOD, NOTICE, STRONG};

/// See the module.
#[derive(Debug)]
pub(super) struct Text;

/// Width of the labels at the left of a finding.
const LABEL: usize = 10;
/// Noise accounts shown by name; more are summed up.
const NOISE_SHOWN: usize = 6;

impl Format for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn help(&self) -> &'static str {
        "for people (the default)"
    }

    fn write(&self, report: &Report, width: usize, out: &mut dyn Write) -> io::Result<()> {
        headline(report, width, out)?;
        layers(&report.layers, width, out)?;
        for finding in &report.findings {
            writeln!(out)?;
            self::finding(finding, report, width, out)?;
        }
        ledger(&report.ledger, width, out)?;
        not_checked(report, width, out)
    }
}

/// The answer in one line, and what it rests on in another.
fn headline(report: &Report, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let ledger = &report.ledger;
    let lost: u64 = report
        .findings
        .iter()
        .filter(|finding| matches!(finding.class, Class::Fault | Class::Policy | Class::Peer))
        .map(|finding| finding.packets)
        .sum();
    let (style, answer) = match report.verdict {
        Verdict::Loss => (FAULT, format!("{} lost, cause found", count(lost, "packet"))),
        Verdict::Clean if ledger.unexplained > 0 => (
            NOTICE,
            format!(
                "no known cause of loss, but {} without explanation",
                count(ledger.unexplained, "drop")
            ),
        ),
        Verdict::Clean => (GOOD, "no packet loss on this host".into()),
        Verdict::Incomplete => {
            (NOTICE, "no loss found, but not everything could be checked".into())
        }
    };
    writeln!(out, "{style}whydrop: {answer}{style:#}")?;
    let host = &report.host;
    let tracer = &report.tracer;
    let traced = match tracer.attach {
        Attach::None => "tracer not attached".to_string(),
        attach => format!(
            "tracer {attach}: {} seen, {} in detail, {} missed",
            count(tracer.events, "drop"),
            tracer.sampled,
            tracer.lost
        ),
    };
    let facts = format!(
        "{}, Linux {}, {}; {:.1} s from {}; {traced}",
        Safe(&host.hostname),
        Safe(&host.kernel),
        count(u64::from(host.cpus), "CPU"),
        report.window.seconds,
        Safe(&report.window.start),
    );
    for line in wrapped(&facts, width) {
        writeln!(out, "{FAINT}{line}{FAINT:#}")?;
    }
    Ok(())
}

/// Each layer with a loss or a doubt on a line of its own; those that are well together on one, so
/// that the findings stay on the first screen.
fn layers(layers: &[LayerVerdict], width: usize, out: &mut dyn Write) -> io::Result<()> {
    if layers.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    for layer in layers {
        let (style, word) = match layer.state {
            LayerState::Clean => continue,
            LayerState::Loss => (FAULT, "LOSS"),
            LayerState::Unsure => (NOTICE, "?"),
        };
        let lost = match layer.packets {
            0 => String::new(),
            packets => format!("{}: ", count(packets, "packet")),
        };
        writeln!(
            out,
            "  {style}{word:<5}{style:#} {:<11} {lost}{}",
            layer.layer,
            Safe(&layer.note)
        )?;
    }
    let well: Vec<_> = layers
        .iter()
        .filter(|layer| layer.state == LayerState::Clean)
        .map(|layer| layer.layer)
        .collect();
    let mut word = "ok";
    for line in wrapped(&well.join(", "), width.saturating_sub(8)) {
        writeln!(out, "  {GOOD}{word:<5}{GOOD:#} {line}")?;
        word = "";
    }
    Ok(())
}

fn finding(
    finding: &Finding,
    report: &Report,
    width: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (style, class) = match finding.class {
        Class::Fault => (FAULT, "FAULT"),
        Class::Policy => (NOTICE, "POLICY"),
        Class::Peer => (NOTICE, "PEER"),
        Class::Info => (STRONG, "INFO"),
        Class::Benign => (GOOD, "NOISE"),
    };
    let variant = finding.variant.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let title = finding.cause.replace('-', " ");
    let sure = match finding.confidence {
        Confidence::Confirmed => "confirmed",
        Confidence::Likely => "likely",
        Confidence::Possible => "possible",
    };
    let lost = if finding.packets > 0 {
        format!("{} in {:.1} s, ", count(finding.packets, "packet"), report.window.seconds)
    } else {
        String::new()
    };
    writeln!(
        out,
        "{style}{class}{style:#}  {STRONG}{}{}{STRONG:#}: {lost}{sure}",
        Safe(&title),
        Safe(&variant)
    )?;
    labelled("what", [Safe(&finding.summary).to_string()], width, out)?;
    labelled("where", [place(&finding.site)], width, out)?;
    // What an unexplained drop names as its object is where it was seen, not a thing to change.
    if let Some(object) = finding.site.object.as_ref().filter(|_| finding.class != Class::Info) {
        labelled("change", [Safe(object).to_string()], width, out)?;
    }
    labelled("proof", finding.evidence.iter().map(proof), width, out)?;
    for remedy in &finding.remedies {
        labelled("cure", [Safe(&remedy.summary).to_string()], width, out)?;
        for command in &remedy.commands {
            // Never wrapped: it is there to be copied.
            writeln!(out, "  {:LABEL$}  {STRONG}{}{STRONG:#}", "", Safe(command))?;
        }
        labelled("in vain", remedy.useless.iter().map(|item| Safe(item).to_string()), width, out)?;
    }
    Ok(())
}

/// Writes items under one label, each wrapped.
pub(crate) fn labelled(
    label: &str,
    items: impl IntoIterator<Item = String>,
    width: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut label = label;
    for item in items {
        for line in wrapped(&item, width.saturating_sub(LABEL + 2)) {
            writeln!(out, "  {FAINT}{label:LABEL$}{FAINT:#}{line}")?;
            label = "";
        }
    }
    Ok(())
}

pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    // Names of devices, namespaces and settings stay whole: no breaks at hyphens.
    let options = textwrap::Options::new(width.max(30))
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .break_words(false);
    textwrap::wrap(text, options).into_iter().map(std::borrow::Cow::into_owned).collect()
}

pub(crate) fn place(site: &Site) -> String {
    let mut parts = Vec::new();
    match &site.netns {
        Some(netns) => parts.push(match (&netns.name, netns.inode) {
            (Some(name), _) => format!("namespace {}", Safe(name)),
            (None, Some(inode)) => format!("namespace net:[{inode}]"),
            (None, None) => "an unknown namespace".into(),
        }),
        None => parts.push("host-wide".into()),
    }
    if let Some(device) = &site.device {
        parts.push(format!("device {}", Safe(device)));
    }
    if let Some(socket) = &site.socket {
        parts.push(Safe(socket).to_string());
    }
    if let Some(process) = &site.process {
        parts.push(format!("{} (pid {})", Safe(&process.comm), process.pid));
    }
    parts.join(", ")
}

pub(crate) fn proof(item: &EvidenceItem) -> String {
    let name = Safe(&item.name);
    match (&item.value, item.kind) {
        (EvidenceValue::Number(number), EvidenceKind::Counter) => format!("{name} {number:+}"),
        (EvidenceValue::Number(number), EvidenceKind::Tracer) => {
            format!("{name}: {number} traced")
        }
        (EvidenceValue::Number(number), _) => format!("{name}: {number}"),
        (EvidenceValue::Text(text), _) => format!("{name}: {}", Safe(text)),
    }
}

fn ledger(ledger: &Ledger, width: usize, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out)?;
    writeln!(
        out,
        "{STRONG}Ledger{STRONG:#}  lost {} = explained {} + unexplained {}; noise {}",
        ledger.lost, ledger.explained, ledger.unexplained, ledger.benign
    )?;
    let mut noise = 0;
    for entry in &ledger.entries {
        if entry.noise {
            noise += 1;
            if noise > NOISE_SHOWN {
                continue;
            }
        }
        account(entry, width, out)?;
    }
    if noise > NOISE_SHOWN {
        writeln!(out, "  {FAINT}and {} more accounts of noise{FAINT:#}", noise - NOISE_SHOWN)?;
    }
    Ok(())
}

fn account(entry: &LedgerEntry, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let title = entry.cause.replace('-', " ");
    let noise = if entry.noise { " (noise)" } else { "" };
    let text = format!(
        "{}{noise}; {}; traced {}, counted {}",
        Safe(&title),
        place(&entry.site),
        entry.traced,
        entry.counted
    );
    let mut number = entry.packets.to_string();
    for line in wrapped(&text, width.saturating_sub(12)) {
        writeln!(out, "  {number:>8}  {line}")?;
        number.clear();
    }
    Ok(())
}

fn not_checked(report: &Report, width: usize, out: &mut dyn Write) -> io::Result<()> {
    if report.not_checked.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(out, "{STRONG}Not checked{STRONG:#}")?;
    for item in &report.not_checked {
        let text = format!("{}: {}", Safe(&item.what), Safe(&item.why));
        for (number, line) in wrapped(&text, width.saturating_sub(4)).iter().enumerate() {
            writeln!(out, "  {}{line}", if number == 0 { "" } else { "  " })?;
        }
    }
    Ok(())
}

/// A number with its noun.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn plain(report: &Report, width: usize) -> String {
        let mut bytes = Vec::new();
        Text.write(report, width, &mut bytes).expect("written");
        let styled = String::from_utf8(bytes).expect("UTF-8");
        anstream_free(&styled)
    }

    /// The text without the styles that this module wrote; what is left of escapes came from outside.
    fn anstream_free(styled: &str) -> String {
        let mut plain = styled.to_string();
        for style in [FAINT, FAULT, GOOD, NOTICE, STRONG] {
            plain = plain.replace(&style.render().to_string(), "");
        }
        plain.replace(&STRONG.render_reset().to_string(), "")
    }

    #[test]
    fn the_answer_comes_first_and_the_commands_are_whole() {
        let text = plain(&fixture::report(), 80);
        assert_eq!(text.lines().next(), Some("whydrop: 152 packets lost, cause found"));
        assert!(
            text.contains(
                "FAULT  accept queue full (app-backlog): 152 packets in 10.0 s, confirmed"
            )
        );
        assert!(text.contains("ip netns exec b ss -ltnmp 'sport = :9000'\n"));
        assert!(text.contains("Ledger  lost 152 = explained 152 + unexplained 0; noise 20"));
        assert!(text.contains("half-open connections in namespace c: it vanished"));
    }

    #[test]
    fn names_from_outside_cannot_steer_the_terminal() {
        let text = plain(&fixture::report(), 80);
        assert!(text.contains(r"ser\u{1b}[2Jver"), "{text}");
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn lines_fit_the_terminal() {
        for width in [80, 132] {
            for line in plain(&fixture::report(), width).lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn each_verdict_has_its_own_headline() {
        let mut report = fixture::report();
        report.findings.clear();
        report.verdict = Verdict::Clean;
        assert!(plain(&report, 80).starts_with("whydrop: no packet loss on this host\n"));
        report.ledger.unexplained = 1;
        assert!(plain(&report, 80).starts_with("whydrop: no known cause of loss, but 1 drop "));
        report.verdict = Verdict::Incomplete;
        assert!(plain(&report, 80).contains("not everything could be checked"));
    }
}
