//! Addresses of the network devices, from a dump of `RTM_GETADDR` (`net/ipv4/devinet.c`,
//! `net/ipv6/addrconf.c`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;
use crate::netlink::{Attributes, Protocol, u32_at};

pub(crate) const COLLECTOR: Collector = Collector {
    name: "addresses",
    what: "addresses of network devices",
    read: Read::Closing(read),
};

const RTM_GETADDR: u16 = 22;
/// Bytes of `struct ifaddrmsg` (`include/uapi/linux/if_addr.h`).
const IFADDRMSG: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    let mut socket = place.netlink(Protocol::Route)?;
    // An address more or less is no false number, so an interrupted dump is as good as another.
    facts.addresses = socket.dump(RTM_GETADDR, &[0; IFADDRMSG], place.buffer, parse)?.items;
    Ok(())
}

/// Device index and address from the payload of `RTM_NEWADDR`.
pub(crate) fn parse(payload: &[u8]) -> Option<(u32, IpAddr)> {
    let ifindex = u32_at(payload, 4)?;
    let attributes = Attributes(payload.get(IFADDRMSG..)?);
    // On a point-to-point link `IFA_ADDRESS` is the other end's.
    let find = |wanted| attributes.clone().find(|(kind, _)| *kind == wanted);
    let (_, value) = find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS))?;
    Some((ifindex, address(value)?))
}

/// An address by the length of its bytes.
pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    #[test]
    fn a_recorded_dump() {
        let addresses: Vec<(u32, String)> = fixture::netlink("linux-6.18-addresses.bin")
            .iter()
            .filter_map(|message| parse(message))
            .map(|(ifindex, address)| (ifindex, address.to_string()))
            .collect();
        let expected = [
            (1, "127.0.0.1"),
            (3, "192.0.2.1"),
            (3, "198.51.100.1"),
            (1, "::1"),
            (3, "2001:db8:1::1"),
            (3, "2001:db8::1"),
        ];
        assert_eq!(addresses, expected.map(|(ifindex, text)| (ifindex, text.to_owned())));
    }

    #[test]
    fn a_cut_message_never_panics() {
        fixture::cut("linux-6.18-addresses.bin", |bytes| {
            parse(bytes);
        });
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            parse(&bytes);
        }
    }
}
