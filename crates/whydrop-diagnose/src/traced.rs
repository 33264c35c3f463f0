//! Drops that a rule took by their signatures, gathered by the place where they happened.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use whydrop_model::{
    Confidence, DropTotal, Evidence, EvidenceItem, EvidenceKind, Exemplar, Flow, Link, Namespace,
    Remedy, Severity, Site, SocketRef,
};

use crate::case::{self, Case, Claim, Conclusion, Loss};
use crate::holders::{self, Holder};
use crate::signature::Signature;
use crate::{command, share};

/// Names listed in a sentence before "and others".
const LISTED: usize = 3;

/// A variant of a cause that its signatures tell.
pub(crate) struct Kind {
    /// The variant; `None` if the cause has none or it stays undecided.
    pub(crate) variant: Option<&'static str>,
    /// What bears it.
    pub(crate) signatures: &'static [Signature],
    /// Counters of the kernel that count the same; empty if there are none.
    pub(crate) counters: &'static [&'static str],
}

/// What a rule says of a group.
#[derive(Default)]
pub(crate) struct Told {
    /// The variant, where flows or facts decide it and not the signature; `None` leaves the kind's.
    pub(crate) variant: Option<&'static str>,
    /// What must be edited.
    pub(crate) object: Option<String>,
    /// One sentence that names the thing to change.
    pub(crate) summary: String,
    /// The cure.
    pub(crate) cure: String,
    /// A command to run in the namespace, as typed there.
    pub(crate) command: Option<String>,
    /// What would not help, with the reason.
    pub(crate) useless: &'static [&'static str],
}

/// Concludes a cause that is told by its signatures alone, for each kind and namespace. It is
/// confirmed where a counter of the kernel agrees.
pub(crate) fn conclude(
    case: &mut Case<'_>,
    cause: &'static str,
    severity: Severity,
    kinds: &[Kind],
    tell: impl Fn(&Group<'_>, Option<&'static str>) -> Told,
) {
    for kind in kinds {
        for group in take(case, kind.signatures) {
            let told = tell(&group, kind.variant);
            group.conclude(case, cause, severity, kind, told);
        }
    }
}

impl Group<'_> {
    /// Concludes a cause for this group.
    pub(crate) fn conclude(
        &self,
        case: &mut Case<'_>,
        cause: &'static str,
        severity: Severity,
        kind: &Kind,
        told: Told,
    ) {
        let group = self;
        let mut agreeing = group.counters(kind.counters);
        agreeing.extend(group.agreeing.iter().cloned());
        let within = |line: String| command::within(group.namespace?, &line);
        let conclusion = Conclusion {
            variant: told.variant.or(kind.variant),
            severity,
            confidence: group.confidence(&agreeing),
            loss: group.loss(case, kind.counters),
            site: group.site_at_socket(case, told.object),
            summary: told.summary,
            evidence: group.proof().into_iter().chain(agreeing).collect(),
            remedies: vec![Remedy {
                summary: told.cure,
                commands: told.command.and_then(within).into_iter().collect(),
                useless: told.useless.iter().map(ToString::to_string).collect(),
            }],
        };
        case.conclude(cause, conclusion);
    }
}

/// Drops of one kind in one namespace (and on one device, if all were on the same).
#[derive(Debug)]
pub(crate) struct Group<'e> {
    /// Inode of the namespace; `None` if the packets did not tell.
    pub(crate) netns: Option<u64>,
    /// The namespace, if it is among the evidence.
    pub(crate) namespace: Option<&'e Namespace>,
    /// The device, if it was the same for all.
    pub(crate) device: Option<&'e str>,
    /// How many.
    pub(crate) packets: u64,
    /// What was taken.
    claims: Vec<Claim<'e>>,
    /// Some of them in detail.
    exemplars: Vec<&'e Exemplar>,
    /// What else says so.
    agreeing: Vec<EvidenceItem>,
    /// How many there are follows from the share that they have among those seen in detail.
    estimated: bool,
}

/// Takes all open drops that bear one of the signatures; one group per namespace.
pub(crate) fn take<'e>(case: &mut Case<'e>, signatures: &[Signature]) -> Vec<Group<'e>> {
    let claims = case.claim(|total| signatures.iter().any(|signature| signature.matches(total)));
    gather(case, claims)
}

