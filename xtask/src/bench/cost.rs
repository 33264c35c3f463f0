//! What a drop costs, and how much of the flood gets through all the same.
//!
//! Time per drop is the kernel's own account of the program (`BPF_ENABLE_STATS`, which ends with this
//! process however that ends); throughput and the CPU time of the process are measured with that
//! account off. In each round every observer has its turn, and is compared with the empty program of
//! that round.
#![expect(clippy::print_stdout, reason = "a task talks to its terminal")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::sys::{Stats, enable_stats};

use super::document::{Findings, Table};
use super::flood::Stage;
use super::observers::{COUNT, Kind, Observer, PRINT};
use super::{Ground, median, spread};

/// Rounds; each has every observer once.
const ROUNDS: usize = 9;
/// Length of the flood that takes the throughput.
const FLOOD: Duration = Duration::from_millis(700);
/// Length of the flood that takes the time per drop.
const ACCOUNTED: Duration = Duration::from_millis(300);

/// What one turn of one observer showed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// Frames per second that the sender got through.
    rate: f64,
    /// CPU time of the observer's process, in nanoseconds per drop.
    reader: f64,
    /// The same as a part of one CPU.
    busy: f64,
    /// Nanoseconds of its programs per drop; `None` if it has none.
    program: Option<f64>,
}

/// All turns, by observer, in the order of the rounds.
pub(super) struct Turns(BTreeMap<Kind, Vec<Turn>>);

impl Turns {
    /// Has each of them watch, round by round.
    pub(super) fn take(
        kinds: &[Kind],
        rounds: usize,
        program: &Path,
        stage: &Stage,
    ) -> Result<Self> {
        let mut turns = BTreeMap::new();
        for round in 0..rounds {
            println!("round {} of {rounds}", round + 1);
            // Each round starts with another one, so that none always comes first.
            for turn in 0..kinds.len() {
                let kind = kinds[(round + turn) % kinds.len()];
                let taken = one(kind, program, stage)
                    .with_context(|| format!("the turn of {}", kind.name()))?;
                turns.entry(kind).or_insert_with(Vec::new).push(taken);
            }
        }
        Ok(Self(turns))
    }

