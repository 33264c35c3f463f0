//! What no rule explained: traced drops, and counters that mean loss where the tracer saw less.
//!
//! Shown with its raw evidence, under the cause `unexplained`; never left out and never guessed.

use std::collections::BTreeMap;

use whydrop_model::{
    Confidence, DropTotal, EvidenceItem, EvidenceKind, Link, Remedy, Severity, Site,
};

use crate::case::{Case, Conclusion, Loss};
use crate::nic::{self, Class};
use crate::{UNEXPLAINED, command, nic_loss, raw};

/// Fields of `rtnl_link_stats64` that count frames lost before there was an skb: never traced.
const LINK_LOSSES: &[&str] =
    &["rx_missed_errors", "rx_crc_errors", "rx_frame_errors", "rx_length_errors", "rx_over_errors"];

/// Books everything that is left.
pub(crate) fn book(case: &mut Case<'_>) {
    traced(case);
    link_losses(case);
    drivers(case);
}

fn traced(case: &mut Case<'_>) {
    let mut groups: BTreeMap<_, (u64, Vec<&DropTotal>)> = BTreeMap::new();
    for claim in case.open() {
        let total = claim.total;
        let place = total.site.as_ref().map_or_else(
            || "(call site not kept: table full)".into(),
            |site| {
                if site.symbol.is_empty() { site.to_string() } else { site.symbol.clone() }
            },
        );
        let group = groups.entry((total.netns, format!("{}@{place}", total.given()))).or_default();
        group.0 += claim.packets;
        group.1.push(total);
    }
    for ((netns, signature), (packets, totals)) in groups {
        let same = totals.iter().all(|total| total.device == totals[0].device);
        let device = totals[0].device.clone().filter(|_| same);
        let site = Site { device, object: Some(signature.clone()), ..case.site_of(netns) };
        let mut evidence = vec![EvidenceItem::new(EvidenceKind::Tracer, &*signature, packets)];
        evidence.extend(raw::of_drops(case, &totals));
        let look = look_again(case, netns, totals[0].given());
        record(case, site, Loss::traced(packets), &signature, evidence, look);
    }
}

/// How to see more of them.
fn look_again(case: &Case<'_>, netns: Option<u64>, reason: &str) -> Remedy {
    let within = command::of_netns(netns.and_then(|inode| case.evidence().namespace(inode)));
    Remedy {
        summary:
            "Look at the next ones as they happen, each with its stack and packet, and compare \
                  with what the layers beside it count"
                .into(),
        commands: vec![format!(
            "whydrop watch --reason {} --stack{within}",
            command::quoted(reason)
        )],
        useless: vec!["several sysctls at once in the hope that one helps".into()],
    }
}

/// How to see more of what only a counter tells.
fn count_again() -> Remedy {
    Remedy {
        summary: "Record a window in which it grows again: what grows with it tells the cause"
            .into(),
        commands: vec!["whydrop record --duration 30 -o again.whydrop".into()],
        useless: Vec::new(),
    }
}

fn link_losses(case: &mut Case<'_>) {
    for namespace in case.namespaces() {
        // What a tunnel counts here it drops as packets, which are traced; a bond repeats the counters
        // of its ports.
        let bond = |link: &Link| matches!(link.kind.as_deref(), Some("bond" | "team"));
        let links = namespace.links.iter().filter(|link| link.tunnel.is_none() && !bond(link));
        for link in links {
            for field in LINK_LOSSES {
                let lost = case.unbooked_field(namespace, link, field);
                if lost > 0 {
                    let site = Site {
                        device: Some(link.name.clone()),
                        object: Some(format!("{} {field}", link.name)),
                        ..case.site_of(Some(namespace.inode))
                    };
                    let name = format!("{} {field}", link.name);
                    only_counted(case, site, lost, &name);
                }
            }
        }
    }
}

/// What drivers of cards say they dropped, without a reason; not what of it has a cause by another
/// counter: no memory, an XDP program.
fn drivers(case: &mut Case<'_>) {
    for namespace in case.namespaces() {
        for link in namespace.links.iter().filter(|link| nic_loss::is_hardware(link)) {
            let certain = |name: &str| {
                nic::statistic(nic_loss::driver(link), name).is_some_and(|it| it.certain)
            };
            let of = |class| nic_loss::lost_where(link, class, certain);
            let dropped = of(Class::DriverDrop);
            let known = of(Class::NoMemory).packets + of(Class::XdpDrop).packets;
            let lost = dropped.packets.saturating_sub(known);
            let Some((counter, _)) = dropped.counters.first().filter(|_| lost > 0) else {
                continue;
            };
            let name = format!("{} {counter}", link.name);
            let site = Site {
                device: Some(link.name.clone()),
                object: Some(name.clone()),
                ..case.site_of(Some(namespace.inode))
            };
            only_counted(case, site, lost, &name);
        }
    }
}

/// Records what only a counter tells.
pub(crate) fn only_counted(case: &mut Case<'_>, site: Site, packets: u64, name: &str) {
    let evidence = vec![EvidenceItem::new(EvidenceKind::Counter, name, packets)];
    record(case, site, Loss::counted(packets), name, evidence, count_again());
}

fn record(
    case: &mut Case<'_>,
    site: Site,
    loss: Loss,
    name: &str,
    evidence: Vec<EvidenceItem>,
    look: Remedy,
) {
    let packets = loss.packets;
    // An info finding loses nothing by contract, so the account is made here: the ledger has the
    // number.
    case.account(UNEXPLAINED, loss, site.clone());
    case.conclude(
        UNEXPLAINED,
        Conclusion {
            variant: None,
            severity: Severity::Notice,
            confidence: Confidence::Possible,
            loss: Loss::default(),
            site,
            summary: format!("{packets} packets were dropped as {name} and match no known cause"),
            evidence,
            remedies: vec![look],
        },
    );
}

#[cfg(test)]
mod tests {
    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn what_is_left_is_told_by_place_and_reason() {
        let mut evidence = sample::evidence();
        let mut elsewhere = sample::total("A_REASON_OF_TOMORROW", "some_function", 3);
        elsewhere.device = Some("veth1".into());
        evidence.tracer.totals =
            vec![sample::total("A_REASON_OF_TOMORROW", "some_function", 5), elsewhere];
        let report = diagnose(&evidence, &Thresholds::default());
        let site = &report.findings[0].site;
        assert_eq!(site.object.as_deref(), Some("A_REASON_OF_TOMORROW@some_function"));
        assert_eq!(site.device, None, "on several devices");
        assert_eq!((report.findings.len(), report.ledger.unexplained), (1, 8));
    }
}
