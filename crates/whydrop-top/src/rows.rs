//! What the laps add up to: layers, causes and kinds of drops, each with its history.

use std::collections::BTreeMap;
use std::time::Duration;

use whydrop_model::{Class, DropTotal, Exemplar, Finding, LayerState, Report};

use crate::Lap;
use crate::history::History;

/// Kinds of drops kept; a host that has more shows the largest.
const MOST_KINDS: usize = 4096;

/// Everything seen since the screen was opened or emptied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) laps: u64,
    /// Time observed.
    pub(crate) observed: Duration,
    /// Length of the latest lap in seconds.
    pub(crate) lap_seconds: f64,
    pub(crate) layers: Vec<LayerRow>,
    pub(crate) causes: Vec<CauseRow>,
    pub(crate) kinds: Vec<KindRow>,
    /// Drops traced.
    pub(crate) traced: History,
    /// Losses explained.
    pub(crate) explained: History,
    /// Losses that no cause explains.
    pub(crate) unexplained: History,
    /// Noise.
    pub(crate) benign: History,
    /// Drops that the tracer missed.
    pub(crate) missed: u64,
    /// Names of namespaces by inode.
    pub(crate) namespaces: BTreeMap<u64, String>,
    /// The latest report, for what surrounds the rows.
    pub(crate) latest: Option<Report>,
}

/// A layer of the stack.
#[derive(Debug, Clone)]
pub(crate) struct LayerRow {
    pub(crate) layer: &'static str,
    pub(crate) state: LayerState,
    pub(crate) history: History,
}

/// A cause at one place.
#[derive(Debug, Clone)]
pub(crate) struct CauseRow {
    /// As it was found last.
    pub(crate) finding: Finding,
    pub(crate) history: History,
}

/// Drops of one reason at one call site, in one namespace and on one device.
#[derive(Debug, Clone)]
pub(crate) struct KindRow {
    pub(crate) reason: String,
    pub(crate) site: String,
    pub(crate) netns: Option<u64>,
    pub(crate) device: Option<String>,
    pub(crate) history: History,
    /// The latest in detail.
    pub(crate) exemplar: Option<Exemplar>,
}

impl Seen {
    /// Adds a lap.
    pub(crate) fn add(&mut self, lap: Lap) {
        let Lap { report, totals, exemplars, namespaces, quiet } = lap;
        self.namespaces.extend(namespaces);
        self.laps += 1;
        let whole = Duration::try_from_secs_f64(report.window.seconds).unwrap_or_default();
        let length = whole.saturating_sub(quiet);
        self.lap_seconds = length.as_secs_f64();
        self.observed += length;
        self.traced.push(report.tracer.events);
        self.explained.push(report.ledger.explained);
        self.unexplained.push(report.ledger.unexplained);
        self.benign.push(report.ledger.benign);
        self.missed = self.missed.saturating_add(report.tracer.lost);
        self.add_layers(&report);
        self.add_causes(&report.findings);
        self.add_kinds(&totals, exemplars);
        self.latest = Some(report);
    }

    /// Adds a time in which nothing happened.
    pub(crate) fn rest(&mut self, length: Duration) {
        self.laps += 1;
        self.lap_seconds = length.as_secs_f64();
        self.observed += length;
        [&mut self.traced, &mut self.explained, &mut self.unexplained, &mut self.benign]
            .into_iter()
            .chain(self.layers.iter_mut().map(|row| &mut row.history))
            .chain(self.causes.iter_mut().map(|row| &mut row.history))
            .chain(self.kinds.iter_mut().map(|row| &mut row.history))
            .for_each(|history| history.push(0));
    }

    fn add_layers(&mut self, report: &Report) {
        for verdict in &report.layers {
            let known = self.layers.iter_mut().find(|row| row.layer == verdict.layer);
            if let Some(row) = known {
                row.state = verdict.state;
                row.history.push(verdict.packets);
            } else {
                let (layer, state) = (verdict.layer, verdict.state);
                let history = History::starting(verdict.packets);
                self.layers.push(LayerRow { layer, state, history });
            }
        }
    }

    fn add_causes(&mut self, findings: &[Finding]) {
        let mut new: Vec<CauseRow> = Vec::new();
        let mut packets = vec![0; self.causes.len()];
        for finding in findings.iter().filter(|finding| finding.class != Class::Benign) {
            let known = self.causes.iter().position(|row| same_place(&row.finding, finding));
            if let Some(at) = known {
                packets[at] += finding.packets;
                self.causes[at].finding.clone_from(finding);
            } else {
                let history = History::starting(finding.packets);
                new.push(CauseRow { finding: finding.clone(), history });
            }
        }
        for (row, packets) in self.causes.iter_mut().zip(packets) {
            row.history.push(packets);
        }
        self.causes.extend(new);
    }

    fn add_kinds(&mut self, totals: &[DropTotal], exemplars: Vec<Exemplar>) {
        type Name = (String, String, Option<u64>, Option<String>);
        let mut now: BTreeMap<Name, u64> = BTreeMap::new();
        for total in totals {
            let site = total.site.as_ref().map_or_else(|| "-".into(), |site| site.symbol.clone());
            let name = (total.reason.clone(), site, total.netns, total.device.clone());
            *now.entry(name).or_default() += total.packets;
        }
        for row in &mut self.kinds {
            let name = (row.reason.clone(), row.site.clone(), row.netns, row.device.clone());
            row.history.push(now.remove(&name).unwrap_or(0));
        }
        for ((reason, site, netns, device), packets) in now {
            let history = History::starting(packets);
            self.kinds.push(KindRow { reason, site, netns, device, history, exemplar: None });
        }
        self.kinds.sort_by_key(|row| std::cmp::Reverse(row.history.total));
        self.kinds.truncate(MOST_KINDS);
        for exemplar in exemplars {
            let row = self.kinds.iter_mut().find(|row| {
                row.reason == exemplar.reason
                    && row.site == exemplar.site.symbol
                    && row.netns == exemplar.netns
                    && row.device == exemplar.device
            });
            if let Some(row) = row {
                row.exemplar = Some(exemplar);
            }
        }
    }

    /// Packets per second of the latest lap.
    pub(crate) fn rate(&self, history: &History) -> f64 {
        if self.lap_seconds > 0.0 { history.latest() as f64 / self.lap_seconds } else { 0.0 }
    }
}

/// The same cause at the same place; its variant and its process may have become clearer since.
fn same_place(a: &Finding, b: &Finding) -> bool {
    a.cause == b.cause
        && a.site.netns == b.site.netns
        && a.site.device == b.site.device
        && a.site.socket == b.site.socket
        && (a.site.socket.is_some() || a.site.object == b.site.object)
}
