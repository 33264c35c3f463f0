//! A sysctl tells the kernel to refuse this kind of packet.
//!
//! `IPV6DISABLED` in `ip6_rcv_core`; `UNICAST_IN_L2_MULTICAST`; a source route, without a reason, in
//! `ip_rcv_finish_core`; a broadcast echo request, `INVALID_PROTO` in `icmp_rcv`. An ignored echo
//! request is freed as one that was answered for IPv4 (`net/ipv4/icmp.c`, 6.18), so that only
//! `Icmp.InEchos` without `Icmp.OutEchoReps` tells; for IPv6 it is dropped without a reason in
//! `icmpv6_rcv`. What the neighbours say to all is noise, and `multicast_not_joined` took it before.

use whydrop_model::{
    Confidence, DropTotal, EvidenceItem, EvidenceKind, Link, Namespace, Remedy, Severity, Site,
};

use crate::case::{Case, Conclusion, Loss};
use crate::command;
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct HardeningSysctlDrop;

const ID: &str = "hardening-sysctl-drop";

const SOURCE_ROUTE: Kind = Kind {
    variant: Some("source-route"),
    signatures: &[drops("NOT_SPECIFIED", "ip_rcv_finish_core")],
    counters: &[],
};
const L2_MULTICAST: Kind = Kind {
    variant: Some("l2-multicast"),
    signatures: &[drops("UNICAST_IN_L2_MULTICAST", "*")],
    counters: &[],
};
const BROADCAST: Kind = Kind {
    variant: Some("icmp-broadcast"),
    signatures: &[drops("INVALID_PROTO", "icmp_rcv")],
    counters: &["Icmp.InErrors"],
};
const ECHO_IPV6: Kind = Kind {
    variant: Some("icmp-echo"),
    signatures: &[drops("NOT_SPECIFIED", "icmpv6_rcv")],
    counters: &["snmp6.Icmp6InEchos"],
};
const DISABLED: Kind = Kind {
    variant: Some("ipv6-disabled"),
    signatures: &[drops("IPV6DISABLED", "*")],
    counters: &["snmp6.Ip6InDiscards"],
};
/// A device whose MTU is below that of IPv6 has no IPv6, and no setting that says so.
const TOO_SMALL: Kind = Kind {
    variant: Some("ipv6-disabled"),
    signatures: &[Signature {
        reason: "NOT_SPECIFIED",
        symbol: "ip6_rcv_core",
        when: |total| !total.marks.multicast,
    }],
    counters: &["snmp6.Ip6InDiscards"],
};
/// `IPV6_MIN_MTU` (`include/uapi/linux/ipv6.h`).
const IPV6_MIN_MTU: u32 = 1280;
/// Type of an ICMPv6 echo request.
const ICMPV6_ECHO_REQUEST: u8 = 128;

const IGNORE_ALL: &str = "net.ipv4.icmp_echo_ignore_all";
const IGNORE_ALL_IPV6: &str = "net.ipv6.icmp.echo_ignore_all";
const IGNORE_BROADCASTS: &str = "net.ipv4.icmp_echo_ignore_broadcasts";

impl Rule for HardeningSysctlDrop {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        // Of what bears the same signature for another cause, the setting tells it.
        by_setting(case, &SOURCE_ROUTE, |here, device, _| {
            let setting = |of: &str| format!("net.ipv4.conf.{of}.accept_source_route");
            [device, "all"].map(setting).into_iter().find(|name| here.sysctl(name) == Some(0))
        });
        by_setting(case, &L2_MULTICAST, |here, device, family| {
            let name = |of| format!("net.{family}.conf.{of}.drop_unicast_in_l2_multicast");
            [device, "all"].map(name).into_iter().find(|name| here.sysctl(name) == Some(1))
        });
        by_setting(case, &BROADCAST, |here, _, _| {
            (here.sysctl(IGNORE_BROADCASTS) != Some(0)).then(|| IGNORE_BROADCASTS.into())
        });
        by_setting(case, &DISABLED, |here, device, _| {
            let setting = |of: &str| format!("net.ipv6.conf.{of}.disable_ipv6");
            let set = [device, "all"].map(setting);
            let found = set.iter().find(|name| here.sysctl(name) == Some(1)).cloned();
            // It may have been enabled again since; that of the device is what counted.
            found.or_else(|| set.into_iter().next())
        });
        echo_ipv6(case);
        for namespace in case.namespaces() {
            echo(case, namespace);
        }
        small_mtu(case);
    }
}

