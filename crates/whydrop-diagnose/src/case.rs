//! The open books of one diagnosis: what is still unexplained, and what has been booked where.

use std::collections::{BTreeMap, BTreeSet};

use whydrop_model::{
    Class, Confidence, DropTotal, Evidence, EvidenceItem, Exemplar, Finding, LedgerEntry, Link,
    Namespace, NetnsRef, NotChecked, Remedy, Severity, Site,
};

use crate::causes;
use crate::thresholds::Thresholds;

/// The state that rules work on. Drops and counter growth are taken out as they are explained;
/// what is left at the end is the unexplained remainder.
pub struct Case<'e> {
    evidence: &'e Evidence,
    thresholds: Thresholds,
    open: Vec<(&'e DropTotal, u64)>,
    /// Exemplars, by index, whose packets were taken for what their flow told.
    told: BTreeSet<usize>,
    counters: BTreeMap<(u64, &'static str), u64>,
    fields: BTreeMap<(u64, u32, &'static str), u64>,
    entries: Vec<LedgerEntry>,
    findings: Vec<Finding>,
    unknown: Vec<NotChecked>,
}

/// Drops taken out of one total.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'e> {
    /// Where they came from.
    pub total: &'e DropTotal,
    /// How many of them.
    pub packets: u64,
}

/// How many packets, and who says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    /// Best estimate.
    pub packets: u64,
    /// What the tracer counted.
    pub traced: u64,
    /// What counters say.
    pub counted: u64,
}

impl Loss {
    /// Packets that only the tracer saw.
    #[must_use]
    pub fn traced(packets: u64) -> Self {
        Self { packets, traced: packets, counted: 0 }
    }

    fn add_to(self, entry: &mut LedgerEntry) {
        entry.packets += self.packets;
        entry.traced += self.traced;
        entry.counted += self.counted;
    }

    /// Packets that only a counter saw.
    #[must_use]
    pub fn counted(packets: u64) -> Self {
        Self { packets, traced: 0, counted: packets }
    }
}

/// What a rule has to say; the cause adds class and layer.
#[derive(Debug, Clone)]
pub struct Conclusion {
    /// Variant of the cause; `None` if undecided or none exist.
    pub variant: Option<&'static str>,
    /// How urgent.
    pub severity: Severity,
    /// How sure.
    pub confidence: Confidence,
    /// How many packets.
    pub loss: Loss,
    /// Where.
    pub site: Site,
    /// One sentence that names the thing to change.
    pub summary: String,
    /// Why.
    pub evidence: Vec<EvidenceItem>,
    /// What to do.
    pub remedies: Vec<Remedy>,
}

impl<'e> Case<'e> {
    pub(crate) fn new(evidence: &'e Evidence, thresholds: Thresholds) -> Self {
        let open = evidence.tracer.totals.iter().map(|total| (total, total.packets)).collect();
        Self {
            evidence,
            thresholds,
            open,
            told: BTreeSet::new(),
            counters: BTreeMap::new(),
            fields: BTreeMap::new(),
            entries: Vec::new(),
            findings: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// The evidence itself.
    #[must_use]
    pub fn evidence(&self) -> &'e Evidence {
        self.evidence
    }

    /// Where lines are drawn.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// All namespaces.
    #[must_use]
    pub fn namespaces(&self) -> &'e [Namespace] {
        &self.evidence.namespaces
    }

