//! Holds a report against what the lab knows to be true. Pure: the truth was gathered before.
//!
//! As a rule one scenario was played while the diagnosis watched. If there were several, each has
//! its own truth, and the report owes what all of them expect and nothing else.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use whydrop_model::{Class, Finding, NetnsRef, ProcessRef, Report, Verdict};

use crate::Tally;
use crate::counters::{self, Values};
use crate::diagnosis::Answer;
use crate::scenario::{Amount, Expectation, Least, Scenario};

mod contract;

/// What really happened.
pub(crate) struct Truth<'a> {
    pub(crate) scenario: &'a Scenario,
    /// Namespace of each role.
    pub(crate) namespaces: BTreeMap<&'a str, NetnsRef>,
    /// Process of each server.
    pub(crate) processes: BTreeMap<&'a str, ProcessRef>,
    /// What the traffic did.
    pub(crate) played: Played,
}

/// What the traffic of a scenario did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Played {
    /// What the counters grew by from when the program watched until they had come to a rest.
    pub(crate) moved: Values,
    /// What they grew by from before it was started until it was done, should they have moved besides.
    pub(crate) at_most: Values,
    /// How each piece of traffic went.
    pub(crate) traffic: Vec<Tally>,
}

/// What there is to say about a report.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) got: String,
    pub(crate) packets_got: Option<u64>,
    pub(crate) ledger_remainder: Option<u64>,
    pub(crate) failures: Vec<String>,
}

/// True for the classes whose packets are lost.
fn is_loss(class: Class) -> bool {
    matches!(class, Class::Fault | Class::Policy | Class::Peer)
}

/// What the scenarios expect, in a few words.
pub(crate) fn expected(truths: &[Truth<'_>]) -> String {
    let of = |truth: &Truth<'_>| {
        let one = |expectation: &Expectation| {
            let Expectation { cause, variant, netns, .. } = expectation;
            name(cause, &variant.join("|"), &role(truths, truth, netns))
        };
        truth.scenario.expect.iter().map(one).collect::<Vec<_>>()
    };
    let expected: Vec<_> = truths.iter().flat_map(of).collect();
    if expected.is_empty() { "clean".into() } else { expected.join(", ") }
}

