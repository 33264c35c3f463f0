//! `whydrop kernel`: what this kernel offers for tracing, what is missing and what that costs.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;
use whydrop_probe::{KernelFacts, Missing, Options};
use whydrop_show::Safe;
use whydrop_show::style::{FAINT, GOOD, NOTICE, STRONG};

use crate::cli::{Kernel, Plain};
use crate::{failure, output};

/// Runs the command.
pub(crate) fn run(options: &Kernel) -> anyhow::Result<ExitCode> {
    let facts =
        KernelFacts::read(&Options { btf: options.kernel_btf.clone(), ..Options::default() });
    let missing = facts.missing();
    let mut out = output::stdout();
    match options.format {
        Plain::Text => write_text(&facts, &missing, &mut out)?,
        Plain::Json => {
            serde_json::to_writer_pretty(&mut out, &document(&facts, &missing))?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(failure::CLEAN)
}

fn document(facts: &KernelFacts, missing: &[Missing]) -> serde_json::Value {
    let attach: Vec<_> = facts
        .attach
        .iter()
        .map(|(kind, tried)| {
            json!({ "kind": kind.name(), "works": tried.is_ok(), "why_not": tried.as_ref().err() })
        })
        .collect();
    let subsystems: Vec<_> = facts
        .subsystems
        .iter()
        .map(|one| json!({ "name": one.name, "reasons": one.reasons }))
        .collect();
    let missing: Vec<_> =
        missing.iter().map(|one| json!({ "what": one.what, "costs": one.costs })).collect();
    json!({
        "schema": "whydrop.kernel/1",
        "kernel": facts.release,
        "btf": facts.btf.as_ref().ok(),
        "arguments": facts.arguments,
        "attach": attach,
        "reasons": facts.reasons,
        "subsystems": subsystems,
        "tracefs": facts.tracefs.as_ref().ok(),
        "symbols": facts.symbols.as_ref().ok(),
        "jit": facts.jit,
        "missing": missing,
    })
}

fn write_text(facts: &KernelFacts, missing: &[Missing], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{STRONG}Linux {}{STRONG:#}", Safe(&facts.release))?;
    line(out, "BTF", facts.btf.as_ref().map(|path| path.display().to_string()))?;
    let arguments = if facts.arguments.is_empty() {
        Err("BTF does not tell".to_string())
    } else {
        Ok(facts.arguments.join(", "))
    };
    line(out, "skb:kfree_skb", arguments.as_ref().map(|names| format!("({names})")))?;
    for (kind, tried) in &facts.attach {
        line(out, &format!("attach {kind}"), tried.as_ref().map(|()| "works".into()))?;
    }
    let reasons =
        facts.reasons.map(|count| format!("{count} names")).ok_or("not known".to_string());
    line(out, "drop reasons", reasons.as_ref().map(Clone::clone))?;
    for subsystem in &facts.subsystems {
        let names = match subsystem.reasons {
            0 => Err("no BTF loaded (module not in use?)".to_string()),
            count => Ok(format!("{count} names")),
        };
        line(out, &format!("  of {}", Safe(&subsystem.name)), names.as_ref().map(Clone::clone))?;
    }
    line(out, "symbols", facts.symbols.as_ref().map(|count| format!("{count} functions")))?;
    line(out, "tracefs", facts.tracefs.as_ref().map(|path| path.display().to_string()))?;
    if let Some(jit) = facts.jit {
        let state = if jit { Ok("on".to_string()) } else { Err("off".to_string()) };
        line(out, "BPF JIT", state.as_ref().map(Clone::clone))?;
    }
    if missing.is_empty() {
        return writeln!(out, "\n{GOOD}Nothing is missing.{GOOD:#}");
    }
    writeln!(out, "\n{STRONG}Missing{STRONG:#}")?;
    for one in missing {
        writeln!(out, "  {}\n    {FAINT}costs:{FAINT:#} {}", Safe(&one.what), Safe(&one.costs))?;
    }
    Ok(())
}

fn line(out: &mut dyn Write, name: &str, state: Result<String, &String>) -> io::Result<()> {
    let (style, text) = match &state {
        Ok(text) => (GOOD, text),
        Err(why) => (NOTICE, *why),
    };
    writeln!(out, "  {name:<24} {style}{}{style:#}", Safe(text))
}