/// Takes open drops that `belong` and whose flows `sort` gives a key; one group for each namespace
/// and key. Of a total whose flows differ, each key gets the share that it has among those seen in
/// detail. Groups of fewer packets than `least` stay open, and so do drops seen without a flow.
pub(crate) fn take_by_flow<'e, K: Ord + Clone>(
    case: &mut Case<'e>,
    least: f64,
    belongs: impl Fn(&DropTotal) -> bool,
    sort: impl Fn(&'e DropTotal, &'e Flow) -> Option<K>,
) -> Vec<(K, Group<'e>)> {
    let mut found: BTreeMap<(Option<u64>, K), Vec<Share<'e>>> = BTreeMap::new();
    for Claim { total, packets } in case.open().filter(|claim| belongs(claim.total)) {
        let mut kinds: BTreeMap<Option<K>, Vec<(usize, &Exemplar)>> = BTreeMap::new();
        for (at, exemplar) in case.exemplars_of(total) {
            let Some(flow) = &exemplar.flow else { continue };
            kinds.entry(sort(total, flow)).or_default().push((at, exemplar));
        }
        let estimated = kinds.len() > 1;
        let weighted = kinds.into_iter().map(|(key, seen)| {
            let weight = seen.len() as u64;
            ((key, seen), weight)
        });
        for ((key, exemplars), packets) in share::split(packets, weighted) {
            let Some(key) = key else { continue };
            let share = Share { total, packets, exemplars, estimated };
            found.entry((total.netns, key)).or_default().push(share);
        }
    }
    let sum = |shares: &[Share<'_>]| shares.iter().map(|one| one.packets).sum::<u64>();
    let enough = |shares: &[Share<'_>]| sum(shares) as f64 >= least;
    let mut groups = Vec::new();
    for ((netns, key), shares) in found.into_iter().filter(|(_, shares)| enough(shares)) {
        let mut claims = Vec::new();
        for share in &shares {
            claims.extend(case.claim_up_to(share.packets, |one| std::ptr::eq(one, share.total)));
            case.set_aside(share.exemplars.iter().map(|(at, _)| *at));
        }
        let mut group = Group::new(case, netns, claims);
        group.estimated = shares.iter().any(|share| share.estimated);
        group.exemplars =
            shares.into_iter().flat_map(|share| share.exemplars).map(|(_, one)| one).collect();
        groups.push((key, group));
    }
    groups
}

/// The part of a total that goes by one key.
struct Share<'e> {
    total: &'e DropTotal,
    packets: u64,
    exemplars: Vec<(usize, &'e Exemplar)>,
    estimated: bool,
}

/// Gathers what was claimed; one group per namespace.
pub(crate) fn gather<'e>(case: &Case<'e>, claims: Vec<Claim<'e>>) -> Vec<Group<'e>> {
    let by_netns = case::by_netns(claims);
    by_netns.into_iter().map(|(netns, claims)| Group::new(case, netns, claims)).collect()
}

/// Gathers what was claimed; one group per device.
pub(crate) fn by_device<'e>(case: &Case<'e>, claims: Vec<Claim<'e>>) -> Vec<Group<'e>> {
    let mut groups: BTreeMap<(Option<u64>, u32), Vec<_>> = BTreeMap::new();
    for claim in claims {
        groups.entry((claim.total.netns, claim.total.ifindex)).or_default().push(claim);
    }
    groups.into_iter().map(|((netns, _), claims)| Group::new(case, netns, claims)).collect()
}

/// The device behind one of this namespace, as [`Group::link_behind`] has it.
pub(crate) fn behind<'e>(
    evidence: &'e Evidence,
    namespace: &'e Namespace,
    link: &Link,
) -> Option<(&'e Namespace, &'e Link)> {
    let lower = link.lower?;
    let namespace = match lower.netnsid {
        None => namespace,
        Some(_) => evidence.namespace(lower.netns?)?,
    };
    let mut links = namespace.links.iter();
    Some((namespace, links.find(|other| other.ifindex == lower.ifindex)?))
}

impl<'e> Group<'e> {
    fn new(case: &Case<'e>, netns: Option<u64>, claims: Vec<Claim<'e>>) -> Self {
        let evidence = case.evidence();
        let devices: BTreeSet<_> =
            claims.iter().map(|claim| claim.total.device.as_deref()).collect();
        let mut devices = devices.into_iter();
        let device = devices.next().flatten().filter(|_| devices.next().is_none());
        let exemplars = claims.iter().flat_map(|claim| case.exemplars_of(claim.total));
        let exemplars: BTreeMap<usize, &Exemplar> = exemplars.collect();
        Self {
            netns,
            namespace: netns.and_then(|inode| evidence.namespace(inode)),
            device,
            packets: claims.iter().map(|claim| claim.packets).sum(),
            exemplars: exemplars.into_values().collect(),
            claims,
            agreeing: Vec::new(),
            estimated: false,
        }
    }

    /// How sure it is what became of these, if these counters of the kernel agree.
    pub(crate) fn confidence(&self, counters: &[EvidenceItem]) -> Confidence {
        if counters.is_empty() || self.estimated {
            Confidence::Likely
        } else {
            Confidence::Confirmed
        }
    }

    /// With further evidence that agrees: what is concluded is then confirmed.
    pub(crate) fn agreed(mut self, evidence: impl IntoIterator<Item = EvidenceItem>) -> Self {
        self.agreeing.extend(evidence);
        self
    }

    /// Those seen in detail.
    pub(crate) fn exemplars(&self) -> &[&'e Exemplar] {
        &self.exemplars
    }

    /// The device, if it was the same for all and is among the evidence.
    pub(crate) fn link(&self) -> Option<&'e Link> {
        let ifindex = self.first()?.ifindex;
        let same = self.claims.iter().all(|claim| claim.total.ifindex == ifindex);
        let mut links = self.namespace.filter(|_| same)?.links.iter();
        links.find(|link| link.ifindex == ifindex)
    }

    /// The device behind this one with its namespace, if it is among the evidence: the other end of a
    /// veth pair, the lower device of a VLAN or macvlan.
    pub(crate) fn link_behind(&self, evidence: &'e Evidence) -> Option<(&'e Namespace, &'e Link)> {
        behind(evidence, self.namespace?, self.link()?)
    }

    /// Growth of the device's counters, those that grew.
    pub(crate) fn link_counters(&self, names: &[&str]) -> Vec<EvidenceItem> {
        let Some(link) = self.link() else { return Vec::new() };
        let grown = |name: &&str| {
            let delta = link.stats.get(*name)?.delta();
            let name = format!("{} {name}", link.name);
            (delta > 0).then(|| EvidenceItem::new(EvidenceKind::Counter, name, delta))
        };
        names.iter().filter_map(grown).collect()
    }

    /// Where they happened, with the thing to edit.
    pub(crate) fn site(&self, case: &Case<'_>, object: Option<String>) -> Site {
        Site { device: self.device.map(Into::into), object, ..case.site_of(self.netns) }
    }

    /// As [`Group::site`], with the socket that all those seen in detail were for, if there is one.
    pub(crate) fn site_at_socket(&self, case: &Case<'_>, object: Option<String>) -> Site {
        let site = self.site(case, object);
        match self.holder() {
            Some(holder) => holder.at(site),
            None => site,
        }
    }

    /// What the tracer saw, by reason and function.
    pub(crate) fn proof(&self) -> Vec<EvidenceItem> {
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for claim in &self.claims {
            let symbol = claim.total.site.as_ref().map_or("?", |site| site.symbol.as_str());
            *seen.entry(format!("{}@{symbol}", claim.total.given())).or_default() += claim.packets;
        }
        seen.into_iter()
            .map(|(name, packets)| EvidenceItem::new(EvidenceKind::Tracer, name, packets))
            .collect()
    }

    /// The loss, matched with the growth of the namespace's counters of it: each packet moves one of
    /// them.
    pub(crate) fn loss(&self, case: &mut Case<'_>, counters: &[&'static str]) -> Loss {
        let mut counted = 0;
        for &counter in counters {
            let Some(namespace) = self.namespace else { break };
            let part = case.unbooked(namespace, counter).unwrap_or(0).min(self.packets - counted);
            case.book(namespace, counter, part);
            counted += part;
        }
        Loss { packets: self.packets, traced: self.packets, counted }
    }

    /// Growth of the namespace's counters, those that grew.
    pub(crate) fn counters(&self, names: &[&str]) -> Vec<EvidenceItem> {
        let grown = |name: &&str| {
            let delta = self.namespace?.delta(name).filter(|delta| *delta > 0)?;
            Some(EvidenceItem::new(EvidenceKind::Counter, *name, delta))
        };
        names.iter().filter_map(grown).collect()
    }

    /// One of the totals that make it up.
    pub(crate) fn first(&self) -> Option<&'e DropTotal> {
        self.claims.first().map(|claim| claim.total)
    }

    /// Mean `skb->len`, in bytes; `None` if there are none.
    pub(crate) fn mean_length(&self) -> Option<u64> {
        let (bytes, packets) = self.claims.iter().fold((0, 0), |(bytes, packets), claim| {
            (bytes + claim.total.bytes, packets + claim.total.packets)
        });
        bytes.checked_div(packets)
    }

    /// Flows of those seen in detail.
    pub(crate) fn flows(&self) -> impl Iterator<Item = &'e Flow> + '_ {
        self.exemplars.iter().filter_map(|one| one.flow.as_ref())
    }

    /// Destination ports, most frequent first among those seen in detail: `9000` or `53, 80 and
    /// others`; `None` if none was seen.
    pub(crate) fn ports(&self) -> Option<String> {
        listed(self.flows().filter_map(|flow| flow.destination.port).map(|port| port.to_string()))
    }

    /// Ports of the own end: of the sockets they were for, or else their destination ports.
    pub(crate) fn own_ports(&self) -> String {
        let sockets = self.exemplars.iter().filter_map(|one| one.socket.as_ref());
        let ports = sockets.map(|socket| socket.local_port).filter(|port| *port != 0);
        let own = listed(ports.map(|port| port.to_string()));
        own.or_else(|| self.ports()).unwrap_or_else(|| "?".into())
    }

    /// A socket that they were for, if one was seen in detail.
    pub(crate) fn socket(&self) -> Option<&'e SocketRef> {
        self.exemplars.iter().find_map(|one| one.socket.as_ref().filter(|it| it.inode != 0))
    }

    /// Destination addresses among those seen in detail.
    pub(crate) fn destinations(&self) -> Option<String> {
        listed(self.flows().map(|flow| flow.destination.address.to_string()))
    }

    /// Source addresses among those seen in detail, or words for "not seen".
    pub(crate) fn sources(&self) -> String {
        listed(self.flows().map(|flow| flow.source.address.to_string()))
            .unwrap_or_else(|| "senders not seen in detail".into())
    }

    /// Destination addresses, or words for "not seen".
    pub(crate) fn targets(&self) -> String {
        self.destinations().unwrap_or_else(|| "destinations not seen in detail".into())
    }

    /// IP protocol numbers.
    pub(crate) fn protocols(&self) -> String {
        let numbers = self.claims.iter().filter_map(|claim| claim.total.l4);
        listed(numbers.map(|number| number.to_string())).unwrap_or_else(|| "?".into())
    }

    /// The socket that all packets seen in detail were for; `None` if there is none, or several.
    pub(crate) fn holder(&self) -> Option<Holder<'e>> {
        let namespace = self.namespace?;
        let mut holders = self.exemplars.iter().map(|one| holders::of(namespace, one));
        let first = holders.next()??;
        let same = |other: Option<Holder<'_>>| other.is_some_and(|it| it.name() == first.name());
        holders.all(same).then_some(first)
    }

    /// The socket that holds the port elsewhere, in brackets, if there is one.
    pub(crate) fn nearby(&self) -> String {
        let near = self.flows().find_map(|flow| {
            let (namespace, ifindex) = (self.namespace?, self.first()?.ifindex);
            let (holder, _) = holders::nearest(namespace, flow, ifindex)?;
            Some(format!(" (nearest: {}, {})", holder.place(namespace), holder.owner()))
        });
        near.unwrap_or_default()
    }

    /// Every device that is known.
    pub(crate) fn devices(&self) -> BTreeSet<&'e str> {
        self.claims.iter().filter_map(|claim| claim.total.device.as_deref()).collect()
    }

    /// The device, or words for several.
    pub(crate) fn device_name(&self) -> &'e str {
        self.device.unwrap_or("several devices")
    }

    /// True if any of those seen in detail is IPv6.
    pub(crate) fn is_ipv6(&self) -> bool {
        self.claims.iter().any(|claim| claim.total.l3 == 0x86dd)
            || self.flows().any(|flow| matches!(flow.destination.address, IpAddr::V6(_)))
    }
}