    fn of(&self, kind: Kind) -> &[Turn] {
        self.0.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// A figure of each turn beside that of the empty program in the same round.
    fn beside_empty(&self, kind: Kind, figure: impl Fn(Turn, Turn) -> Option<f64>) -> Vec<f64> {
        let pairs = self.of(kind).iter().zip(self.of(Kind::Empty));
        pairs.filter_map(|(one, empty)| figure(*one, *empty)).collect()
    }

    /// Nanoseconds of the programs per drop above the empty program's.
    fn above(&self, kind: Kind) -> Vec<f64> {
        self.beside_empty(kind, |one, empty| Some(one.program? - empty.program?))
    }

    /// The median of that.
    pub(super) fn added(&self, kind: Kind) -> f64 {
        median(&self.above(kind))
    }

    /// Part of the empty program's throughput that is left.
    pub(super) fn kept(&self, kind: Kind) -> Vec<f64> {
        self.beside_empty(kind, |one, empty| Some(one.rate / empty.rate))
    }
}

fn one(kind: Kind, program: &Path, stage: &Stage) -> Result<Turn> {
    let observer = Observer::start(kind, program)?;
    let before = observer.cpu()?;
    let sent = stage.flood(FLOOD, None)?;
    let cpu = observer.cpu()? - before;
    let account = enable_stats(Stats::RunTime).context("the kernel keeps no account")?;
    let before = observer.runs()?;
    let accounted = stage.flood(ACCOUNTED, None)?;
    let after = observer.runs()?;
    drop(account);
    observer.stop()?;
    let program = match before.zip(after) {
        None => None,
        Some((before, after)) => {
            let runs = after.run_count - before.run_count;
            if runs < accounted.packets {
                bail!("it saw {runs} drops of {} frames", accounted.packets);
            }
            Some((after.run_time_ns - before.run_time_ns) as f64 / runs as f64)
        }
    };
    let reader = cpu * 1e9 / sent.packets as f64;
    Ok(Turn { rate: sent.per_second(), reader, busy: cpu / sent.seconds, program })
}

/// Measures all observers.
pub(super) fn measure(ground: &Ground, findings: &mut Findings) -> Result<()> {
    let turns = Turns::take(&Kind::ALL, ROUNDS, &ground.program, &ground.stage)?;
    let mut table = Table::new(
        "Cost of a drop, and throughput kept under flood",
        format!(
            "One CPU sends as fast as it can, and the kernel drops every frame for one reason at one \
             place. *Program* is the kernel's own account of the BPF program, per drop; *above* is \
             that without what the empty program takes; *process* is the CPU time of the program in \
             user space, per drop and as a part of one CPU. Medians of {ROUNDS} rounds in which each \
             had its turn; in brackets the least and the most. What others print goes to `/dev/null`. \
             A program on the classic tracepoint costs more than its own time: the kernel first makes \
             a record for it, which the frames per second show and the account does not.\n\n\
             * counting: `{COUNT}`\n* printing: `{PRINT}`"
        ),
        &[
            "",
            "program, ns",
            "above, ns",
            "process, ns",
            "process, CPU",
            "frames/s",
            "of the empty program's",
        ],
    );
    for kind in Kind::ALL {
        let all = turns.of(kind);
        let middle = |figure: fn(&Turn) -> f64| median(&all.iter().map(figure).collect::<Vec<_>>());
        let program: Vec<f64> = all.iter().filter_map(|turn| turn.program).collect();
        let number = |values: &[f64]| match values {
            [] => "-".to_owned(),
            values => format!("{:.1}", median(values)),
        };
        let is_process = !matches!(kind, Kind::Nobody | Kind::Empty);
        let of_process = |text: String| if is_process { text } else { "-".to_owned() };
        let (least, usual, most) = spread(&turns.kept(kind));
        table.row(vec![
            kind.name().to_owned(),
            number(&program),
            if is_process { number(&turns.above(kind)) } else { "-".to_owned() },
            of_process(format!("{:.1}", middle(|turn| turn.reader))),
            of_process(format!("{:.1} %", middle(|turn| turn.busy) * 100.0)),
            format!("{:.0}", middle(|turn| turn.rate)),
            format!("{:.1} % ({:.1} to {:.1})", usual * 100.0, least * 100.0, most * 100.0),
        ]);
    }
    findings.add(table);
    targets(&turns, findings);
    Ok(())
}

/// Those of the usual way to run it, in which all is on.
fn targets(turns: &Turns, findings: &mut Findings) {
    let above = turns.added(Kind::Stacks);
    findings.target(
        "a drop above the empty program, exemplars and stacks on",
        "at most 50 ns",
        format!("{above:.1} ns"),
        above <= 50.0,
    );
    let kept = median(&turns.kept(Kind::Stacks)) * 100.0;
    findings.target(
        "of the empty program's throughput, exemplars and stacks on",
        "at least 94 %",
        format!("{kept:.1} %"),
        kept >= 94.0,
    );
    // What the sender waits longer for a frame, as a part of what it waits beside the empty program:
    // there is more to an observer than its program.
    let longer = |kind| 1.0 / median(&turns.kept(kind)) - 1.0;
    for (kind, times) in [(Kind::Count, 2.5), (Kind::Print, 100.0)] {
        let in_all = longer(kind) / longer(Kind::Stacks).max(f64::EPSILON);
        let by_program = turns.added(kind) / above;
        for (what, cheaper) in [("in all", in_all), ("by the program alone", by_program)] {
            findings.target(
                &format!("added to a drop {what}, beside {}", kind.name()),
                &format!("at least {times} times cheaper"),
                format!("{cheaper:.1} times"),
                cheaper >= times,
            );
        }
    }
}
