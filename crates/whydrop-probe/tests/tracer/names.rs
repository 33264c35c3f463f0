//! Names are those of the running kernel.

use std::collections::BTreeMap;
use std::fs;

use whydrop_probe::{Btf, Options, Reasons, VMLINUX_BTF};

use crate::{MOUNT_TRACEFS, passed_elsewhere, turn};

/// The classic tracepoint's format has the same table, written by the kernel itself.
#[test]
fn reasons_are_those_of_the_tracepoint_format() {
    let Some(_turn) = turn() else { return };
    if passed_elsewhere("names::reasons_are_those_of_the_tracepoint_format", MOUNT_TRACEFS) {
        return;
    }
    let format = fs::read_to_string("/sys/kernel/tracing/events/skb/kfree_skb/format")
        .expect("the tracepoint");
    // ... __print_symbolic(REC->reason, { 2, "NOT_SPECIFIED" }, { 3, "NO_SOCKET" }, ...
    let (_, table) = format.split_once("REC->reason,").expect("reasons in the format");
    let expected: BTreeMap<u32, &str> = table
        .split('{')
        .filter_map(|entry| {
            let (number, rest) = entry.split_once(',')?;
            Some((number.trim().parse().ok()?, rest.split('"').nth(1)?))
        })
        // The end of the list, which is no reason.
        .filter(|&(_, name)| name != "MAX")
        .collect();
    assert!(expected.len() > 50, "{format}");
    let reasons = Reasons::read(VMLINUX_BTF.as_ref()).expect("reasons");
    let differing: Vec<_> =
        expected.iter().filter(|&(&value, &name)| reasons.name(value) != name).collect();
    assert_eq!(differing, []);
    for reason in reasons.iter().filter(|reason| reason.subsystem.is_none()) {
        // Pseudo reasons, which never reach the tracepoint, are not in its table.
        let pseudo = reason.name.starts_with("SKB_");
        assert!(pseudo || expected.contains_key(&reason.value), "{reason:?}");
    }
}

/// The kernel's own reading of its BTF, by way of bpftool, agrees with ours.
#[test]
fn enums_are_those_that_bpftool_sees() {
    let output =
        std::process::Command::new("bpftool").args(["btf", "dump", "file", VMLINUX_BTF]).output();
    let Ok(output) = output else {
        eprintln!("skipped: needs bpftool");
        return;
    };
    let dump = String::from_utf8_lossy(&output.stdout);
    // [12] ENUM 'name' encoding=UNSIGNED size=4 vlen=2, then per member a tab and 'NAME' val=1
    let (mut enums, mut members, mut inside) = (0, 0, false);
    for line in dump.lines() {
        if line.starts_with('[') {
            inside = line.contains("] ENUM") && !line.contains("'(anon)'");
            enums += usize::from(inside);
        } else {
            members += usize::from(inside);
        }
    }
    let btf = Btf::read(VMLINUX_BTF.as_ref()).expect("BTF");
    assert_eq!(btf.enums().count(), enums);
    assert_eq!(btf.enums().map(|found| found.members().count()).sum::<usize>(), members);
}

#[test]
fn the_kernel_says_what_it_offers() {
    let Some(_turn) = turn() else { return };
    let facts = whydrop_probe::KernelFacts::read(&Options::default());
    let (kind, tried) = &facts.attach[0];
    assert_eq!((*kind, tried), (whydrop_model::Attach::TpBtf, &Ok(())));
    assert_eq!(facts.attach.len(), 3);
    assert!(facts.arguments.starts_with(&["skbaddr", "location"]), "{:?}", facts.arguments);
    assert_eq!(facts.reasons.is_some_and(|count| count > 0), facts.arguments.len() > 2);
    assert!(facts.symbols.as_ref().is_ok_and(|&count| count > 1000), "{:?}", facts.symbols);
    assert_eq!(facts.attach[2].1.is_ok(), facts.tracefs.is_ok());
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    assert_eq!(facts.release, release.trim());
}