    /// Takes every open drop that `belongs`.
    pub fn claim(&mut self, belongs: impl Fn(&DropTotal) -> bool) -> Vec<Claim<'e>> {
        self.claim_up_to(u64::MAX, belongs)
    }

    /// Takes open drops that `belong`, at most `limit` packets: for signatures that several causes
    /// share, where a counter says how many are of this one.
    pub fn claim_up_to(
        &mut self,
        limit: u64,
        belongs: impl Fn(&DropTotal) -> bool,
    ) -> Vec<Claim<'e>> {
        let mut left = limit;
        let mut claims = Vec::new();
        for (total, open) in &mut self.open {
            if *open == 0 || left == 0 || !belongs(total) {
                continue;
            }
            let packets = left.min(*open);
            *open -= packets;
            left -= packets;
            claims.push(Claim { total, packets });
        }
        claims
    }

    /// Drops that nobody has claimed so far.
    pub fn open(&self) -> impl Iterator<Item = Claim<'e>> + '_ {
        self.open
            .iter()
            .filter(|(_, packets)| *packets > 0)
            .map(|(total, packets)| Claim { total, packets: *packets })
    }

    /// Exemplars of these drops, with their index, without those that were set aside.
    pub(crate) fn exemplars_of(
        &self,
        total: &DropTotal,
    ) -> impl Iterator<Item = (usize, &'e Exemplar)> {
        let all = self.evidence.tracer.exemplars.iter().enumerate();
        all.filter(|(at, one)| one.is_of(total) && !self.told.contains(at))
    }

    /// Sets exemplars aside that went with a part of their total, so that the rest of it is not told
    /// by them.
    pub(crate) fn set_aside(&mut self, exemplars: impl IntoIterator<Item = usize>) {
        self.told.extend(exemplars);
    }

    /// Growth of a namespace's counter that no rule has booked yet; `None` if it was not readable.
    #[must_use]
    pub fn unbooked(&self, namespace: &Namespace, counter: &'static str) -> Option<u64> {
        let booked = self.counters.get(&(namespace.inode, counter)).copied().unwrap_or(0);
        namespace.delta(counter).map(|delta| delta.saturating_sub(booked))
    }

    /// Books growth of a namespace's counter.
    pub fn book(&mut self, namespace: &Namespace, counter: &'static str, packets: u64) {
        *self.counters.entry((namespace.inode, counter)).or_default() += packets;
    }

    /// Growth of a field of `rtnl_link_stats64` that no rule has booked yet.
    #[must_use]
    pub fn unbooked_field(&self, namespace: &Namespace, link: &Link, field: &'static str) -> u64 {
        let booked = self.fields.get(&(namespace.inode, link.ifindex, field)).copied().unwrap_or(0);
        link.stats.get(field).map_or(0, |pair| pair.delta()).saturating_sub(booked)
    }

    /// Books growth of a field of `rtnl_link_stats64`.
    pub fn book_field(
        &mut self,
        namespace: &Namespace,
        link: &Link,
        field: &'static str,
        packets: u64,
    ) {
        *self.fields.entry((namespace.inode, link.ifindex, field)).or_default() += packets;
    }

    /// Books packets under a cause in the ledger. Accounts of the same cause and site are one.
    pub fn account(&mut self, cause: &'static str, loss: Loss, site: Site) {
        let same = |entry: &&mut LedgerEntry| entry.cause == cause && entry.site == site;
        if let Some(known) = self.entries.iter_mut().find(same) {
            loss.add_to(known);
            return;
        }
        let class = causes::find(cause).map(|cause| cause.class);
        self.entries.push(LedgerEntry {
            cause: cause.into(),
            packets: loss.packets,
            traced: loss.traced,
            counted: loss.counted,
            site,
            noise: class == Some(Class::Benign),
        });
    }

    /// Concludes that packets were lost to `cause`: a finding, and its account in the ledger. A
    /// cause of class info loses nothing; it gets a finding without packets and no account.
    pub fn conclude(&mut self, cause: &'static str, conclusion: Conclusion) {
        let Some(cause) = causes::find(cause) else {
            debug_assert!(false, "{cause} has no page");
            return;
        };
        let lossless = cause.class == Class::Info;
        let packets = if lossless { 0 } else { conclusion.loss.packets };
        if packets > 0 {
            self.account(cause.id, conclusion.loss, conclusion.site.clone());
        }
        self.findings.push(Finding {
            cause: cause.id.into(),
            variant: conclusion.variant.map(Into::into),
            class: cause.class,
            layer: cause.layer.into(),
            severity: conclusion.severity,
            confidence: conclusion.confidence,
            packets,
            site: conclusion.site,
            summary: conclusion.summary,
            evidence: conclusion.evidence,
            remedies: conclusion.remedies,
            follows: None,
        });
    }

    /// Adds packets to the only finding of a cause in a namespace, and to its account, with a further
    /// piece of evidence. False if there is none or more than one: then nothing is changed.
    pub(crate) fn enlarge(
        &mut self,
        cause: &str,
        netns: u64,
        more: Loss,
        evidence: &EvidenceItem,
    ) -> bool {
        let here = |site: &Site| site.netns.as_ref().and_then(|one| one.inode) == Some(netns);
        let mut found =
            self.findings.iter_mut().filter(|one| one.cause == cause && here(&one.site));
        let (Some(finding), None) = (found.next(), found.next()) else { return false };
        let same = |entry: &&mut LedgerEntry| entry.cause == cause && entry.site == finding.site;
        let Some(entry) = self.entries.iter_mut().find(same) else { return false };
        more.add_to(entry);
        finding.packets += more.packets;
        finding.evidence.push(evidence.clone());
        true
    }

    /// What has been found so far, in that order.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What has been booked so far.
    #[must_use]
    pub fn entries(&self) -> &[LedgerEntry] {
        &self.entries
    }

    /// Takes the packets of a finding, and its account, for the `cause` that it follows from. It stays,
    /// without packets, and says so; `object` is what must be changed for both.
    pub fn hand_over(&mut self, finding: usize, cause: &'static str, object: &str) -> Loss {
        let Some(finding) = self.findings.get_mut(finding) else { return Loss::default() };
        finding.packets = 0;
        finding.severity = Severity::Notice;
        finding.follows = Some(cause.into());
        finding.summary = format!("{} (follows from {cause}: {object})", finding.summary);
        finding.remedies = vec![Remedy {
            summary: format!("None of its own: it follows from {cause}: {object}"),
            commands: Vec::new(),
            useless: Vec::new(),
        }];
        let same = |entry: &LedgerEntry| entry.cause == finding.cause && entry.site == finding.site;
        let Some(at) = self.entries.iter().position(same) else { return Loss::default() };
        let LedgerEntry { packets, traced, counted, .. } = self.entries.remove(at);
        Loss { packets, traced, counted }
    }

    /// Says what a rule could not find out, and why, so that the reader knows what was not looked at.
    pub fn could_not_check(&mut self, what: String, why: &str) {
        self.unknown.push(NotChecked { what, why: why.into() });
    }

    /// The books, closed: findings, accounts, and what could not be found out.
    pub(crate) fn close(self) -> (Vec<Finding>, Vec<LedgerEntry>, Vec<NotChecked>) {
        (self.findings, self.entries, self.unknown)
    }

    /// The site of something known only by its namespace.
    #[must_use]
    pub fn site_of(&self, netns: Option<u64>) -> Site {
        Site { netns: netns.map(|inode| self.netns_ref(inode)), ..Site::default() }
    }

    /// A namespace as reports name it.
    #[must_use]
    pub fn netns_ref(&self, inode: u64) -> NetnsRef {
        let name = self.evidence.namespace(inode).and_then(|namespace| namespace.name.clone());
        NetnsRef { inode: Some(inode), name }
    }
}