/// Takes what bears the signatures where a setting is so that it refuses these packets. `setting`
/// gets the namespace, and the device and `ipv4` or `ipv6` as sysctl names them.
fn by_setting(
    case: &mut Case<'_>,
    kind: &Kind,
    setting: impl Fn(&Namespace, &str, &str) -> Option<String>,
) {
    let evidence = case.evidence();
    let binding = |total: &DropTotal| {
        let device = total.device.as_deref().unwrap_or("default").replace('.', "/");
        let family = if total.l3 == 0x86dd { "ipv6" } else { "ipv4" };
        setting(evidence.namespace(total.netns?)?, &device, family)
    };
    let claims = case.claim(|total| {
        kind.signatures.iter().any(|one| one.matches(total)) && binding(total).is_some()
    });
    for group in traced::gather(case, claims) {
        let Some(setting) = group.first().and_then(binding) else { continue };
        let told = tell(&group, &setting, kind.variant);
        group.conclude(case, ID, Severity::Notice, kind, told);
    }
}

fn tell(group: &Group<'_>, setting: &str, variant: Option<&str>) -> Told {
    let (from, device) = (group.sources(), group.device_name());
    let value = group.namespace.and_then(|here| here.sysctl(setting));
    let value = value.map_or("set so".into(), |value| value.to_string());
    // Those that allow are off, those that refuse are on.
    let wanted = u8::from(variant == Some("source-route"));
    Told {
        summary: format!(
            "{} from {from} on {device} are refused because {setting} is {value}",
            what(variant)
        ),
        cure: format!(
            "Nothing if that is meant. If this traffic is wanted, set {setting}={wanted}, for good in \
             the file of /etc/sysctl.d that has it{}",
            match variant {
                Some("source-route") =>
                    ", and in `all` as well as on the device: both must allow it",
                Some("l2-multicast") => "; `all` and the device may each refuse it",
                _ => "",
            }
        ),
        command: Some(format!("sysctl -w {setting}={wanted}")),
        object: Some(setting.into()),
        useless: &["the packet filter: these packets never reach a rule that could let them pass"],
        ..Told::default()
    }
}

fn what(variant: Option<&str>) -> &'static str {
    match variant {
        Some("source-route") => "Packets with a source route",
        Some("l2-multicast") => "Packets to this host alone in frames for many",
        Some("icmp-broadcast") => "Echo requests to a broadcast address",
        Some("icmp-echo") => "Echo requests",
        _ => "IPv6 packets",
    }
}

/// Ignored echo requests of IPv6, among messages that nobody wanted.
fn echo_ipv6(case: &mut Case<'_>) {
    let evidence = case.evidence();
    let ignored = |total: &DropTotal| {
        let namespace = total.netns.and_then(|inode| evidence.namespace(inode));
        ECHO_IPV6.signatures.iter().any(|one| one.matches(total))
            && namespace.is_some_and(|here| here.sysctl(IGNORE_ALL_IPV6) == Some(1))
    };
    let found = traced::take_by_flow(case, 1.0, ignored, |_, flow| {
        flow.icmp.filter(|(kind, _)| *kind == ICMPV6_ECHO_REQUEST).map(drop)
    });
    for ((), group) in found {
        let told = tell(&group, IGNORE_ALL_IPV6, ECHO_IPV6.variant);
        group.conclude(case, ID, Severity::Notice, &ECHO_IPV6, told);
    }
}

