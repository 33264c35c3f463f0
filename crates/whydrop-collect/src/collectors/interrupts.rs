//! `/proc/interrupts` of network devices: which CPU takes the work of which queue. Once for the host,
//! whatever namespace a device is in.
//!
//! An interrupt belongs to the network if its PCI device says that it is a network controller, or,
//! where there is no PCI, if the driver named it after a device that `/sys/class/net` shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::collector::{Collector, Facts, InterruptFacts, Place, Read};
use crate::cpu_table;
use crate::error::Why;

pub(crate) const COLLECTOR: Collector =
    Collector { name: "interrupts", what: "interrupts of network devices", read: Read::Host(read) };

/// How the class of a network controller begins (`PCI_BASE_CLASS_NETWORK`).
const NETWORK_CLASS: &str = "0x02";

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let text = place.proc("interrupts")?.ok_or_else(|| Why::new("there is no /proc/interrupts"))?;
    let known = Known {
        by_number: of_controllers(&place.roots.sys.join("bus/pci/devices")),
        names: device_names(&place.roots.sys.join("class/net")),
    };
    facts.interrupts = parse(&text, &known)?;
    for interrupt in &mut facts.interrupts {
        let list = format!("irq/{}/smp_affinity_list", interrupt.irq);
        // Hidden from some, and then nothing that would be worth a word.
        interrupt.affinity = place.proc(&list).ok().flatten().map(|list| list.trim().to_owned());
    }
    Ok(())
}

/// What tells that an interrupt belongs to a network device.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// PCI addresses by number of the interrupt.
    pub(crate) by_number: BTreeMap<u32, String>,
    /// Names of network devices and of the devices on a bus that they stand for.
    pub(crate) names: Vec<String>,
}

/// Interrupts of PCI network controllers. A folder that is not there has none.
fn of_controllers(folder: &Path) -> BTreeMap<u32, String> {
    let mut interrupts = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let class = fs::read_to_string(path.join("class")).unwrap_or_default();
        if !class.starts_with(NETWORK_CLASS) {
            continue;
        }
        let address = entry.file_name().to_string_lossy().into_owned();
        let several = fs::read_dir(path.join("msi_irqs")).into_iter().flatten().flatten();
        let mut numbers: Vec<u32> =
            several.filter_map(|irq| irq.file_name().to_str()?.parse().ok()).collect();
        if numbers.is_empty() {
            let single = fs::read_to_string(path.join("irq")).unwrap_or_default();
            numbers.extend(single.trim().parse::<u32>().ok().filter(|&irq| irq != 0));
        }
        interrupts.extend(numbers.into_iter().map(|irq| (irq, address.clone())));
    }
    interrupts
}

/// Names by which drivers call the interrupts of devices that are not made of software alone.
fn device_names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(device) = fs::read_link(entry.path().join("device")) else { continue };
        names.push(entry.file_name().to_string_lossy().into_owned());
        names.extend(device.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    names
}

pub(crate) fn parse(text: &str, known: &Known) -> Result<Vec<InterruptFacts>, Why> {
    let mut lines = text.lines();
    let cpus = lines.next().map(cpu_table::cpus).unwrap_or_default();
    if cpus.is_empty() {
        return Err(Why::new("/proc/interrupts was not understood"));
    }
    let row = |line: &str| {
        let (label, rest) = line.split_once(':')?;
        let irq: u32 = label.trim().parse().ok()?;
        let (counts, words) = cpu_table::counts(rest, cpus.len())?;
        let device = known.by_number.get(&irq).cloned();
        if device.is_none() && !known.names.iter().any(|name| names(words, name)) {
            return None;
        }
        let fired = cpus.iter().copied().zip(counts).filter(|(_, count)| *count > 0);
        Some(InterruptFacts {
            irq,
            name: action(words),
            device,
            per_cpu: fired.collect(),
            affinity: None,
        })
    };
    Ok(lines.filter_map(row).collect())
}

/// Whether `name` occurs in `words` and not as a part of a longer one: `eth1-rx-0` names eth1, and
/// neither eth nor th1.
fn names(words: &str, name: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_alphanumeric();
    !name.is_empty()
        && words.match_indices(name).any(|(at, _)| {
            !words[..at].ends_with(is_part) && !words[at + name.len()..].starts_with(is_part)
        })
}

/// What the drivers call it: the words after the interrupt controller, its own number for the line,
/// and on some architectures how the line is triggered.
fn action(words: &str) -> String {
    let mut rest = words.split_ascii_whitespace().skip(2).peekable();
    rest.next_if(|word| matches!(*word, "Level" | "Edge" | "None"));
    rest.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    #[test]
    fn interrupts_of_the_controller_and_of_nothing_else() {
        let facts = fixture::read("linux-6.18", read).unwrap();
        let interrupts: Vec<(u32, &str)> =
            facts.interrupts.iter().map(|it| (it.irq, it.name.as_str())).collect();
        let expected = [(37, "virtio2-config"), (38, "virtio2-input.0"), (39, "virtio2-output.0")];
        assert_eq!(interrupts, expected);
        // File names with a colon cannot be kept everywhere; in the fixture they have none.
        assert_eq!(facts.interrupts[1].device.as_deref(), Some("0000-00-03.0"));
        assert_eq!(facts.interrupts[1].affinity.as_deref(), Some("0-1"));
        assert_eq!(facts.interrupts[1].per_cpu.keys().collect::<Vec<_>>(), [&1]);
        assert!(fixture::read("empty", read).is_err());
        assert!(fixture::read("garbage", read).is_err());
    }

    const ARM: &str = "\
           CPU0       CPU1       CPU3
 11:        100          0          7  GICv3  27 Level     arch_timer
 42:          5          0          9  GICv3 150 Level     30be0000.ethernet
 43:          0          0          1  GICv3 151 Level     eth10
 44:          2          0          0  xen-dyn    -event     eth1-q0-rx
IPI0:         3          4          5  Rescheduling interrupts
";

    #[test]
    fn without_pci_the_name_tells() {
        let known = Known {
            names: ["eth0", "30be0000.ethernet", "eth1"].map(str::to_owned).into(),
            ..Known::default()
        };
        let interrupts = parse(ARM, &known).unwrap();
        let names: Vec<(u32, &str)> =
            interrupts.iter().map(|it| (it.irq, it.name.as_str())).collect();
        assert_eq!(names, [(42, "30be0000.ethernet"), (44, "eth1-q0-rx")]);
        assert_eq!(interrupts[0].per_cpu, BTreeMap::from([(0, 5), (3, 9)]), "CPU 2 is offline");
    }

    #[test]
    fn what_cannot_be_read_is_skipped_or_told() {
        assert!(parse("", &Known::default()).is_err());
        let known = Known { by_number: [(5, "0000:01:00.0".into())].into(), names: Vec::new() };
        let cut = "  CPU0 CPU1\n 5: 1\n 5: 1 2\n x: 1 2\n";
        let interrupts = parse(cut, &known).unwrap();
        assert_eq!((interrupts.len(), interrupts[0].name.as_str()), (1, ""));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "( CPU[0-9]){1,3}\n([0-9]: ?[0-9 xé]{0,20}eth0é?\n){0,4}") {
            let known = Known { names: vec!["eth0".into(), "é".into()], ..Known::default() };
            parse(&text, &known).unwrap();
        }
    }
}
