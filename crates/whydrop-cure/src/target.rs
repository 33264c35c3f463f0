//! Reads and writes what a proposal names, in the namespace of the calling thread.

mod card;
mod link;
mod qdisc;
mod queue_cpus;
mod sysctl;

use whydrop_collect::Roots;
use whydrop_model::{NetnsRef, Target};

use crate::error::Error;
use crate::socket;

/// The value of a target, as text.
pub(crate) fn read(roots: &Roots, netns: &NetnsRef, target: &Target) -> Result<String, Error> {
    let reading = |why: String| Error::Read { what: target.to_string(), why };
    inside(roots, netns, || match target {
        Target::Sysctl { name } => sysctl::read(roots, name),
        Target::Backlog(of) => socket::backlog(of),
        Target::ReceiveBuffer(of) => socket::receive_buffer(of),
        Target::Link { device, attribute } => link::read(device, *attribute),
        Target::Card { device, setting } => card::read(device, *setting),
        Target::QueueCpus { device, queue } => queue_cpus::read(device, queue),
        Target::QdiscLimit { device, qdisc, handle, parent } => {
            qdisc::read(&qdisc::Place { device, kind: qdisc, handle, parent })
        }
    })?
    .map_err(reading)
}

/// Sets a target.
pub(crate) fn write(
    roots: &Roots,
    netns: &NetnsRef,
    target: &Target,
    value: &str,
) -> Result<(), Error> {
    let writing = |why: String| Error::Write { what: target.to_string(), value: value.into(), why };
    inside(roots, netns, || match target {
        Target::Sysctl { name } => sysctl::write(roots, name, value),
        Target::Backlog(of) => socket::listen(of, value),
        Target::ReceiveBuffer(of) => socket::set_receive_buffer(of, value),
        Target::Link { device, attribute } => link::write(device, *attribute, value),
        Target::Card { device, setting } => card::write(device, *setting, value),
        Target::QueueCpus { device, queue } => queue_cpus::write(device, queue, value),
        Target::QdiscLimit { device, qdisc, handle, parent } => {
            qdisc::write(&qdisc::Place { device, kind: qdisc, handle, parent }, value)
        }
    })?
    .map_err(writing)
}

/// Why a target is no more; `None` if it is there, or that cannot be told.
pub(crate) fn gone(
    roots: &Roots,
    netns: &NetnsRef,
    target: &Target,
) -> Result<Option<String>, Error> {
    inside(roots, netns, || match target {
        Target::Sysctl { name } => {
            sysctl::is_gone(roots, name).then(|| "there is no such setting any more".into())
        }
        Target::Backlog(of) | Target::ReceiveBuffer(of) => {
            socket::is_gone(of).then(|| socket::gone(of))
        }
        Target::Link { device, .. }
        | Target::Card { device, .. }
        | Target::QueueCpus { device, .. } => {
            link::is_gone(device).then(|| format!("{device} is gone"))
        }
        Target::QdiscLimit { device, qdisc, handle, parent } => {
            qdisc::is_gone(&qdisc::Place { device, kind: qdisc, handle, parent })
                .then(|| format!("{device} has no such queue any more"))
        }
    })
}

fn inside<T: Send>(
    roots: &Roots,
    netns: &NetnsRef,
    work: impl FnOnce() -> T + Send,
) -> Result<T, Error> {
    // Only findings with a known place become proposals.
    let inode = netns.inode.unwrap_or_default();
    Ok(whydrop_collect::within(roots, inode, work)?)
}
