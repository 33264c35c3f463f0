//! What this kernel offers to the tracer, what is missing, and what that costs.

use std::fs;
use std::path::PathBuf;

use whydrop_model::Attach;

use crate::attach::{KINDS, Loaded, Options, TRACEPOINT, load, tracefs};
use crate::{Btf, Places, Reasons, Symbols, Unusable};

/// The tracepoint's arguments, in order (`include/trace/events/skb.h`, 6.18).
const ARGUMENTS: [&str; 4] = ["skbaddr", "location", "reason", "rx_sk"];

/// Those that not every kernel has: since which mainline release, and what it costs without.
const LATER_ARGUMENTS: [(&str, &str, &str); 2] = [
    ("reason", "5.17", "drops are told apart by call site only"),
    ("rx_sk", "6.11", "the receiving socket is known only where the packet names it"),
];

/// What the running kernel offers.
#[derive(Debug)]
pub struct KernelFacts {
    /// `uname -r`.
    pub release: String,
    /// The kernel's type information, or why it cannot be used.
    pub btf: Result<PathBuf, String>,
    /// Names of the arguments of `skb:kfree_skb`; empty if BTF does not tell.
    pub arguments: Vec<&'static str>,
    /// Every way to attach, really tried: done and undone, or why not.
    pub attach: Vec<(Attach, Result<(), String>)>,
    /// How many drop reasons have a name; `None` if BTF does not tell, 0 on kernels without.
    pub reasons: Option<usize>,
    /// Subsystems with reasons of their own.
    pub subsystems: Vec<SubsystemFacts>,
    /// Where tracefs is, or why it cannot be used. Only the classic tracepoint needs it.
    pub tracefs: Result<PathBuf, String>,
    /// How many functions have a name, or why none has.
    pub symbols: Result<usize, String>,
    /// Where the kernel's debug information is, or why there is none and what would help. Without it
    /// stacks have no lines of source and no merged functions.
    pub debug_info: Result<PathBuf, String>,
    /// Whether programs are compiled (`net.core.bpf_jit_enable`); `None` if unreadable.
    pub jit: Option<bool>,
}

/// A subsystem that may have drop reasons of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubsystemFacts {
    /// Its name.
    pub name: String,
    /// How many of its reasons have a name; 0 if its module is not loaded or has no BTF.
    pub reasons: usize,
}

/// Something that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What, and why.
    pub what: String,
    /// What it costs.
    pub costs: String,
}

impl KernelFacts {
    /// Looks at everything. Attaches the tracer in every way for a moment, counting nothing.
    pub fn read(options: &Options) -> Self {
        let btf = Btf::read(&options.btf);
        let arguments = btf
            .as_ref()
            .ok()
            .and_then(|btf| btf.tracepoint_arguments(TRACEPOINT.1))
            .map_or(&ARGUMENTS[..0], |count| &ARGUMENTS[..ARGUMENTS.len().min(count.into())]);
        let btf = btf.map(|_| options.btf.clone()).map_err(|why| why.to_string());
        let reasons = Reasons::read(&options.btf).ok();
        Self {
            release: rustix::system::uname().release().to_string_lossy().into_owned(),
            btf,
            arguments: arguments.to_vec(),
            attach: try_all(options),
            reasons: reasons.as_ref().map(Reasons::len),
            subsystems: reasons.as_ref().map(subsystems).unwrap_or_default(),
            tracefs: tracefs(),
            symbols: Symbols::read().map(|symbols| symbols.len()).map_err(|why| why.to_string()),
            debug_info: debug_info(&Places::of_this_host()),
            jit: fs::read_to_string("/proc/sys/net/core/bpf_jit_enable")
                .ok()
                .map(|value| value.trim() != "0"),
        }
    }