/// The most frequent few, in words.
pub(crate) fn listed(names: impl Iterator<Item = String>) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    first_of(sorted.into_iter().map(|(name, _)| name).collect())
}

/// The first of these names, in words; `None` if there are none.
pub(crate) fn first_of(mut names: Vec<String>) -> Option<String> {
    let others = if names.len() > LISTED { " and others" } else { "" };
    names.truncate(LISTED);
    (!names.is_empty()).then(|| names.join(", ") + others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::drops;
    use crate::{Thresholds, sample};

    #[test]
    fn drops_are_gathered_by_namespace() {
        let mut evidence = sample::evidence();
        let here = sample::total("NO_SOCKET", "tcp_v4_rcv", 5);
        let mut there = here.clone();
        there.netns = None;
        let mut other_device = here.clone();
        other_device.device = Some("veth1".into());
        evidence.tracer.exemplars = vec![sample::exemplar(&here, 1000)];
        evidence.tracer.totals = vec![here, there, other_device];
        let mut case = Case::new(&evidence, Thresholds::default());
        let groups = take(&mut case, &[drops("NO_SOCKET", "tcp_v4_rcv")]);
        assert_eq!(groups.len(), 2);
        assert_eq!((groups[0].netns, groups[0].packets), (None, 5));
        assert_eq!((groups[1].packets, groups[1].device), (10, None));
        assert_eq!(groups[1].ports().as_deref(), Some("40000"));
        assert_eq!(groups[1].proof()[0].name, "NO_SOCKET@tcp_v4_rcv");
        assert_eq!(case.open().count(), 0);
    }

    #[test]
    fn the_most_frequent_are_named_first() {
        let names = ["b", "a", "c", "b", "d"].map(String::from);
        assert_eq!(listed(names.into_iter()).as_deref(), Some("b, a, c and others"));
        assert_eq!(listed(std::iter::empty()), None);
    }
}
