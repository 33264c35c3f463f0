//! Many jobs, side by side as far as they do not disturb each other. Scenarios mostly wait, so a few
//! for every CPU cost hardly more time than one.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::outcome::Unplayed;
use crate::{Job, LabError, Outcome, Runner};

/// Scenarios per CPU that are played side by side unless somebody wants it otherwise: each keeps a
/// fifth of a CPU busy with the diagnosis alone (development build, 2 CPUs). More make the
/// CPUs the bottleneck, and paced traffic late.
const PER_CPU: usize = 3;

/// How far it got.
#[derive(Debug)]
pub struct Progress<'a> {
    /// Jobs that are over.
    pub done: usize,
    /// All jobs.
    pub total: usize,
    /// Titles of those that are played now.
    pub playing: &'a [String],
}

/// What threads share.
struct State<'a> {
    /// Jobs not yet begun, by number; the next one is the last.
    waiting: Vec<usize>,
    playing: Vec<String>,
    outcomes: Vec<Option<Outcome>>,
    done: usize,
    /// What ended it all.
    error: Option<LabError>,
    told: &'a mut (dyn FnMut(&Progress<'_>) + Send),
}

impl State<'_> {
    fn tell(&mut self) {
        let Self { done, playing, outcomes, .. } = self;
        let progress = Progress { done: *done, total: outcomes.len(), playing };
        (self.told)(&progress);
    }
}

/// How many jobs go side by side if nobody says.
pub fn usual_width() -> NonZeroUsize {
    let cpus = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    cpus.saturating_mul(NonZeroUsize::new(PER_CPU).unwrap_or(NonZeroUsize::MIN))
}

impl Runner {
    /// Plays all jobs, at most `width` at a time, and gives their outcomes in the same order. Jobs
    /// with a scenario that must be alone come last, one after the other.
    ///
    /// A scenario that fails is an outcome that did not pass. An error ends the rest: nobody can play
    /// anything, or the user wants no more.
    pub fn run_all(
        &self,
        jobs: &[Job],
        width: NonZeroUsize,
        told: &mut (dyn FnMut(&Progress<'_>) + Send),
    ) -> Result<Vec<Outcome>, LabError> {
        let mut alone = Vec::new();
        let mut shared = Vec::new();
        for (number, job) in jobs.iter().enumerate().rev() {
            let queue = if job.is_alone()? { &mut alone } else { &mut shared };
            queue.push(number);
        }
        let mut outcomes = Vec::new();
        outcomes.resize_with(jobs.len(), || None);
        let playing = Vec::new();
        let mut state = State { waiting: shared, playing, outcomes, done: 0, error: None, told };
        for (waiting, width) in [(None, width.get()), (Some(alone), 1)] {
            if let Some(waiting) = waiting {
                state.waiting = waiting;
            }
            let shared = Mutex::new(state);
            thread::scope(|scope| {
                for _ in 0..width.min(jobs.len()) {
                    scope.spawn(|| self.work(jobs, &shared));
                }
            });
            state = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
            if let Some(error) = state.error {
                return Err(error);
            }
        }
        Ok(state.outcomes.into_iter().flatten().collect())
    }

    fn work(&self, jobs: &[Job], state: &Mutex<State<'_>>) {
        let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (number, job) = {
                let mut state = lock();
                if state.error.is_some() {
                    return;
                }
                let Some(number) = state.waiting.pop() else { return };
                let Some(job) = jobs.get(number) else { return };
                state.playing.push(job.title());
                state.tell();
                (number, job)
            };
            let outcome = self.run(job);
            let mut state = lock();
            state.done += 1;
            let title = job.title();
            // One of them, should it be played twice.
            let place = state.playing.iter().position(|playing| *playing == title);
            place.map(|place| state.playing.remove(place));
            state.tell();
            match outcome {
                Ok(outcome) => state.outcomes[number] = Some(outcome),
                Err(error) if error.ends_all() => {
                    state.error.get_or_insert(error);
                }
                Err(error) => {
                    let why = Unplayed::Failed(error.to_string());
                    state.outcomes[number] = Some(Outcome::unplayed(job, why));
                }
            }
        }
    }
}
