//! The check that guards a merge: whydrop beside the empty program and bpftrace's count.
//!
//! Judged by the kernel's own account of the programs, in turns, as a ratio of medians: that stays
//! within a few percent on a machine where throughput is anything. The margin is wide all the same:
//! what it finds is a tracer that became twice as dear, not one that became dearer by a tenth. The
//! programs in the kernel are the same in every build, so the one that the tests made will do.
#![expect(clippy::print_stdout, reason = "a task talks to its terminal")]

use std::path::Path;

use anyhow::{Result, bail};

use super::cost::Turns;
use super::observers::Kind;
use super::{Ground, median};
use crate::command::{self, cargo};
use crate::debian;

/// Rounds; each has every observer once.
const ROUNDS: usize = 5;
/// What a drop may cost beside bpftrace's count, added to the empty program.
const MOST: f64 = 1.0;

/// Measures, and fails if the margin is crossed.
pub(crate) fn run(root: &Path) -> Result<()> {
    if !debian::is_root() {
        println!("not root, so nothing is measured");
        return Ok(());
    }
    command::run(cargo().current_dir(root).args(["build", "--package", "whydrop"]))?;
    let ground = Ground::new(root.join("target/debug/whydrop"))?;
    let kinds = [Kind::Empty, Kind::Stacks, Kind::Count];
    let turns = Turns::take(&kinds, ROUNDS, &ground.program, &ground.stage)?;
    let beside = turns.added(Kind::Stacks) / turns.added(Kind::Count);
    let kept = median(&turns.kept(Kind::Stacks));
    println!("added to a drop, beside bpftrace's count: {beside:.2}, at most {MOST}");
    println!("throughput beside the empty program's, not judged: {kept:.2}");
    if beside > MOST {
        bail!("a drop costs more than bpftrace's count; `cargo xtask bench drops` tells more");
    }
    Ok(())
}
