//! Which change is made: the first that the options allow, on the host and boot it was diagnosed on.

use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use whydrop_collect::Roots;
use whydrop_cure::Planned;
use whydrop_model::{Answer, Cure, Evidence, Proposal};

use crate::cli::Fix;
use crate::output;

/// What can be done.
pub(super) enum Choice<'c> {
    /// No fault has a change to propose.
    Nothing,
    /// What would be changed first is so already.
    Done(&'c Cure, &'c Proposal),
    /// One change.
    Change {
        /// The cure it is part of.
        cure: &'c Cure,
        /// The change.
        proposal: &'c Proposal,
        /// What is there now.
        plan: Vec<Planned>,
    },
}

/// An error if the evidence is not of this host as it runs now, or older than `oldest`.
pub(super) fn check_fresh(evidence: &Evidence, oldest: Duration) -> anyhow::Result<()> {
    let (host, _) = whydrop_collect::host();
    let (Some(then), Some(now)) = (&evidence.host.boot_id, &host.boot_id) else {
        bail!("cannot tell whether the evidence is of this boot: no boot id; nothing was changed");
    };
    if then != now {
        if evidence.host.hostname != host.hostname {
            bail!(
                "the evidence is of another host, {}; nothing was changed",
                evidence.host.hostname
            );
        }
        bail!("the evidence is of another boot, or of another host of this name; diagnose again");
    }
    let start: Timestamp =
        evidence.window.start.parse().context("the evidence does not tell its time")?;
    let age = Timestamp::now().duration_since(start);
    let age = Duration::try_from(age).unwrap_or_default();
    if age.saturating_sub(evidence.window.length()) > oldest {
        bail!("the evidence is {} minutes old; diagnose again", age.as_secs() / 60);
    }
    Ok(())
}

/// Chooses a change.
///
/// # Errors
///
/// If there are changes to propose and the options allow none of them, or what is there now is not
/// what the evidence shows.
pub(super) fn choose<'c>(
    options: &Fix,
    cures: &'c [Cure],
    roots: &Roots,
) -> anyhow::Result<Choice<'c>> {
    let proposals = cures.iter().filter_map(|cure| match &cure.answer {
        Answer::Change(proposal) => Some((cure, proposal.as_ref())),
        Answer::Capacity(_) | Answer::Operator(_) => None,
    });
    let (mut refused, mut done) = (Vec::new(), None);
    for (cure, proposal) in proposals {
        if let Some(why) = refusal(options, proposal).filter(|_| !options.dry_run) {
            refused.push(format!("{}: {why}", cure.cause));
            continue;
        }
        let plan = whydrop_cure::plan(roots, proposal)
            .with_context(|| format!("{}: nothing was changed", cure.cause))?;
        if !plan.iter().all(Planned::is_done) {
            for line in &refused {
                output::message(&format!("whydrop: passed over {line}"));
            }
            return Ok(Choice::Change { cure, proposal, plan });
        }
        done.get_or_insert((cure, proposal));
    }
    match (done, refused.first()) {
        (Some((cure, proposal)), _) => Ok(Choice::Done(cure, proposal)),
        (None, Some(why)) => bail!("{why}; nothing was changed"),
        (None, None) => Ok(Choice::Nothing),
    }
}

/// Why the options do not allow a change.
fn refusal(options: &Fix, proposal: &Proposal) -> Option<String> {
    if let Some(what) = proposal.weakens.as_ref().filter(|_| !options.allow_weaker_security) {
        return Some(format!("{what}; this needs --allow-weaker-security"));
    }
    if let Some(what) = proposal.interrupts.as_ref().filter(|_| !options.allow_link_reset) {
        return Some(format!("{what}; this needs --allow-link-reset"));
    }
    (proposal.is_live() && !options.live).then(|| {
        "it changes the socket of a running program, which needs --live; without it, set it in the \
         program's own configuration"
            .into()
    })
}
