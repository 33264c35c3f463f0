//! Kernel stacks of drops, equal ones folded: those that go through the same functions to the same
//! call site. Where in a function on the way the next one was called makes no other stack, and lines
//! and merged functions are those of the first.

use std::collections::BTreeMap;
use std::io::{self, Write};

use whydrop_model::{CallSite, Frame, Sighting, SourceLine};

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
    /// The first of them.
    stack: Vec<Frame>,
}

impl Stacks {
    /// Adds the stack of a drop. Returns its number, and whether it is a new one; `None` if the drop
    /// has no stack.
    pub fn add(&mut self, sighting: &Sighting) -> Option<(usize, bool)> {
        let stack = &sighting.drop.stack;
        let site = stack.first()?.site.clone();
        let number = self.seen.len() + 1;
        let names = stack.iter().map(|frame| function(&frame.site)).collect();
        let key = (sighting.drop.reason.clone(), site, names);
        let first = || Folded { number, drops: 0, stack: stack.clone() };
        let folded = self.seen.entry(key).or_insert_with(first);
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
        for ((reason, site, _), Folded { number, drops, .. }) in sorted {
            let site = site.to_string();
            writeln!(out, "{drops:>10}  {number:>5}  {} {}", Safe(reason), Safe(&site))?;
        }
        Ok(())
    }

    /// The stacks as lines for a flame graph: frames outermost first with semicolons between, the
    /// reason last, then how many drops. Functions merged into others are frames of their own, with
    /// `_[i]` behind them, by which such graphs know them.
    #[must_use]
    pub fn folded(&self) -> Vec<String> {
        let line = |((reason, ..), folded): (&(String, CallSite, Vec<String>), &Folded)| {
            let mut names = Vec::new();
            for frame in folded.stack.iter().rev() {
                names.push(function(&frame.site));
                names.extend(frame.inlined.iter().rev().map(|it| format!("{}_[i]", it.symbol)));
            }
            names.push(reason.clone());
            let names: Vec<String> = names.into_iter().map(|name| name.replace(';', ":")).collect();
            format!("{} {}", names.join(";"), folded.drops)
        };
        self.seen.iter().map(line).collect()
    }
}

/// A function without its offset, so that calls from different places of it are one frame.
fn function(site: &CallSite) -> String {
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
    for line in sighting.drop.stack.iter().flat_map(lines) {
        writeln!(out, "    {FAINT}{}{FAINT:#}", Safe(&line))?;
    }
    Ok(())
}

/// A frame as lines of text: the functions merged into it, innermost first, then the function itself;
/// each with its line of source where that is known.
#[must_use]
pub fn lines(frame: &Frame) -> Vec<String> {
    let told = |name: String, line: &Option<SourceLine>| match line {
        Some(line) => format!("{name} {line}"),
        None => name,
    };
    let inlined = frame.inlined.iter().map(|it| told(format!("{} (inlined)", it.symbol), &it.line));
    inlined.chain([told(frame.site.to_string(), &frame.line)]).collect()
}

#[cfg(test)]
mod tests {
    use whydrop_model::Inlined;

    use super::*;
    use crate::drops::tests::sighting;

    fn with(frames: &[(&str, u64)]) -> Sighting {
        let mut sighting = sighting();
        let site = |&(symbol, offset): &(&str, u64)| CallSite {
            symbol: symbol.into(),
            offset,
            module: (symbol == "nft_do_chain").then(|| "nf_tables".into()),
        };
        sighting.drop.stack = frames.iter().map(|frame| site(frame).into()).collect();
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

    #[test]
    fn merged_functions_are_frames_of_their_own() {
        let line = |file: &str, line| Some(SourceLine { file: file.into(), line });
        let mut sighting = with(&[("nft_do_chain", 5), ("ip_rcv", 9)]);
        let frame = &mut sighting.drop.stack[0];
        frame.line = line("net/netfilter/nf_tables_core.c", 257);
        frame.inlined = vec![
            Inlined { symbol: "kfree_skb".into(), line: line("include/linux/skbuff.h", 1299) },
            Inlined { symbol: "nft_drop".into(), line: None },
        ];
        let mut stacks = Stacks::default();
        assert_eq!(stacks.add(&sighting), Some((1, true)));
        let graph = "ip_rcv;nft_do_chain [nf_tables];nft_drop_[i];kfree_skb_[i];NO_SOCKET 1";
        assert_eq!(stacks.folded(), [graph]);
        let mut text = Vec::new();
        write_stack(&sighting, 1, true, &mut text).expect("written");
        let text = anstream::adapter::strip_bytes(&text).into_vec();
        assert_eq!(
            String::from_utf8(text).expect("UTF-8").lines().map(str::trim).collect::<Vec<_>>(),
            [
                "stack 1:",
                "kfree_skb (inlined) include/linux/skbuff.h:1299",
                "nft_drop (inlined)",
                "nft_do_chain+0x5 [nf_tables] net/netfilter/nf_tables_core.c:257",
                "ip_rcv+0x9",
            ]
        );
    }
}
