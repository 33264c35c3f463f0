//! Which namespace is meant by the number that another one gave it.
//!
//! A device whose other end is in another namespace names that by an id which holds in its own
//! namespace only (`IFLA_LINK_NETNSID`). The kernel tells the id of a namespace that is shown to it
//! (`RTM_GETNSID` in `net/core/net_namespace.c`), so each one observed is shown in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::collector::LinkFacts;
use crate::netlink::{Attributes, Buffer, Failure, Socket, push_attribute, u32_at};

const RTM_GETNSID: u16 = 90;
/// Bytes of `struct rtgenmsg`, with padding.
const RTGENMSG: usize = 4;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// The ids that these links use.
pub(crate) fn wanted(links: &[LinkFacts]) -> BTreeSet<i32> {
    links.iter().filter_map(|link| link.about.lower?.netnsid).collect()
}

/// Inodes of the namespaces that the namespace of `route` calls by the ids `wanted`, as far as they
/// are among the candidates. Asks until all are found, so the likely ones should come first.
pub(crate) fn find<'fd>(
    route: &mut Socket,
    buffer: &mut Buffer,
    mut wanted: BTreeSet<i32>,
    candidates: impl IntoIterator<Item = (u64, BorrowedFd<'fd>)>,
) -> Result<BTreeMap<i32, u64>, Failure> {
    let mut found = BTreeMap::new();
    for (inode, file) in candidates {
        if wanted.is_empty() {
            break;
        }
        let mut request = vec![0; RTGENMSG];
        push_attribute(&mut request, NETNSA_FD, &file.as_raw_fd().to_ne_bytes());
        // One that has no id here is answered with -1.
        let id = route.ask(RTM_GETNSID, &request, buffer, id)?;
        if let Some(id) = id.filter(|id| wanted.remove(id)) {
            found.insert(id, inode);
        }
    }
    Ok(found)
}

/// Writes down what was found.
pub(crate) fn note(found: &BTreeMap<i32, u64>, links: &mut [LinkFacts]) {
    for lower in links.iter_mut().filter_map(|link| link.about.lower.as_mut()) {
        lower.netns = lower.netnsid.and_then(|id| found.get(&id)).copied();
    }
}

pub(crate) fn id(payload: &[u8]) -> Option<i32> {
    let (_, value) = Attributes(payload.get(RTGENMSG..)?).find(|(kind, _)| *kind == NETNSA_NSID)?;
    u32_at(value, 0).map(u32::cast_signed)
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Link, LowerLink};

    use super::*;

    #[test]
    fn ids_are_read_and_anything_else_is_none() {
        let mut answer = vec![0; RTGENMSG];
        push_attribute(&mut answer, NETNSA_NSID, &7_i32.to_ne_bytes());
        assert_eq!(id(&answer), Some(7));
        for length in 0..answer.len() {
            assert_eq!(id(&answer[..length]), None);
        }
    }

    #[test]
    fn each_link_gets_the_namespace_of_its_id() {
        let link = |netnsid| LinkFacts {
            about: Link {
                lower: Some(LowerLink { ifindex: 2, netnsid, netns: None }),
                ..Link::default()
            },
            ..LinkFacts::default()
        };
        let mut links = [link(Some(1)), link(None), link(Some(4)), LinkFacts::default()];
        assert_eq!(wanted(&links), BTreeSet::from([1, 4]));
        note(&BTreeMap::from([(4, 4_026_532_000)]), &mut links);
        let netns: Vec<_> = links.iter().map(|it| it.about.lower.and_then(|it| it.netns)).collect();
        assert_eq!(netns, [None, None, Some(4_026_532_000), None]);
    }
}
