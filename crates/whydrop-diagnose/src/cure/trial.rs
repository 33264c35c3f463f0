//! Whether a change helped: what was lost before and after, against what could have been lost.
//!
//! A loss that stops because the traffic stopped proves nothing, so both windows are compared by the
//! share that was lost, and a window with too little load has no say.

use whydrop_model::{Class, Cure, Effect, Evidence, Finding, Report, Trial};

use crate::thresholds::Thresholds;

/// Counters of what passes the place where a cause loses.
struct Load {
    causes: &'static [&'static str],
    /// Of its variants, the one that is meant; `None` for all.
    variant: Option<&'static str>,
    counters: &'static [&'static str],
    /// True if the counters count what is lost as well.
    includes_lost: bool,
}

/// What came in.
const IN: &[&str] = &["Ip.InReceives", "snmp6.Ip6InReceives"];

const LOADS: &[Load] = &[
    Load {
        causes: &["accept-queue-full"],
        variant: None,
        counters: &["Tcp.PassiveOpens"],
        includes_lost: false,
    },
    // SYNs are not counted apart, and a flood opens no connection.
    Load {
        causes: &["syn-queue-full"],
        variant: None,
        counters: &["Tcp.InSegs"],
        includes_lost: true,
    },
    // What a program writes into a device that is down gets nowhere.
    Load { causes: &["interface-down"], variant: Some("tun"), counters: IN, includes_lost: false },
    Load {
        causes: &["udp-receive-buffer-full"],
        variant: None,
        counters: &["Udp.InDatagrams", "snmp6.Udp6InDatagrams"],
        includes_lost: false,
    },
    Load {
        causes: &["nic-irq-imbalance", "nic-rx-ring-overrun"],
        variant: None,
        counters: IN,
        includes_lost: false,
    },
    Load {
        causes: &["fragment-memory-limit"],
        variant: None,
        counters: &["Ip.ReasmReqds", "snmp6.Ip6ReasmReqds"],
        includes_lost: true,
    },
    Load {
        causes: &[
            "interface-down",
            "link-down",
            "link-mtu-mismatch",
            "neighbour-queue-full",
            "neighbour-table-full",
            "qdisc-limit-reached",
        ],
        variant: None,
        counters: &[
            "Ip.OutRequests",
            "Ip.ForwDatagrams",
            "snmp6.Ip6OutRequests",
            "snmp6.Ip6OutForwDatagrams",
        ],
        includes_lost: true,
    },
];

/// Where nothing better is known.
const OTHERWISE: Load = Load { causes: &[], variant: None, counters: IN, includes_lost: true };

/// What a window says about the fault that a cure is for.
#[must_use]
pub fn trial(evidence: &Evidence, report: &Report, cure: &Cure) -> Trial {
    let lost = report.findings.iter().filter(|finding| is_of(finding, cure));
    let lost = lost.map(|finding| finding.packets).sum();
    let inode = cure.site.netns.as_ref().and_then(|netns| netns.inode);
    let namespace = inode.and_then(|inode| evidence.namespace(inode));
    let is_meant = |load: &&Load| {
        let variant = load.variant.is_none_or(|one| cure.variant.as_deref() == Some(one));
        variant && load.causes.contains(&cure.cause.as_str())
    };
    let load = LOADS.iter().find(is_meant).unwrap_or(&OTHERWISE);
    let grown = |counter: &&str| namespace.and_then(|one| one.delta(counter)).unwrap_or(0);
    let passed: u64 = load.counters.iter().map(grown).sum();
    let offered = if load.includes_lost { passed.max(lost) } else { passed + lost };
    Trial { seconds: evidence.window.seconds, lost, offered }
}

/// Packets of other faults in the same namespace that were not there before: a change may have moved
/// the loss instead of ending it.
#[must_use]
pub fn moved(before: &Report, after: &Report, cure: &Cure) -> u64 {
    let place = |finding: &Finding| finding.site.netns.as_ref().and_then(|netns| netns.inode);
    let inode = cure.site.netns.as_ref().and_then(|netns| netns.inode);
    let known = |finding: &Finding| {
        before.findings.iter().any(|one| one.cause == finding.cause && place(one) == inode)
    };
    let here = after.findings.iter().filter(|finding| {
        finding.class == Class::Fault && place(finding) == inode && !known(finding)
    });
    here.map(|finding| finding.packets).sum()
}

