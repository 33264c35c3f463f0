//! The lab: reproduces a cause of packet loss in throw-away network namespaces, has the real
//! program diagnose it from outside, and compares the report with what the kernel's counters say.
//!
//! A [scenario](list) is one file in `scenarios/`. A [`Runner`] builds its namespaces, starts its
//! servers and clients as processes of the program itself ([`actor_main`] is what they run), and
//! drives `diagnose` like a user. Nothing is shared with the diagnosis but the program's path: the
//! lab reads the report, never the evidence.
//!
//! Namespaces and processes are gone when a run ends, however it ends. Those of a runner that was
//! killed are removed by the next one, or by [`sweep`].

mod actor;
mod cast;
mod cgroup_program;
mod command;
mod counters;
mod diagnosis;
mod error;
mod fix;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod job;
mod judge;
mod netns;
mod outcome;
mod part;
mod quota;
mod run;
mod sample;
mod scenario;
mod shell;
mod socket_memory;
mod stage;
mod suite;
mod topology;
mod turn;
mod wait;

pub use actor::actor_main;
pub use error::LabError;
pub use job::Job;
pub use netns::sweep;
pub use outcome::{Accuracy, Kind, Outcome, Score, Spent, write_json, write_table};
pub use part::Tally;
pub use run::{Provoked, Runner};
pub use sample::pairs;
pub use scenario::{ScenarioInfo, list, planned};
pub use shell::{Namespace, SCOPE, shell};
pub use suite::{Progress, usual_width};