/// Ignored echo requests of IPv4, which no packet shows.
fn echo(case: &mut Case<'_>, namespace: &Namespace) {
    if namespace.sysctl(IGNORE_ALL) != Some(1) {
        return;
    }
    let grown = |name| namespace.delta(name).unwrap_or(0);
    // Those to a broadcast address are counted as well, and were dropped before.
    let totals = case.evidence().tracer.totals.iter();
    let broadcast: u64 = totals
        .filter(|one| one.netns == Some(namespace.inode) && BROADCAST.signatures[0].matches(one))
        .map(|one| one.packets)
        .sum();
    let (asked, answered) = (grown("Icmp.InEchos"), grown("Icmp.OutEchoReps"));
    let ignored = asked.saturating_sub(answered).saturating_sub(broadcast);
    if ignored == 0 {
        return;
    }
    let command = command::within(namespace, &format!("sysctl -w {IGNORE_ALL}=0"));
    let conclusion = Conclusion {
        variant: Some("icmp-echo"),
        severity: Severity::Notice,
        confidence: Confidence::Confirmed,
        loss: Loss::counted(ignored),
        site: Site { object: Some(IGNORE_ALL.into()), ..case.site_of(Some(namespace.inode)) },
        summary: format!("Echo requests get no answer because {IGNORE_ALL} is 1"),
        evidence: vec![
            EvidenceItem::new(EvidenceKind::Counter, "Icmp.InEchos", asked),
            EvidenceItem::new(EvidenceKind::Counter, "Icmp.OutEchoReps", answered),
            EvidenceItem::new(EvidenceKind::State, IGNORE_ALL, 1_u64),
        ],
        remedies: vec![Remedy {
            summary: format!(
                "Nothing if that is meant. If this host is to answer pings, set {IGNORE_ALL}=0, for \
                 good in the file of /etc/sysctl.d that has it"
            ),
            commands: command.into_iter().collect(),
            useless: vec!["the packet filter: the requests arrive and are ignored".into()],
        }],
    };
    case.conclude(ID, conclusion);
}

