//! Recorded and hand-made files of kernels old and new, for the tests of this crate.
//!
//! `fixtures/proc/<kernel>/` stands for `/proc`; `fixtures/netlink/` holds the messages of dumps.
//! Those of 6.18 and of the kernels of [`crate::recorded`] are recorded; the others are made by hand in the
//! form of their kernel.

use std::path::{Path, PathBuf};

use crate::Roots;
use crate::collector::{Facts, Place};
use crate::error::Why;
use crate::netlink::Buffer;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Roots whose `/proc` is that of a fixture.
pub(crate) fn roots(kernel: &str) -> Roots {
    Roots {
        proc: folder().join("proc").join(kernel),
        sys: folder().join("sys"),
        modules: folder().join("modules"),
        netns: folder().join("nowhere"),
        docker_netns: folder().join("nowhere"),
        log: folder().join("nowhere"),
    }
}

/// Lets a collector read a fixture.
pub(crate) fn read(
    kernel: &str,
    read: fn(&mut Place<'_>, &mut Facts) -> Result<(), Why>,
) -> Result<Facts, Why> {
    let (roots, mut buffer) = (roots(kernel), Buffer::new());
    assert!(roots.proc.is_dir(), "no fixture {kernel}");
    let mut facts = Facts::default();
    read(&mut Place::here(&roots, &mut buffer), &mut facts)?;
    Ok(facts)
}

/// The value of a counter.
pub(crate) fn counter(facts: &Facts, name: &str) -> Option<u64> {
    facts.counters.iter().find(|counter| counter.0 == name).map(|counter| counter.1)
}

/// A recorded answer.
pub(crate) fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

/// The payloads of a dump recorded on a little-endian machine: each begins after its
/// `struct nlmsghdr`.
pub(crate) fn netlink(name: &str) -> Vec<Vec<u8>> {
    let bytes = bytes(&format!("netlink/{name}"));
    let mut rest = &bytes[..];
    let mut payloads = Vec::new();
    while let Some(length) = rest.get(..4) {
        let length = u32::from_ne_bytes(length.try_into().unwrap()) as usize;
        payloads.push(rest[16..length].to_vec());
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    payloads
}

/// Hands out each payload of a recorded dump, cut off at each of its bytes.
pub(crate) fn cut(name: &str, mut each: impl FnMut(&[u8])) {
    for payload in netlink(name) {
        for length in 0..payload.len() {
            each(&payload[..length]);
        }
    }
}
