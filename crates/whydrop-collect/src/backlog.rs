//! How full the receive backlog of each CPU gets while the window is open.
//!
//! A backlog fills and empties within milliseconds, so that a look finds its peak by luck only; what
//! overflowed is counted by the kernel. Keeps peaks, reads nothing.

use std::collections::BTreeMap;

use whydrop_model::SoftnetCpu;

use crate::collector::SoftnetFacts;

/// The peaks of all looks so far.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    peaks: BTreeMap<u32, u32>,
    looks: u32,
}

impl Backlog {
    /// Takes in one look.
    pub(crate) fn note(&mut self, rows: &[SoftnetFacts]) {
        self.looks += 1;
        for (cpu, now) in rows.iter().filter_map(|row| Some((row.cpu, row.backlog_len?))) {
            let peak = self.peaks.entry(cpu).or_default();
            *peak = now.max(*peak);
        }
    }

    /// Adds what the looks saw to what both ends of the window told.
    pub(crate) fn finish(self, mut cpus: Vec<SoftnetCpu>) -> Vec<SoftnetCpu> {
        for cpu in &mut cpus {
            cpu.backlog_peak = cpu.backlog_peak.max(self.peaks.get(&cpu.cpu).copied());
            cpu.looks += self.looks;
        }
        cpus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_of_all_looks_is_kept() {
        let row = |cpu, backlog_len| SoftnetFacts {
            cpu,
            processed: 0,
            dropped: 0,
            time_squeeze: 0,
            flow_limit: None,
            received_rps: None,
            backlog_len,
        };
        let mut backlog = Backlog::default();
        backlog.note(&[row(0, Some(3)), row(1, Some(700)), row(2, None)]);
        backlog.note(&[row(0, Some(5)), row(1, Some(0)), row(2, None)]);
        let mut cpus: Vec<SoftnetCpu> =
            (0..3).map(|cpu| SoftnetCpu { cpu, looks: 2, ..SoftnetCpu::default() }).collect();
        cpus[0].backlog_peak = Some(9);
        let cpus = backlog.finish(cpus);
        let peaks: Vec<_> = cpus.iter().map(|cpu| cpu.backlog_peak).collect();
        assert_eq!(peaks, [Some(9), Some(700), None]);
        assert!(cpus.iter().all(|cpu| cpu.looks == 4));
    }
}
