//! The eyes of whydrop: counters, queues and settings of a Linux host.
//!
//! [`Watch`] reads every network namespace at both ends of a window and looks at the listen queues
//! in between; [`namespaces()`] lists the namespaces alone, [`host()`] tells the host, [`holders()`]
//! whose a socket is. What is read
//! ends in the types of `whydrop-model` and from there in the evidence.
//!
//! This crate reads files and netlink. It runs no program, computes no rate and judges nothing.
//! Each source is a collector (`collectors`) and fails alone: what it cannot read becomes a
//! [`NotChecked`](whydrop_model::NotChecked) with the reason.

mod arrivals;
mod backlog;
mod cgroups;
mod collector;
mod collectors;
mod cpu_rows;
mod cpu_table;
mod enter;
mod entrance;
mod error;
mod ethtool_ioctl;
#[cfg(test)]
mod fixture;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod genetlink;
mod host;
mod inet_diag;
mod kept;
mod line_pairs;
mod link_info;
mod look;
mod merge;
mod modules;
mod namespaces;
pub mod netlink;
mod nftables;
mod owners;
mod peers;
mod process;
#[cfg(test)]
mod recorded;
mod roots;
mod settings;
mod socket_table;
mod sockets;
mod stack;
mod traffic_control;
mod tunnel_info;
mod watch;
mod watched;
mod worker;
mod xtables_sockopt;

pub use arrivals::Arrivals;
pub use cgroups::unified_group;
pub use enter::{listen_backlog, within};
pub use error::Error;
pub use host::host;
pub use namespaces::{NamespaceRef, namespaces};
pub use process::holders;
pub use roots::Roots;
pub use watch::{Observation, Options, Watch};
