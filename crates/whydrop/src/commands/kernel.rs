//! `whydrop kernel`: what this kernel offers for tracing, what is missing and what that costs.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;
use whydrop_probe::{KernelFacts, Missing, Options};
use whydrop_show::Safe;
use whydrop_show::style::{FAINT, GOOD, NOTICE, STRONG};

use crate::cli::{Kernel, Plain};
use crate::privilege::{NEEDS, Need, Until};
use crate::{failure, output};

/// Runs the command.
pub(crate) fn run(options: &Kernel) -> anyhow::Result<ExitCode> {
    let facts =
        KernelFacts::read(&Options { btf: options.kernel_btf.clone(), ..Options::default() });
    let mut missing = facts.missing();
    // What attaching needs is not missed where it works.
    let traced = facts.attach.iter().any(|(_, tried)| tried.is_ok());
    let missed = |need: &&Need| !(need.is_held() || traced && need.until == Until::Attached);
    missing.extend(NEEDS.iter().filter(missed).map(lacking));
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

/// A capability that this user does not have.
fn lacking(need: &Need) -> Missing {
    let what = format!("{}, for {}", need.name, need.serves);
    Missing { what, costs: need.costs.to_owned() }
}

fn until(need: &Need) -> &'static str {
    match need.until {
        Until::Attached => "attached",
        Until::End => "the end",
    }
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
    let capabilities: Vec<_> = NEEDS
        .iter()
        .map(|need| {
            json!({
                "name": need.name,
                "held": need.is_held(),
                "until": until(need),
                "serves": need.serves,
            })
        })
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
        "debug_info": facts.debug_info.as_ref().ok(),
        "jit": facts.jit,
        "capabilities": capabilities,
        "missing": missing,
    })
}

fn write_text(facts: &KernelFacts, missing: &[Missing], out: &mut dyn Write) -> io::Result<()> {
    let names = |count: usize| format!("{count} names");
    writeln!(out, "{STRONG}Linux {}{STRONG:#}", Safe(&facts.release))?;
    line(out, "BTF", &told(&facts.btf, |path| path.display().to_string()))?;
    let arguments = match facts.arguments.as_slice() {
        [] => Err("BTF does not tell"),
        known => Ok(format!("({})", known.join(", "))),
    };
    line(out, "skb:kfree_skb", &told(&arguments, Clone::clone))?;
    for (kind, tried) in &facts.attach {
        line(out, &format!("attach {kind}"), &told(tried, |()| "works".into()))?;
    }
    let reasons = facts.reasons.ok_or("not known");
    line(out, "drop reasons", &told(&reasons, |count| names(*count)))?;
    for subsystem in &facts.subsystems {
        let known = match subsystem.reasons {
            0 => Err("no BTF loaded (module not in use?)"),
            count => Ok(count),
        };
        line(
            out,
            &format!("  of {}", Safe(&subsystem.name)),
            &told(&known, |count| names(*count)),
        )?;
    }
    line(out, "symbols", &told(&facts.symbols, |count| format!("{count} functions")))?;
    line(out, "debug information", &told(&facts.debug_info, |path| path.display().to_string()))?;
    line(out, "tracefs", &told(&facts.tracefs, |path| path.display().to_string()))?;
    if let Some(jit) = facts.jit {
        let state = if jit { Ok("on") } else { Err("off") };
        line(out, "BPF JIT", &told(&state, ToString::to_string))?;
    }
    writeln!(
        out,
        "\n{STRONG}Capabilities that observing needs, all others are given up{STRONG:#}"
    )?;
    for need in &NEEDS {
        let told = match (need.is_held(), need.until) {
            (true, Until::Attached) => Ok(format!("given up once attached: {}", need.serves)),
            (true, Until::End) => Ok(format!("kept: {}", need.serves)),
            (false, _) => Err("not held".to_owned()),
        };
        line(out, need.name, &told)?;
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

/// What there is, or why there is not, as text.
fn told<T, W: ToString>(
    fact: &Result<T, W>,
    tell: impl Fn(&T) -> String,
) -> Result<String, String> {
    fact.as_ref().map(tell).map_err(ToString::to_string)
}

fn line(out: &mut dyn Write, name: &str, fact: &Result<String, String>) -> io::Result<()> {
    let (style, text) = match fact {
        Ok(text) => (GOOD, text),
        Err(why) => (NOTICE, why),
    };
    writeln!(out, "  {name:<24} {style}{}{style:#}", Safe(text))
}