/// Packets that the expected findings should count together; `None` if none is expected.
pub(crate) fn packets(truths: &[Truth<'_>]) -> Option<u64> {
    truths.iter().filter_map(Truth::packets).reduce(|sum, packets| sum + packets)
}

/// Where the scenarios did not do what they claim to. If there is anything, no report can be judged
/// by them.
pub(crate) fn unproved(truths: &[Truth<'_>]) -> Vec<String> {
    let of = |truth| told(truths, truth, Truth::unproved(truth));
    truths.iter().flat_map(of).collect()
}

/// Judges an answer about all that was played.
pub(crate) fn judge(truths: &[Truth<'_>], answer: &Answer) -> Judgement {
    let report = match &answer.report {
        Ok(report) => report,
        Err(why) => {
            let got = "no report".into();
            return Judgement { got, failures: vec![why.clone()], ..Judgement::default() };
        }
    };
    let mut failures = contract::broken(truths, report, answer.exit);
    let mut packets_got = None;
    let mut wanted = Vec::new();
    for truth in truths {
        let mut own = Vec::new();
        for expectation in &truth.scenario.expect {
            match truth.find(expectation, report, &wanted) {
                Err(_) if expectation.class == Class::Benign => {
                    own.extend(truth.against_ledger(expectation, report, &mut packets_got));
                }
                Ok(finding) => {
                    own.extend(truth.against_expectation(expectation, finding, report));
                    packets_got = Some(packets_got.unwrap_or(0) + finding.packets);
                    wanted.push(finding);
                }
                Err(None) => own.push(format!("{} was not found", expectation.cause)),
                Err(Some(other)) => {
                    let Expectation { cause, netns, .. } = expectation;
                    let other = describe(truths, other);
                    own.push(format!("{cause} is not in {netns} but: {other}"));
                }
            }
        }
        failures.extend(told(truths, truth, own));
    }
    for finding in &report.findings {
        // What is in no namespace of theirs is nobody's: all have a say.
        let inode = finding.site.netns.as_ref().and_then(|netns| netns.inode);
        let mut concerned = truths.iter().filter(|truth| truth.has(inode)).peekable();
        let forbidden = match concerned.peek() {
            Some(_) => concerned.any(|truth| truth.forbids(finding)),
            None => truths.iter().any(|truth| truth.forbids(finding)),
        };
        let reached = truths.iter().any(|truth| truth.reaches(inode, finding));
        if forbidden && !reached && !wanted.iter().any(|known| std::ptr::eq(*known, finding)) {
            let Finding { packets, .. } = finding;
            failures.push(format!("found {} too: {packets} packets", describe(truths, finding)));
        }
    }
    Judgement {
        got: got(truths, report),
        packets_got,
        ledger_remainder: Some(report.ledger.unexplained),
        failures,
    }
}

/// What was found, in a few words.
fn got(truths: &[Truth<'_>], report: &Report) -> String {
    let expected = |finding: &Finding| {
        let mut all = truths.iter().flat_map(|truth| &truth.scenario.expect);
        all.any(|expectation| expectation.cause == finding.cause)
    };
    let told = |finding: &&Finding| is_loss(finding.class) || expected(finding);
    let got: Vec<_> =
        report.findings.iter().filter(told).map(|finding| describe(truths, finding)).collect();
    match report.verdict {
        Verdict::Incomplete => "incomplete".into(),
        _ if !got.is_empty() => got.join(", "),
        Verdict::Clean => "clean".into(),
        Verdict::Loss => "loss without a finding".into(),
    }
}

fn describe(truths: &[Truth<'_>], finding: &Finding) -> String {
    let inode = finding.site.netns.as_ref().and_then(|netns| netns.inode);
    let place = truths.iter().find_map(|truth| {
        let (name, _) = truth.namespaces.iter().find(|(_, netns)| netns.inode == inode)?;
        Some(role(truths, truth, name))
    });
    let place = place.unwrap_or_else(|| "another namespace".into());
    name(&finding.cause, finding.variant.as_deref().unwrap_or_default(), &place)
}

/// A role, with its scenario if there are several.
fn role(truths: &[Truth<'_>], truth: &Truth<'_>, role: &str) -> String {
    if truths.len() > 1 { format!("{role} of {}", truth.scenario.name) } else { role.to_owned() }
}

/// What is wrong about a scenario, with its name if there are several.
fn told(truths: &[Truth<'_>], truth: &Truth<'_>, failures: Vec<String>) -> Vec<String> {
    let tell = |failure| {
        if truths.len() > 1 { format!("{}: {failure}", truth.scenario.name) } else { failure }
    };
    failures.into_iter().map(tell).collect()
}

impl Truth<'_> {
    /// Packets that the expected findings should count together; `None` if none is expected.
    pub(crate) fn packets(&self) -> Option<u64> {
        let expect = &self.scenario.expect;
        let sum = || expect.iter().map(|expectation| *self.range_of(expectation).start()).sum();
        (!expect.is_empty()).then(sum)
    }

    /// The numbers of packets that are right: as a rule just one.
    fn range_of(&self, expectation: &Expectation) -> RangeInclusive<u64> {
        let sent = self.scenario.sent(&self.played.traffic);
        let terms = &expectation.packets_from;
        let sum = |values| counters::sum(terms, values, &sent).try_into().unwrap_or(0);
        sum(&self.played.moved)..=sum(&self.played.at_most)
    }

    /// As [`Truth::range_of`], less what the report says that its tracer could not record: drops in an
    /// interrupt that comes while the kernel counts another one are refused by the kernel.
    fn range_in(&self, expectation: &Expectation, report: &Report) -> RangeInclusive<u64> {
        let (least, most) = self.range_of(expectation).into_inner();
        least.saturating_sub(report.tracer.lost)..=most
    }

    /// Where the scenario did not do what it claims to. If there is anything, no report can be
    /// judged by it.
    pub(crate) fn unproved(&self) -> Vec<String> {
        let mut unproved = Vec::new();
        for (counter, &amount) in &self.scenario.counters {
            let grew = self.played.moved.get(counter).copied().unwrap_or(0);
            if !amount.holds(grew) {
                let meant = match amount {
                    Amount::Exactly(exactly) => exactly.to_string(),
                    Amount::AtLeast(Least { min }) => format!("at least {min}"),
                };
                unproved.push(format!("the lab: {counter} grew by {grew}, {meant} was meant"));
            }
        }
        for (number, Tally { pending, failed, .. }) in self.played.traffic.iter().enumerate() {
            if self.scenario.healthy && pending + failed > 0 {
                let number = number + 1;
                let what = format!("traffic {number} has {pending} pending and {failed} failed");
                unproved.push(format!("the lab: {what}, though nothing is wrong"));
            }
        }
        unproved
    }

    /// Whether a namespace is one of its own.
    fn has(&self, inode: Option<u64>) -> bool {
        self.namespaces.values().any(|netns| netns.inode == inode)
    }

    /// True if this is what the scenario does to namespaces that are not its own: what it overflows
    /// or sets is not a namespace's own.
    fn reaches(&self, netns: Option<u64>, finding: &Finding) -> bool {
        let causes = || self.scenario.expect.iter().map(|expectation| &expectation.cause);
        self.scenario.alone.is_some()
            && !self.has(netns)
            && causes().any(|cause| *cause == finding.cause)
    }

    /// True if a finding that was not expected may not be there.
    fn forbids(&self, finding: &Finding) -> bool {
        is_loss(finding.class) || self.scenario.quiet.contains(&finding.cause)
    }

    /// The finding that an expectation means, by cause and namespace. If there are several, one per
    /// object, it is the one whose object, or else device, or else number of packets, is right, and no
    /// other expectation has taken. If there is none, one of the same cause that is elsewhere.
    fn find<'r>(
        &self,
        expectation: &Expectation,
        report: &'r Report,
        taken: &[&'r Finding],
    ) -> Result<&'r Finding, Option<&'r Finding>> {
        let Expectation { cause, netns, .. } = expectation;
        let place = self.namespaces.get(netns.as_str()).and_then(|place| place.inode);
        let same = || report.findings.iter().filter(|finding| finding.cause == *cause);
        let inode = |finding: &Finding| finding.site.netns.as_ref().and_then(|place| place.inode);
        let packets = self.range_of(expectation);
        let likeness = |finding: &&Finding| {
            let object = finding.site.object.as_deref().unwrap_or_default();
            let named = expectation.object.as_ref().is_some_and(|it| object.contains(it.as_str()));
            let device = finding.site.device.as_ref();
            let at_device = expectation.device.as_ref().is_some_and(|it| Some(it) == device);
            (named, at_device, packets.contains(&finding.packets))
        };
        let free = |finding: &&Finding| !taken.iter().any(|it| std::ptr::eq(*it, *finding));
        let here = same().filter(|finding| inode(finding) == place).filter(free);
        // The first of those that are equally alike: the report begins with what matters most.
        if let Some(finding) = here.rev().max_by_key(likeness) {
            return Ok(finding);
        }
        Err(same().next())
    }

    /// Noise need not be a finding: an entry of the ledger will do.
    fn against_ledger(
        &self,
        expectation: &Expectation,
        report: &Report,
        packets_got: &mut Option<u64>,
    ) -> Option<String> {
        let Expectation { cause, netns, .. } = expectation;
        let place = self.namespaces.get(netns.as_str()).and_then(|place| place.inode);
        let entries = report.ledger.entries.iter().filter(|entry| {
            let site = entry.site.netns.as_ref().and_then(|place| place.inode);
            entry.cause == *cause && site == place
        });
        let got = entries.map(|entry| entry.packets).sum();
        *packets_got = Some(packets_got.unwrap_or(0) + got);
        let packets = self.range_in(expectation, report);
        let meant = self.range_of(expectation).into_inner().0;
        (!packets.contains(&got))
            .then(|| format!("{cause}: the ledger of {netns} has {got} packets of it, not {meant}"))
    }

    fn against_expectation(
        &self,
        expectation: &Expectation,
        finding: &Finding,
        report: &Report,
    ) -> Vec<String> {
        let cause = &expectation.cause;
        let mut failures = Vec::new();
        let mut differs = |what: &str, got: String, meant: String| {
            if got != meant {
                failures.push(format!("{cause}: {what} is {got}, not {meant}"));
            }
        };
        let variants = &expectation.variant;
        let variant = finding.variant.clone().unwrap_or_else(|| "undecided".into());
        if !variants.is_empty() && !variants.contains(&variant) {
            differs("variant", variant, variants.join(" or "));
        }
        differs("class", format!("{:?}", finding.class), format!("{:?}", expectation.class));
        let packets = self.range_in(expectation, report);
        if !packets.contains(&finding.packets) {
            let (got, meant) = (finding.packets, self.range_of(expectation).into_inner().0);
            differs("packets", got.to_string(), meant.to_string());
        }
        let netns = |netns: Option<&NetnsRef>| {
            netns.and_then(|netns| netns.name.clone()).unwrap_or_else(|| "unnamed".into())
        };
        let place = self.namespaces.get(expectation.netns.as_str());
        differs("namespace", netns(finding.site.netns.as_ref()), netns(place));
        if let Some(device) = &expectation.device {
            let got = finding.site.device.clone().unwrap_or_else(|| "unnamed".into());
            differs("device", got, device.clone());
        }
        if let Some(object) = &expectation.object {
            let got = finding.site.object.clone().unwrap_or_else(|| "unnamed".into());
            if !got.contains(object.as_str()) {
                differs("object", got, object.clone());
            }
        }
        if let Some(server) = &expectation.server {
            let listener = self.scenario.listener(server);
            let socket = listener.and_then(|listener| listener.socket(self.scenario));
            let socket = socket.unwrap_or_default();
            let got = finding.site.socket.clone().unwrap_or_else(|| "unnamed".into());
            differs("socket", got, socket);
            let process = |process: Option<&ProcessRef>| match process {
                Some(ProcessRef { pid, comm }) => format!("{comm} ({pid})"),
                None => "unnamed".into(),
            };
            let owner = self.processes.get(server.as_str());
            differs("process", process(finding.site.process.as_ref()), process(owner));
        }
        failures
    }
}

fn name(cause: &str, variant: &str, netns: &str) -> String {
    let variant = if variant.is_empty() { String::new() } else { format!(" ({variant})") };
    format!("{cause}{variant} in {netns}")
}

#[cfg(test)]
mod tests;
