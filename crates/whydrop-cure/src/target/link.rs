//! Attributes of network devices, by rtnetlink (`include/uapi/linux/if_link.h`).

use rustix::io::Errno;
use whydrop_collect::netlink::{
    Attributes, Buffer, Failure, Protocol, Socket, push_attribute, u32_at,
};
use whydrop_model::LinkAttribute;

const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
/// Bytes of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFF_UP: u32 = 1;

/// A device as it is now.
struct Link {
    ifindex: u32,
    flags: u32,
    mtu: Option<u32>,
    tx_queue_len: Option<u32>,
}

pub(super) fn read(device: &str, attribute: LinkAttribute) -> Result<String, String> {
    let link = get(&mut open()?, device)?;
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    let value = match attribute {
        LinkAttribute::State => {
            Some(if link.flags & IFF_UP == 0 { "down" } else { "up" }.to_owned())
        }
        LinkAttribute::Mtu => number(link.mtu),
        LinkAttribute::TxQueueLen => number(link.tx_queue_len),
    };
    value.ok_or_else(|| "the kernel does not tell it".into())
}

pub(super) fn write(device: &str, attribute: LinkAttribute, value: &str) -> Result<(), String> {
    let number = || value.parse::<u32>().map_err(|_| format!("{value} is no number"));
    let mut socket = open()?;
    let mut request = header(get(&mut socket, device)?.ifindex);
    match attribute {
        LinkAttribute::State => {
            let up = match value {
                "up" => IFF_UP,
                "down" => 0,
                other => return Err(format!("{other} is neither up nor down")),
            };
            request[8..12].copy_from_slice(&up.to_ne_bytes());
            // `ifi_change`: the flags that are meant.
            request[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
        }
        LinkAttribute::Mtu => push_attribute(&mut request, IFLA_MTU, &number()?.to_ne_bytes()),
        LinkAttribute::TxQueueLen => {
            push_attribute(&mut request, IFLA_TXQLEN, &number()?.to_ne_bytes());
        }
    }
    let done = socket.ask(RTM_SETLINK, &request, &mut Buffer::new(), |_| None::<()>);
    done.map(|_| ()).map_err(words)
}

/// The index of a device.
pub(super) fn index(device: &str) -> Result<u32, String> {
    Ok(get(&mut open()?, device)?.ifindex)
}

/// True if there is no such device, for certain.
pub(super) fn is_gone(device: &str) -> bool {
    let Ok(mut socket) = open() else { return false };
    matches!(ask(&mut socket, device), Err(Failure::Refused(Errno::NODEV)))
}

pub(super) fn open() -> Result<Socket, String> {
    Socket::open(Protocol::Route).map_err(|error| words(Failure::Refused(error)))
}

pub(super) fn words(failure: Failure) -> String {
    match failure {
        Failure::Refused(Errno::PERM) => "not permitted; root is needed".into(),
        Failure::Refused(Errno::NODEV) => "there is no such device".into(),
        other => other.to_string(),
    }
}

fn get(socket: &mut Socket, device: &str) -> Result<Link, String> {
    ask(socket, device).map_err(words)?.ok_or_else(|| "there is no such device".into())
}

fn ask(socket: &mut Socket, device: &str) -> Result<Option<Link>, Failure> {
    let mut request = header(0);
    push_attribute(&mut request, IFLA_IFNAME, &[device.as_bytes(), b"\0"].concat());
    socket.ask(RTM_GETLINK, &request, &mut Buffer::new(), parse)
}

fn parse(payload: &[u8]) -> Option<Link> {
    let (mut mtu, mut tx_queue_len) = (None, None);
    for (kind, value) in Attributes(payload.get(IFINFOMSG..)?) {
        match kind {
            IFLA_MTU => mtu = u32_at(value, 0),
            IFLA_TXQLEN => tx_queue_len = u32_at(value, 0),
            _ => {}
        }
    }
    Some(Link { ifindex: u32_at(payload, 4)?, flags: u32_at(payload, 8)?, mtu, tx_queue_len })
}

fn header(ifindex: u32) -> Vec<u8> {
    let mut request = vec![0; IFINFOMSG];
    request[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    request
}