/// What became of the loss. `moved` packets are lost to faults that were not there before.
#[must_use]
pub fn judge(before: Trial, after: Trial, moved: u64, thresholds: &Thresholds) -> Effect {
    let enough = thresholds.trial_losses;
    let share = before.lost as f64 / before.offered.max(1) as f64;
    let expected = share * after.offered as f64;
    let lost = (after.lost + moved) as f64;
    if lost == 0.0 {
        return if expected < enough { Effect::NoLoad } else { Effect::Cured };
    }
    if lost > expected * thresholds.trial_worse && lost - expected > enough {
        return Effect::Worse;
    }
    if expected < enough {
        return Effect::NoLoad;
    }
    if lost < expected * thresholds.trial_improved { Effect::Improved } else { Effect::NoEffect }
}

fn is_of(finding: &Finding, cure: &Cure) -> bool {
    let inode = |site: &whydrop_model::Site| site.netns.as_ref().and_then(|netns| netns.inode);
    finding.cause == cure.cause
        && inode(&finding.site) == inode(&cure.site)
        && finding.site.socket == cure.site.socket
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cure::cures;
    use crate::{diagnose, sample};

    const BEFORE: Trial = Trial { seconds: 10.0, lost: 100, offered: 1000 };

    fn judged(lost: u64, offered: u64) -> Effect {
        judge(BEFORE, Trial { seconds: 5.0, lost, offered }, 0, &Thresholds::default())
    }

    #[test]
    fn the_share_counts_and_not_the_number() {
        assert_eq!(judged(0, 500), Effect::Cured);
        assert_eq!(judged(20, 500), Effect::Improved);
        assert_eq!(judged(50, 500), Effect::NoEffect);
        assert_eq!(judged(90, 500), Effect::Worse);
        assert_eq!(judged(100, 1000), Effect::NoEffect);
    }

    #[test]
    fn without_load_there_is_no_verdict() {
        assert_eq!(judged(0, 0), Effect::NoLoad);
        assert_eq!(judged(0, 49), Effect::NoLoad);
        assert_eq!(judged(0, 50), Effect::Cured);
        assert_eq!(judged(2, 10), Effect::NoLoad);
        assert_eq!(judged(10, 10), Effect::Worse, "what is lost is seen under any load");
    }

    #[test]
    fn a_loss_that_moved_is_not_cured() {
        let after = Trial { seconds: 10.0, lost: 0, offered: 1000 };
        let judged = |moved| judge(BEFORE, after, moved, &Thresholds::default());
        assert_eq!(judged(100), Effect::NoEffect);
        assert_eq!(judged(0), Effect::Cured);
    }

    #[test]
    fn trials_are_read_from_the_same_place() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "TcpExt.ListenOverflows", 60);
        sample::count(&mut evidence, "TcpExt.ListenDrops", 60);
        sample::count(&mut evidence, "Tcp.PassiveOpens", 40);
        let listener = sample::listener(8, 60, &[(0, 0, 0), (100, 9, 60), (400, 0, 60)]);
        evidence.namespaces[0].listeners.push(listener);
        let report = diagnose(&evidence, &Thresholds::default());
        let cure = cures(&evidence, &report, &Thresholds::default()).remove(0);
        let found = trial(&evidence, &report, &cure);
        assert_eq!((found.lost, found.offered), (60, 100));
        assert_eq!(moved(&report, &report, &cure), 0);
        let mut elsewhere = report.clone();
        elsewhere.findings[0].cause = "listen-drop-other".into();
        assert_eq!(trial(&evidence, &elsewhere, &cure).lost, 0);
        assert_eq!(moved(&report, &elsewhere, &cure), 60);
    }
}