/// Claims by the namespace in which their packets were dropped.
#[must_use]
pub fn by_netns(claims: Vec<Claim<'_>>) -> BTreeMap<Option<u64>, Vec<Claim<'_>>> {
    let mut groups: BTreeMap<Option<u64>, Vec<_>> = BTreeMap::new();
    for claim in claims {
        groups.entry(claim.total.netns).or_default().push(claim);
    }
    groups
}

/// Packets of several claims together.
#[must_use]
pub fn packets(claims: &[Claim<'_>]) -> u64 {
    claims.iter().map(|claim| claim.packets).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_packet_is_claimed_once() {
        let mut evidence = sample::evidence();
        evidence.tracer.totals = vec![
            sample::total("NO_SOCKET", "cookie_v4_check", 7),
            sample::total("NO_SOCKET", "tcp_v4_rcv", 5),
        ];
        let mut case = Case::new(&evidence, Thresholds::default());
        let some = case.claim_up_to(3, |total| total.reason == "NO_SOCKET");
        assert_eq!(packets(&some), 3);
        let rest = case.claim(|total| total.reason == "NO_SOCKET");
        assert_eq!(packets(&rest), 9);
        assert_eq!(case.open().count(), 0);
    }

    #[test]
    fn a_counter_is_booked_once() {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "TcpExt.ListenDrops", 10);
        let mut case = Case::new(&evidence, Thresholds::default());
        let namespace = &case.namespaces()[0];
        assert_eq!(case.unbooked(namespace, "TcpExt.ListenDrops"), Some(10));
        case.book(namespace, "TcpExt.ListenDrops", 4);
        assert_eq!(case.unbooked(namespace, "TcpExt.ListenDrops"), Some(6));
        assert_eq!(case.unbooked(namespace, "TcpExt.Absent"), None);
    }
}
