//! Kernel stacks of drops, equal ones folded: those that go through the same functions to the same
//! call site. Where in a function on the way the next one was called makes no other stack.

use std::collections::BTreeMap;
use std::io::{self, Write};

use whydrop_model::{CallSite, Sighting};

use crate::safe::Safe;
use crate::style::{FAINT, STRONG};

/// Stacks seen, with how many drops had each.
#[derive(Debug, Default)]
pub struct Stacks {
    /// By reason, call site and functions, innermost first.
    seen: BTreeMap<(String, CallSite, Vec<String>), Folded>,
}

#[derive(Debug)]
struct Folded {
    number: usize,
    drops: u64,
}

impl Stacks {
    /// Adds the stack of a drop. Returns its number, and whether it is a new one; `None` if the drop
    /// has no stack.
    pub fn add(&mut self, sighting: &Sighting) -> Option<(usize, bool)> {
        let stack = &sighting.drop.stack;
        let site = stack.first()?.clone();
        let number = self.seen.len() + 1;
        let key = (sighting.drop.reason.clone(), site, stack.iter().map(frame).collect());
        let folded = self.seen.entry(key).or_insert(Folded { number, drops: 0 });
        folded.drops += 1;
        Some((folded.number, folded.drops == 1))
    }

    /// True if nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Writes how many drops had each stack, the most first.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut sorted: Vec<_> = self.seen.iter().collect();
        sorted.sort_by(|a, b| b.1.drops.cmp(&a.1.drops).then(a.1.number.cmp(&b.1.number)));
        writeln!(out, "{STRONG}{:>10}  {:>5}  REASON CALL-SITE{STRONG:#}", "SHOWN", "STACK")?;
        for ((reason, site, _), Folded { number, drops }) in sorted {
            let site = site.to_string();
            writeln!(out, "{drops:>10}  {number:>5}  {} {}", Safe(reason), Safe(&site))?;
        }
        Ok(())
    }

    /// The stacks as lines for a flame graph: frames outermost first with semicolons between, the
    /// reason last, then how many drops.
    #[must_use]
    pub fn folded(&self) -> Vec<String> {
        let line = |((reason, _, frames), folded): (&(String, CallSite, Vec<String>), &Folded)| {
            let names = frames.iter().rev().chain([reason]);
            let names: Vec<String> = names.map(|name| name.replace(';', ":")).collect();
            format!("{} {}", names.join(";"), folded.drops)
        };
        self.seen.iter().map(line).collect()
    }
}

/// A function without its offset, so that calls from different places of it are one frame.
fn frame(site: &CallSite) -> String {
    match (site.symbol.as_str(), &site.module) {
        ("", _) => format!("{:#x}", site.offset),
        (symbol, Some(module)) => format!("{symbol} [{module}]"),
        (symbol, None) => symbol.to_owned(),
    }
}

/// Writes a stack, innermost frame first, indented below the line of its drop. A stack seen before is
/// told by its number alone.
pub fn write_stack(
    sighting: &Sighting,
    number: usize,
    new: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    if !new {
        return writeln!(out, "    {FAINT}stack {number}, as above{FAINT:#}");
    }
    writeln!(out, "    {FAINT}stack {number}:{FAINT:#}")?;
    for frame in &sighting.drop.stack {
        writeln!(out, "    {FAINT}{}{FAINT:#}", Safe(&frame.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drops::tests::sighting;

    fn with(frames: &[(&str, u64)]) -> Sighting {
        let mut sighting = sighting();
        let site = |&(symbol, offset): &(&str, u64)| CallSite {
            symbol: symbol.into(),
            offset,
            module: (symbol == "nft_do_chain").then(|| "nf_tables".into()),
        };
        sighting.drop.stack = frames.iter().map(site).collect();
        sighting
    }

    #[test]
    fn equal_stacks_are_one() {
        let mut stacks = Stacks::default();
        let (one, other) =
            (with(&[("nft_do_chain", 5), ("ip_rcv", 9)]), with(&[("tcp_v4_rcv", 1)]));
        assert_eq!(stacks.add(&one), Some((1, true)));
        assert_eq!(stacks.add(&other), Some((2, true)));
        let elsewhere_on_the_way = with(&[("nft_do_chain", 5), ("ip_rcv", 10)]);
        assert_eq!(stacks.add(&elsewhere_on_the_way), Some((1, false)));
        assert_eq!(stacks.add(&with(&[])), None);
        assert_eq!(
            stacks.folded(),
            ["ip_rcv;nft_do_chain [nf_tables];NO_SOCKET 2", "tcp_v4_rcv;NO_SOCKET 1"]
        );
        let mut text = Vec::new();
        stacks.write(&mut text).expect("written");
        let text = String::from_utf8(text).expect("UTF-8");
        assert!(
            text.lines().nth(1).is_some_and(|line| line.contains("nft_do_chain+0x5")),
            "{text}"
        );
    }
}
