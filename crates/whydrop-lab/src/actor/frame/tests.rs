use super::*;
use crate::part::frame::Hex;

/// A healthy UDP datagram from a to b.
fn datagram() -> Frame {
    Frame {
        ipv4: Some(Ipv4::plain([10, 99, 0, 1].into(), [10, 99, 0, 2].into())),
        udp: Some(Udp { from: 4000, to: 9000, length: None, checksum: Checksum::Good }),
        data: Hex(b"hello".to_vec()),
        ..Frame::default()
    }
}

fn hex(bytes: Vec<u8>) -> String {
    Hex(bytes).into()
}

/// Written down from a computation that shares no code with this one.
const DATAGRAM: &str = "02000000000b02000000000a0800\
     4500002100070000401165fd0a6300010a630002\
     0fa02328000dDDDD68656c6c6f";

#[test]
fn known_bytes() {
    let mut frame = datagram();
    let sent = bytes(&frame, 7);
    let udp_sum = hex(sent[40..42].to_vec());
    assert_eq!(hex(sent.clone()), DATAGRAM.replace("DDDD", &udp_sum));
    // Header, pseudo header and data together sum up to nothing.
    let mut covered = sent[26..34].to_vec();
    covered.extend([0, 17, 0, 13]);
    covered.extend(&sent[34..]);
    assert_eq!(checksum(&covered), 0);

    frame.ether.vlan = Some(42);
    assert_eq!(hex(bytes(&frame, 0)[12..18].to_vec()), "8100002a0800");
    frame.cut = Some(24);
    assert_eq!(bytes(&frame, 0).len(), 24);
}

#[test]
fn a_frame_within_a_frame() {
    let mut inner = datagram();
    inner.ipv4.as_mut().unwrap().tos = 3;
    let vxlan = Vxlan { vni: 10, flags: None, frame: Box::new(inner.clone()) };
    let outer = Frame { vxlan: Some(vxlan), data: Hex::default(), ..datagram() };
    let sent = bytes(&outer, 5);
    assert_eq!(hex(sent[42..50].to_vec()), "0800000000000a00");
    assert_eq!(sent[50..], bytes(&inner, 5));
    assert_eq!((sent[15], sent[50 + 15]), (0, 3), "the byte of DSCP and ECN");
}

#[test]
fn wrong_sums_are_wrong_and_not_none() {
    let mut frame = datagram();
    let right = bytes(&frame, 0);
    for checksum in [Checksum::Bad, Checksum::Zero] {
        let header = frame.udp.as_mut().unwrap();
        header.checksum = checksum;
        let sent = bytes(&frame, 0);
        let differing = sent.iter().zip(&right).filter(|(a, b)| a != b).count();
        assert!((1..=2).contains(&differing), "{checksum:?}");
        assert_eq!(sent[40..42] == [0, 0], checksum == Checksum::Zero);
    }
    for right in 0..=0xffff {
        let bad = u16::from_be_bytes(field(right, Checksum::Bad));
        assert!(bad != right && bad != 0, "{right}");
    }
}

#[test]
fn fragments_of_a_round_share_an_id() {
    let mut frame = datagram();
    let header = frame.ipv4.as_mut().unwrap();
    (header.id, header.more_fragments, header.offset) = (100, true, 16);
    assert_eq!(hex(bytes(&frame, 2)[18..22].to_vec()), "00662002");

    let six: Ipv6 = toml::from_str("from = 'fd99::1'\nto = 'fd99::2'\nfragment-id = 5").unwrap();
    let frame = Frame { ipv6: Some(Ipv6 { offset: 8, ..six }), ipv4: None, ..datagram() };
    let sent = bytes(&frame, 1);
    assert_eq!(hex(sent[18..22].to_vec()), "00152c40", "length, fragment header, hop limit");
    assert_eq!(hex(sent[54..62].to_vec()), "1100000800000006");
}
