//! Reads and writes what a proposal names, in the namespace of the calling thread.

mod link;
mod qdisc;
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
        Target::QdiscLimit { device, qdisc, handle, parent } => {
            qdisc::write(&qdisc::Place { device, kind: qdisc, handle, parent }, value)
        }
    })?
    .map_err(writing)
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
