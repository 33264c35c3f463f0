//! Packets too big for the path are dropped, and the message that says so is dropped as well.
//!
//! `PKT_TOO_BIG` in `ip_forward` or `ip6_forward` (6.18) while a filter on this host, in whichever
//! namespace, drops the ICMP messages (type 3 code 4, ICMPv6 type 2) to the same senders. The sender
//! repeats packets that can never pass. Without such a drop the sender is told, and the cause is
//! `path_mtu_exceeded`; a message lost on another host cannot be seen from here.

use std::net::IpAddr;

use whydrop_model::{EvidenceItem, EvidenceKind, Exemplar, Severity};

use super::path_mtu_exceeded;
use crate::case::Case;
use crate::rule::Rule;
use crate::traced::{self, Told};
use crate::{command, retransmits};

/// See the module.
pub(super) struct PmtuBlackhole;

const ID: &str = "pmtu-blackhole";

impl Rule for PmtuBlackhole {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let evidence = case.evidence();
        let silenced = silenced(&evidence.tracer.exemplars);
        if silenced.is_empty() {
            return;
        }
        // Hosts in namespaces apart from each other may have the same addresses.
        let message_to = |sender: IpAddr, router: Option<u64>| {
            silenced.iter().find(|(to, message)| {
                *to == sender
                    && message.netns.zip(router).is_none_or(|(there, here)| {
                        retransmits::reach(&evidence.namespaces, here).contains(&there)
                    })
            })
        };
        for kind in path_mtu_exceeded::KINDS {
            let too_big = |total: &_| kind.signatures.iter().any(|one| one.matches(total));
            let found = traced::take_by_flow(case, 1.0, too_big, |total, flow| {
                let sender = flow.source.address;
                message_to(sender, total.netns).map(|_| sender)
            });
            for (sender, group) in found {
                let Some((_, message)) = message_to(sender, group.netns) else { continue };
                let place = message.netns.map(|inode| case.netns_ref(inode));
                let place = place.map_or("an unknown namespace".into(), |netns| {
                    netns.name.unwrap_or_else(|| "the namespace without a name".into())
                });
                let dropped = format!("{} in {}", message.reason, message.site.symbol);
                let group = group.agreed([EvidenceItem::new(
                    EvidenceKind::Tracer,
                    format!("ICMP \"too big\" to {sender} dropped in {place}"),
                    dropped.clone(),
                )]);
                let there = message.netns.and_then(|inode| case.evidence().namespace(inode));
                let list = there.and_then(|here| command::within(here, "nft -a list ruleset"));
                let list = list.map(|line| format!("; its rules: `{line}`")).unwrap_or_default();
                let told = Told {
                    variant: Some("icmp-filtered"),
                    object: Some(format!("filter in {place} that drops ICMP to {sender}")),
                    summary: format!(
                        "{sender} sends packets to {} that are too big for the next link, and never \
                         learns it: the ICMP message is dropped in {place} ({dropped})",
                        group.targets()
                    ),
                    cure: format!(
                        "Let the message through in {place} (nft: `icmp type destination-unreachable icmp \
                         code frag-needed accept`, `icmpv6 type packet-too-big accept` before the rule that drops{list}); \
                         otherwise clamp the MSS on this router (`tcp option maxseg size set rt mtu`) or \
                         set net.ipv4.tcp_mtu_probing=1 on {sender}, which both help TCP alone"
                    ),
                    command: None,
                    useless: &[
                        "net.ipv4.ip_no_pmtu_disc: it is the message that is lost, not the discovery",
                        "retries and larger buffers: a packet of that size never passes",
                    ],
                };
                group.conclude(case, ID, Severity::Critical, kind, told);
            }
        }
    }
}

/// Dropped messages "fragmentation needed" and "packet too big", by whom they were for.
fn silenced(exemplars: &[Exemplar]) -> Vec<(IpAddr, &Exemplar)> {
    let too_big = |one: &&Exemplar| {
        let icmp = one.flow.as_ref().and_then(|flow| Some((flow.protocol, flow.icmp?)));
        matches!(icmp, Some((1, (3, 4)) | (58, (2, _))))
    };
    let messages = exemplars.iter().filter(too_big);
    messages.filter_map(|one| Some((one.flow.as_ref()?.destination.address, one))).collect()
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Evidence, Exemplar};

    use crate::{Thresholds, diagnose, sample};

    fn too_big() -> Evidence {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "Ip.FragFails", 15);
        let total = sample::total("PKT_TOO_BIG", "ip_forward", 15);
        evidence.tracer.exemplars = vec![sample::exemplar(&total, 1000)];
        evidence.tracer.totals = vec![total];
        evidence
    }

    /// The ICMP message to this address, dropped by a filter.
    fn message(to: &str, icmp: (u8, u8)) -> Exemplar {
        let dropped = sample::total("NETFILTER_DROP", "nft_do_chain", 1);
        let mut exemplar = sample::exemplar(&dropped, 1);
        let flow = exemplar.flow.as_mut().expect("a flow");
        flow.destination.address = to.parse().expect("an address");
        (flow.protocol, flow.icmp) = (1, Some(icmp));
        exemplar
    }

    fn cause(evidence: &Evidence) -> String {
        diagnose(evidence, &Thresholds::default()).findings[0].cause.clone()
    }

    #[test]
    fn a_message_dropped_on_its_way_makes_a_black_hole() {
        let mut evidence = too_big();
        evidence.tracer.exemplars.push(message("192.0.2.1", (3, 4)));
        let report = diagnose(&evidence, &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!((finding.cause.as_str(), finding.packets), ("pmtu-blackhole", 15));
        assert_eq!(finding.variant.as_deref(), Some("icmp-filtered"));
        assert!(finding.remedies[0].summary.contains("ip netns exec b nft -a list ruleset"));
    }

    #[test]
    fn the_same_address_elsewhere_is_another_host() {
        let mut evidence = too_big();
        let mut elsewhere = message("192.0.2.1", (3, 4));
        elsewhere.netns = Some(77);
        evidence.tracer.exemplars.push(elsewhere);
        assert_eq!(cause(&evidence), "path-mtu-exceeded");
    }

    #[test]
    fn other_messages_and_those_to_others_do_not() {
        assert_eq!(cause(&too_big()), "path-mtu-exceeded");
        for other in [message("192.0.2.1", (3, 3)), message("192.0.2.7", (3, 4))] {
            let mut evidence = too_big();
            evidence.tracer.exemplars.push(other);
            assert_eq!(cause(&evidence), "path-mtu-exceeded");
        }
    }
}