    /// What is missing, with its price.
    pub fn missing(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        let mut add = |what: String, costs: &str| {
            missing.push(Missing { what, costs: costs.to_owned() });
        };
        if let Err(why) = &self.btf {
            add(format!("type information: {why}"), "no drop can be traced; counters only");
        }
        match self.attach.iter().position(|(_, tried)| tried.is_ok()) {
            Some(0) => {}
            // Already said.
            None if self.btf.is_err() => {}
            Some(first) => {
                for (kind, tried) in &self.attach[..first] {
                    if let Err(why) = tried {
                        add(format!("{kind}: {why}"), "tracing costs more for every drop");
                    }
                }
            }
            None => {
                let mut whys: Vec<_> =
                    self.attach.iter().filter_map(|(_, tried)| tried.as_ref().err()).collect();
                whys.dedup();
                let whys: Vec<_> = whys.into_iter().map(String::as_str).collect();
                add(
                    format!("no way to attach to skb:kfree_skb: {}", whys.join("; ")),
                    "no drop can be traced; counters only",
                );
            }
        }
        for (name, since, costs) in LATER_ARGUMENTS {
            if !self.arguments.is_empty() && !self.arguments.contains(&name) {
                add(format!("argument {name} of skb:kfree_skb (since {since})"), costs);
            }
        }
        for subsystem in self.subsystems.iter().filter(|subsystem| subsystem.reasons == 0) {
            add(
                format!("names of the drop reasons of {}: no BTF loaded", subsystem.name),
                "its reasons show as numbers; nothing if it is not in use",
            );
        }
        if let Err(why) = &self.symbols {
            add(format!("names of functions: {why}"), "call sites show as addresses");
        }
        if self.jit == Some(false) {
            add("the BPF compiler is off".to_owned(), "tracing costs more for every drop");
        }
        missing
    }
}

fn subsystems(reasons: &Reasons) -> Vec<SubsystemFacts> {
    let count = |name: &str| {
        reasons.iter().filter(|reason| reason.subsystem.as_deref() == Some(name)).count()
    };
    reasons
        .subsystems()
        .map(|name| SubsystemFacts { name: name.to_owned(), reasons: count(name) })
        .collect()
}

fn debug_info(places: &Places) -> Result<PathBuf, String> {
    places.kernel().map_err(|why| {
        let missing = matches!(why, Unusable::NotInstalled { .. });
        let why = if missing { "not installed".to_owned() } else { why.to_string() };
        format!("{why}; for lines and inlined functions in stacks: {}", places.advice())
    })
}

fn try_all(options: &Options) -> Vec<(Attach, Result<(), String>)> {
    // One table of the smallest size serves all attempts.
    let options = Options { buckets: Some(1), ..options.clone() };
    let mut loaded = load(&options).map_err(|why| why.to_string());
    let mut one = |kind, program| match &mut loaded {
        Ok(loaded) => Loaded::attach(loaded, kind, program).map_err(|refusal| refusal.why),
        Err(why) => Err(why.clone()),
    };
    KINDS.map(|(kind, program)| (kind, one(kind, program))).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> KernelFacts {
        KernelFacts {
            release: "6.18.0".to_owned(),
            btf: Ok("/sys/kernel/btf/vmlinux".into()),
            arguments: vec!["skbaddr", "location", "reason", "rx_sk"],
            attach: vec![(Attach::TpBtf, Ok(())), (Attach::Tp, Err("no tracefs".to_owned()))],
            reasons: Some(100),
            subsystems: Vec::new(),
            tracefs: Err("tracefs is not mounted".to_owned()),
            symbols: Ok(1),
            debug_info: Err("not installed".to_owned()),
            jit: Some(true),
        }
    }

    #[test]
    fn nothing_is_missing_where_the_cheapest_way_works() {
        assert_eq!(facts().missing(), []);
    }

    #[test]
    fn what_is_missing_has_its_price() {
        let mut facts = facts();
        facts.arguments.truncate(2);
        facts.attach[0].1 = Err("Permission denied".to_owned());
        facts.attach[1].1 = Ok(());
        facts.subsystems.push(SubsystemFacts { name: "OPENVSWITCH".to_owned(), reasons: 0 });
        facts.symbols = Err("hidden".to_owned());
        let what: Vec<_> = facts.missing().into_iter().map(|missing| missing.what).collect();
        assert_eq!(
            what,
            [
                "tp_btf: Permission denied",
                "argument reason of skb:kfree_skb (since 5.17)",
                "argument rx_sk of skb:kfree_skb (since 6.11)",
                "names of the drop reasons of OPENVSWITCH: no BTF loaded",
                "names of functions: hidden",
            ]
        );
        facts.btf = Err("gone".to_owned());
        facts.arguments.clear();
        assert!(facts.missing().iter().all(|missing| !missing.what.starts_with("argument")));
    }
}