/// IPv6 on a device whose MTU is too small for it.
fn small_mtu(case: &mut Case<'_>) {
    let evidence = case.evidence();
    let link = |total: &DropTotal| -> Option<&Link> {
        let namespace = evidence.namespace(total.netns?)?;
        let mut links = namespace.links.iter();
        links.find(|link| link.ifindex == total.ifindex && link.mtu < IPV6_MIN_MTU)
    };
    let claims =
        case.claim(|total| TOO_SMALL.signatures[0].matches(total) && link(total).is_some());
    for group in traced::gather(case, claims) {
        let Some(Link { name, mtu, .. }) = group.first().and_then(link) else { continue };
        let told = Told {
            object: Some(format!("MTU of {name}")),
            summary: format!(
                "IPv6 packets on {name} are refused: its MTU of {mtu} is below {IPV6_MIN_MTU}, so the \
                 device has no IPv6"
            ),
            cure: format!(
                "If IPv6 is wanted there, raise the MTU of {name} to {IPV6_MIN_MTU} or more"
            ),
            command: Some(format!("ip link set dev {name} mtu {IPV6_MIN_MTU}")),
            useless: &["disable_ipv6: no setting gives such a device IPv6"],
            ..Told::default()
        };
        group.conclude(case, ID, Severity::Notice, &TOO_SMALL, told);
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::Evidence;

    use crate::{Thresholds, diagnose, sample};

    fn with(reason: &str, symbol: &str, sysctls: &[(&str, &str)]) -> Evidence {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![sample::total(reason, symbol, 30)];
        for (name, value) in sysctls {
            evidence.namespaces[0].sysctls.insert((*name).into(), (*value).into());
        }
        evidence
    }

    /// Variant and object, if it is this cause.
    fn found(evidence: &Evidence) -> Option<(String, String, u64)> {
        let report = diagnose(evidence, &Thresholds::default());
        let finding = report.findings.iter().find(|one| one.cause == super::ID)?;
        let object = finding.site.object.clone()?;
        Some((finding.variant.clone()?, object, finding.packets))
    }

    #[test]
    fn the_setting_that_refuses_is_named() {
        for (reason, symbol, setting, value, variant) in [
            (
                "NOT_SPECIFIED",
                "ip_rcv_finish_core",
                "net.ipv4.conf.all.accept_source_route",
                "0",
                "source-route",
            ),
            (
                "UNICAST_IN_L2_MULTICAST",
                "ip_rcv_finish_core",
                "net.ipv4.conf.veth0.drop_unicast_in_l2_multicast",
                "1",
                "l2-multicast",
            ),
            ("INVALID_PROTO", "icmp_rcv", super::IGNORE_BROADCASTS, "1", "icmp-broadcast"),
            (
                "IPV6DISABLED",
                "ip6_rcv_core",
                "net.ipv6.conf.all.disable_ipv6",
                "1",
                "ipv6-disabled",
            ),
        ] {
            let told = found(&with(reason, symbol, &[(setting, value)]));
            assert_eq!(told, Some((variant.into(), setting.into(), 30)));
        }
    }

    #[test]
    fn what_a_setting_allows_has_another_cause() {
        let allowed = ("net.ipv4.conf.all.accept_source_route", "1");
        assert_eq!(found(&with("NOT_SPECIFIED", "ip_rcv_finish_core", &[allowed])), None);
        assert_eq!(
            found(&with("INVALID_PROTO", "icmp_rcv", &[(super::IGNORE_BROADCASTS, "0")])),
            None
        );
    }

    #[test]
    fn chatter_to_a_device_without_ipv6_is_noise() {
        let mut evidence = with("IPV6DISABLED", "ip6_rcv_core", &[]);
        evidence.tracer.totals[0].marks.multicast = true;
        assert_eq!(found(&evidence), None);
        assert_eq!(diagnose(&evidence, &Thresholds::default()).ledger.benign, 30);
    }

    #[test]
    fn pings_without_an_answer_are_counted() {
        let mut evidence = with("INVALID_PROTO", "icmp_rcv", &[(super::IGNORE_ALL, "1")]);
        evidence.tracer.totals[0].packets = 5;
        sample::count(&mut evidence, "Icmp.InEchos", 30);
        sample::count(&mut evidence, "Icmp.OutEchoReps", 0);
        let report = diagnose(&evidence, &Thresholds::default());
        let told: Vec<_> = report
            .findings
            .iter()
            .map(|one| (one.variant.as_deref().unwrap_or_default(), one.packets))
            .collect();
        assert_eq!(told, [("icmp-echo", 25), ("icmp-broadcast", 5)]);
        evidence.namespaces[0].sysctls.insert(super::IGNORE_ALL.into(), "0".into());
        assert_eq!(diagnose(&evidence, &Thresholds::default()).findings.len(), 1);
    }

    #[test]
    fn an_ignored_ping_is_no_unwanted_message() {
        let mut evidence = with("NOT_SPECIFIED", "icmpv6_rcv", &[(super::IGNORE_ALL_IPV6, "1")]);
        let mut exemplar = sample::exemplar(&evidence.tracer.totals[0], 1);
        exemplar.flow.as_mut().expect("a flow").icmp = Some((128, 0));
        evidence.tracer.exemplars = vec![exemplar];
        assert_eq!(found(&evidence), Some(("icmp-echo".into(), super::IGNORE_ALL_IPV6.into(), 30)));
        evidence.tracer.exemplars[0].flow.as_mut().expect("a flow").icmp = Some((130, 0));
        assert_eq!(found(&evidence), None);
    }
}
