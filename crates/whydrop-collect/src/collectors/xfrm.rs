//! IPsec: `/proc/net/xfrm_stat` as counters `xfrm.XfrmInNoStates` (`net/xfrm/xfrm_proc.c`), and how
//! many states and policies there are.

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;
use crate::modules;
use crate::netlink::{Attributes, Protocol, u32_at};

pub(crate) const COLLECTOR: Collector =
    Collector { name: "xfrm", what: "IPsec counters", read: Read::Namespace(read) };

/// Message types of `include/uapi/linux/xfrm.h`.
const XFRM_MSG_GETSADINFO: u16 = 0x23;
const XFRM_MSG_GETSPDINFO: u16 = 0x25;
/// Bytes of the flags that an answer begins with.
const FLAGS: usize = 4;
const XFRMA_SAD_CNT: u16 = 1;
const XFRMA_SPD_INFO: u16 = 1;

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let Some(text) = place.table("xfrm_stat")? else {
        // A kernel without IPsec or without its statistics (CONFIG_XFRM_STATISTICS).
        return Ok(());
    };
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
            facts.counters.push((format!("xfrm.{name}"), value));
        }
    }
    if facts.counters.is_empty() {
        return Err(Why::new("/proc/net/xfrm_stat was not understood"));
    }
    if modules::is_absent(place.roots, "xfrm_user") {
        return Ok(());
    }
    if let Err(why) = read_sizes(place, facts) {
        facts.stack.missing.push(("number of IPsec states and policies", why));
    }
    Ok(())
}

fn read_sizes(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let mut socket = place.netlink(Protocol::Xfrm)?;
    let request = [0; FLAGS];
    let states = socket.ask(XFRM_MSG_GETSADINFO, &request, place.buffer, states)?;
    let policies = socket.ask(XFRM_MSG_GETSPDINFO, &request, place.buffer, policies)?;
    let sizes = [("xfrm.states", states), ("xfrm.policies", policies)];
    facts.stack.gauges.extend(
        sizes.into_iter().filter_map(|(name, value)| Some((name.to_owned(), u64::from(value?)))),
    );
    Ok(())
}

fn attribute(payload: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(payload.get(FLAGS..)?).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

pub(crate) fn states(payload: &[u8]) -> Option<u32> {
    u32_at(attribute(payload, XFRMA_SAD_CNT)?, 0)
}

/// `struct xfrmu_spdinfo`: policies for packets in, out and through; then those of sockets.
pub(crate) fn policies(payload: &[u8]) -> Option<u32> {
    let info = attribute(payload, XFRMA_SPD_INFO)?;
    (0..3)
        .map(|at| u32_at(info, at * 4))
        .try_fold(0_u32, |sum, count| Some(sum.wrapping_add(count?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;
    use crate::netlink::push_attribute;

    #[test]
    fn kernels_old_and_new() {
        let facts = fixture::read("linux-6.18", read).unwrap();
        assert_eq!(fixture::counter(&facts, "xfrm.XfrmInNoStates"), Some(0));
        assert_eq!(fixture::counter(&facts, "xfrm.XfrmInStateDirError"), Some(0));
        let facts = fixture::read("linux-4.19", read).unwrap();
        assert_eq!(fixture::counter(&facts, "xfrm.XfrmInNoStates"), Some(21));
        assert_eq!(fixture::counter(&facts, "xfrm.XfrmInStateDirError"), None, "came with 6.10");
        assert!(fixture::read("empty", read).unwrap().counters.is_empty(), "no IPsec, no trouble");
        assert!(fixture::read("garbage", read).is_err());
    }

    #[test]
    fn sizes_are_read_from_the_answers() {
        let mut answer = vec![0; FLAGS];
        push_attribute(&mut answer, XFRMA_SAD_CNT, &7_u32.to_ne_bytes());
        assert_eq!(states(&answer), Some(7));
        let counts: Vec<u8> =
            [1_u32, 2, 3, 9, 9, 9].iter().flat_map(|it| it.to_ne_bytes()).collect();
        let mut answer = vec![0; FLAGS];
        push_attribute(&mut answer, XFRMA_SPD_INFO, &counts);
        assert_eq!(policies(&answer), Some(6));
        assert_eq!((states(&[]), policies(&answer[..12])), (None, None));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            states(&bytes);
            policies(&bytes);
        }
    }
}
