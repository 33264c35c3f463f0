//! Rings and queues of network cards, by the netlink family `ethtool` (5.6,
//! `include/uapi/linux/ethtool_netlink.h`). What is not told in a request stays as it is.

use rustix::io::Errno;
use whydrop_collect::genetlink::{attributes, family, header};
use whydrop_collect::netlink::{Buffer, Failure, Protocol, Socket, push_attribute, u32_at};
use whydrop_model::CardSetting;

use super::link;

const ETHTOOL_MSG_RINGS_GET: u8 = 15;
const ETHTOOL_MSG_RINGS_SET: u8 = 16;
const ETHTOOL_MSG_CHANNELS_GET: u8 = 17;
const ETHTOOL_MSG_CHANNELS_SET: u8 = 18;
/// `ETHTOOL_A_RINGS_HEADER` and `ETHTOOL_A_CHANNELS_HEADER`.
const HEADER: u16 = 1;
const ETHTOOL_A_HEADER_DEV_NAME: u16 = 2;
const NLA_F_NESTED: u16 = 1 << 15;

/// Where a setting is found.
struct Place {
    get: u8,
    set: u8,
    /// Attribute of the value.
    value: u16,
    /// Attribute of the most that it can be.
    most: u16,
}

fn place(setting: CardSetting) -> Place {
    // Rings and queues have the same numbers for what is there once for receiving, once for both ways.
    let (value, most) = match setting {
        CardSetting::RxRing | CardSetting::RxQueues => (6, 2),
        CardSetting::TxQueues => (7, 3),
        CardSetting::TxRing | CardSetting::CombinedQueues => (9, 5),
    };
    let (get, set) = match setting {
        CardSetting::RxRing | CardSetting::TxRing => (ETHTOOL_MSG_RINGS_GET, ETHTOOL_MSG_RINGS_SET),
        CardSetting::RxQueues | CardSetting::TxQueues | CardSetting::CombinedQueues => {
            (ETHTOOL_MSG_CHANNELS_GET, ETHTOOL_MSG_CHANNELS_SET)
        }
    };
    Place { get, set, value, most }
}

/// A setting as it is, and the most that it can be; `None` for what the driver does not tell.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    now: Option<u32>,
    most: Option<u32>,
}

pub(super) fn read(device: &str, setting: CardSetting) -> Result<String, String> {
    let told = get(&mut open()?, device, setting)?;
    told.now.map(|now| now.to_string()).ok_or_else(|| "the driver does not tell it".into())
}

pub(super) fn write(device: &str, setting: CardSetting, value: &str) -> Result<(), String> {
    let value: u32 = value.parse().map_err(|_| format!("{value} is no number"))?;
    let mut ethtool = open()?;
    let most = get(&mut ethtool, device, setting)?.most;
    if let Some(most) = most.filter(|most| value > *most) {
        return Err(format!("its driver allows {most} at most"));
    }
    let request = set_request(device, setting, value);
    let Ethtool { socket, family } = &mut ethtool;
    let done = socket.ask(*family, &request, &mut Buffer::new(), |_| None::<()>);
    done.map(|_| ()).map_err(words)
}

struct Ethtool {
    socket: Socket,
    family: u16,
}

fn open() -> Result<Ethtool, String> {
    let refused = |error| words(Failure::Refused(error));
    let mut socket = Socket::open(Protocol::Generic).map_err(refused)?;
    let family = family(&mut socket, &mut Buffer::new(), "ethtool").map_err(words)?;
    let family = family.ok_or("this kernel has no netlink family `ethtool` (5.6)")?;
    Ok(Ethtool { socket, family })
}

fn get(ethtool: &mut Ethtool, device: &str, setting: CardSetting) -> Result<Told, String> {
    let place = place(setting);
    let request = request(place.get, device);
    let parse = |payload: &[u8]| Some(told(payload, &place));
    let answer = ethtool.socket.ask(ethtool.family, &request, &mut Buffer::new(), parse);
    answer.map_err(words)?.ok_or_else(|| "the driver does not tell it".into())
}

fn told(payload: &[u8], place: &Place) -> Told {
    let number = |wanted: u16| {
        let (_, value) = attributes(payload).find(|(kind, _)| *kind == wanted)?;
        u32_at(value, 0)
    };
    Told { now: number(place.value), most: number(place.most) }
}

/// A request about a device.
fn request(command: u8, device: &str) -> Vec<u8> {
    let mut nest = Vec::new();
    push_attribute(&mut nest, ETHTOOL_A_HEADER_DEV_NAME, &[device.as_bytes(), b"\0"].concat());
    let mut request = header(command);
    push_attribute(&mut request, HEADER | NLA_F_NESTED, &nest);
    request
}

fn set_request(device: &str, setting: CardSetting, value: u32) -> Vec<u8> {
    let place = place(setting);
    let mut request = request(place.set, device);
    push_attribute(&mut request, place.value, &value.to_ne_bytes());
    request
}

fn words(failure: Failure) -> String {
    match failure {
        Failure::Refused(Errno::OPNOTSUPP) => "its driver has no such setting".into(),
        Failure::Refused(Errno::BUSY) => "its driver cannot set it just now".into(),
        Failure::Refused(Errno::INVAL) => "its driver does not allow this number".into(),
        other => link::words(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What 6.18 answered about the rings of a virtio card, and about the queues of a veth device;
    /// little-endian.
    const RINGS: &str = "10010000180001800800010004000000090002006574683000000000080002000001000008000600\
        000100000800050000010000080009000001000005000d000000000005000e0000000000";
    const QUEUES: &str = "120100001400018008000100030000000700020076300000080002000400000008000600\
        0400000008000300040000000800070004000000";

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len() - 1).step_by(2).map(digit).collect()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn rings_are_read_and_set_by_their_attributes() {
        let (rings, queues) = (bytes(RINGS), bytes(QUEUES));
        for setting in [CardSetting::RxRing, CardSetting::TxRing] {
            let told = told(&rings, &place(setting));
            assert_eq!(told, Told { now: Some(256), most: Some(256) });
        }
        for setting in [CardSetting::RxQueues, CardSetting::TxQueues] {
            assert_eq!(told(&queues, &place(setting)), Told { now: Some(4), most: Some(4) });
        }
        let nothing = Told { now: None, most: None };
        assert_eq!(told(&queues, &place(CardSetting::CombinedQueues)), nothing);
        assert_eq!(told(&rings[..28], &place(CardSetting::RxRing)), nothing);
        let set = set_request("eth0", CardSetting::RxRing, 1024);
        assert_eq!(
            set,
            [
                16, 1, 0, 0, // ETHTOOL_MSG_RINGS_SET
                16, 0, 1, 128, 9, 0, 2, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0, // of eth0
                8, 0, 6, 0, 0, 4, 0, 0, // ETHTOOL_A_RINGS_RX
            ]
        );
        let set = set_request("eth0", CardSetting::CombinedQueues, 4);
        assert_eq!((set[0], &set[20..]), (18, &[8, 0, 9, 0, 4, 0, 0, 0][..]));
    }

    #[test]
    fn what_a_driver_cannot_is_told_in_one_line() {
        // Loopback has no rings.
        let told = read("lo", CardSetting::RxRing).unwrap_err();
        assert_eq!(told, "its driver has no such setting");
        let told = read("no-such-device", CardSetting::CombinedQueues).unwrap_err();
        assert_eq!(told, "there is no such device");
    }
}
