//! Expressions and frames to try them on: those that people write, and as many again put together by
//! chance, always the same.

/// Expressions that people write, and corners of the language.
const WRITTEN: &[&str] = &[
    "",
    "ip",
    "ip6",
    "arp",
    "rarp",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmp6",
    "igmp",
    "esp",
    "ah",
    "pim",
    "vrrp",
    "igrp",
    "carp",
    "host 10.0.0.7",
    "src host 10.0.0.7",
    "dst host 10.0.0.7",
    "src and dst host 10.0.0.7",
    "src 10.0.0.7",
    "dst 2001:db8::2",
    "ip host 10.0.0.7",
    "arp host 10.0.0.7",
    "rarp host 10.0.0.7",
    "arp src 10.0.0.1",
    "ip6 host 2001:db8::1",
    "host ::1",
    "host 2001:db8::1",
    "not host 10.0.0.7",
    "host 10.0.0.7 or 10.0.0.1",
    "not host 10.0.0.7 and 10.0.0.1",
    "host 10.0.0.7 and (10.0.0.1 or 192.168.1.5)",
    "host not 10.0.0.7",
    "net 10.0.0.0/8",
    "net 10",
    "net 10.0",
    "net 192.168.1",
    "net 192.168.0.0/16",
    "net 10.0.0.0 mask 255.255.255.0",
    "src net 10.0.0.0/24",
    "dst net 192.168.0.0/17",
    "net 0.0.0.0/0",
    "net 10.0.0.7/32",
    "net 2001:db8::/32",
    "src net fe80::/10",
    "net ::/0",
    "ip6 net 2001:db8::/64",
    "net 2001:db8::1/128",
    "arp net 10.0.0.0/24",
    "net 10.0.0.0",
    "port 80",
    "src port 80",
    "dst port 443",
    "src and dst port 53",
    "src or dst port 53",
    "tcp port 80",
    "udp port 53",
    "sctp port 5000",
    "tcp src port 40000",
    "tcp dst port 443",
    "port 80 or 443",
    "port 80 and 40000",
    "not port 80",
    "port not 80",
    "port (80 or 443)",
    "tcp port 80 or 443 and host 10.0.0.7",
    "port http",
    "port domain",
    "udp port domain",
    "port https or ssh",
    "tcp port ssh",
    "portrange 80-443",
    "portrange 443-80",
    "portrange 80",
    "tcp portrange 79-81",
    "src portrange 1000-65535",
    "udp dst portrange 53-53",
    "portrange ftp-http",
    "portrange http-443",
    "port 0x50",
    "port 0120",
    "port 0",
    "port 65535",
    "proto 6",
    "proto \\tcp",
    "proto gre",
    "ip proto 47",
    "ip proto \\udp",
    "ip6 proto 17",
    "ip6 proto \\tcp",
    "ip proto ospf",
    "proto 300",
    "ether proto 0x800",
    "ether proto \\arp",
    "ether proto 0x88cc",
    "ether proto \\ip6",
    "proto sctp or 17",
    "ip proto 6 or 17",
    "ether host 02:00:00:00:00:01",
    "ether src 02:00:00:00:00:01",
    "ether dst 02-00-00-00-00-02",
    "ether broadcast",
    "broadcast",
    "ether multicast",
    "multicast",
    "ip multicast",
    "ip6 multicast",
    "less 60",
    "greater 60",
    "len > 60",
    "len = 74",
    "len % 2 = 0",
    "len & 1 != 0",
    "greater 0x40",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
    "tcp[tcpflags] & tcp-syn != 0",
    "tcp[13] & 2 != 0",
    "tcp[13] = 2",
    "tcp[tcpflags] = tcp-syn|tcp-ack",
    "tcp[13] & 4 = 4",
    "tcp[0:2] = 80 or tcp[2:2] = 80",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "ip[0] & 0xf > 5",
    "ip[0] & 0xf = 5",
    "ip[6:2] & 0x1fff != 0",
    "ip[6] & 0x20 != 0",
    "ip[8] < 5",
    "ip[2:2] > 40",
    "ip[12:4] = 0x0a000007",
    "ip[9] = 6",
    "ip[ip[0] & 0xf] = 0",
    "ip6[6] = 17",
    "ip6[40:2] = 53",
    "ip6[7] = 64",
    "icmp[icmptype] = icmp-echo",
    "icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply",
    "icmp[0] = icmp-unreach",
    "icmp[icmpcode] = 4",
    "icmp6[icmp6type] = 135",
    "icmp6[icmp6type] = icmp6-neighborsolicit",
    "udp[8:4] = 0xdeadbeef",
    "udp[4:2] > 8",
    "udp[0] = 0",
    "arp[6:2] = 1",
    "arp[7] = 2",
    "ether[0] & 1 = 1",
    "ether[12:2] = 0x800",
    "ether[6:4] = 0x02000000",
    "ether[12] = 8",
    "igmp[0] = 0x11",
    "sctp[12] = 1",
    "ip[2:2] - 20 = len - 34",
    "ip[2:2] = len - 14",
    "1 = 1",
    "1 = 2",
    "0 < 1",
    "1 + 1 = 2 and tcp",
    "10 % 4 + 3 = 3",
    "7 ^ 2 + 1 = 4",
    "2 * 3 + 1 = 7",
    "1 + 2 * 3 = 7",
    "1 << 2 + 1 = 8",
    "6 & 3 | 8 = 10",
    "-1 = 0xffffffff",
    "- ip[8] = - 64",
    "len - 1 = len + -1",
    "len / 2 > 30",
    "len * 2 > 120",
    "len ^ 74 = 0",
    "tcp[2:2] / tcp[13] = 1",
    "len / ip[1] = 0",
    "1 << ip[8] = 0",
    "len = ip[2:2] + 14",
    "(tcp[13] & 0x02) != 0",
    "((tcp))",
    "(tcp or udp) and port 53",
    "tcp or udp and port 53",
    "not tcp",
    "not not tcp",
    "! tcp",
    "tcp && port 80 || udp",
    "not (tcp or udp)",
    "not tcp and not udp and not arp",
    "tcp and not port 80 or 443",
    "ip and not ip6",
    "tcp port 443 and host 10.0.0.7",
    "host 10.0.0.7 and not (port 80 or 443)",
    "src host 10.0.0.7 or host 2001:db8::2",
    "tcp and (port 80 or port 443) and not net 10.0.0.0/8",
    "udp and ip6",
    "tcp and ip and ip6",
    "ip and not tcp port 22 and not arp",
    "port 53 and ip6",
    "(port 53 and udp) or (tcp[13] & 4 != 0)",
    "tcp dst port 80 or udp dst port 53 or icmp",
    "ip host 10.0.0.7 and tcp port 80",
    "dst host 10.0.0.7 and src port 40000",
    "src port 53 or dst port 53 and udp",
    "not src net 10.0.0.0/8 and dst net 192.168.0.0/16",
    "ip6 and tcp[13] = 2",
    "tcp[13] != 2",
    "not tcp[13] = 2",
    "udp[0:2] != 53",
    "not udp[0:2] = 53",
    "host 10.0.0.7 and host 10.0.0.7",
    "tcp or tcp",
    "port 80 or not port 80",
    // What is refused on one side or both.
    "gre",
    "vlan",
    "tcp host 10.0.0.7",
    "tcp or 80",
    "host",
    "port 70000",
    "5 / 0 = 1",
    "foo",
    "net 10.0.0.1/8",
    "10.0.0.7",
    "esp[0] = 1",
    "ip[0:3] = 1",
    "tcp proto 5",
    "len << 32 = 1",
    "udp port http",
    "ip proto tcp",
    "ip host ::1",
    "tcp and",
    "(tcp",
    "tcp)",
    "ip[99999999] = 1",
];

/// Expressions that tcpdump takes and whydrop refuses, and tells so in `docs/filters.md`.
pub(crate) const REFUSED: &[&str] = &["vlan", "ip[99999999] = 1"];

/// Expressions made by chance.
const MADE: usize = 400;

/// All expressions.
pub(crate) fn expressions() -> Vec<String> {
    let mut chance = Chance(0x5eed);
    let made = (0..MADE).map(|_| chance.expression(2));
    WRITTEN.iter().map(ToString::to_string).chain(made).collect()
}

/// Numbers by chance, the same in every run: a linear congruence of 64 bits.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn expression(&mut self, depth: usize) -> String {
        let first = self.term(depth);
        (0..self.below(3)).fold(first, |left, _| {
            let join = self.one(&["and", "or", "&&", "||"]);
            format!("{left} {join} {}", self.term(depth))
        })
    }

    fn term(&mut self, depth: usize) -> String {
        match self.below(10) {
            0 if depth > 0 => format!("({})", self.expression(depth - 1)),
            1 if depth > 0 => format!("not ({})", self.expression(depth - 1)),
            2 => format!("not {}", self.primitive()),
            3 => self.comparison(),
            _ => self.primitive(),
        }
    }

    fn primitive(&mut self) -> String {
        let direction = self.one(&["", "", "src ", "dst ", "src or dst ", "src and dst "]);
        let (four, six) = (
            self.one(&["10.0.0.7", "10.0.0.1", "192.168.1.5", "224.0.0.1"]),
            self.one(&["2001:db8::1", "2001:db8::2", "fe80::1"]),
        );
        let transport = self.one(&["", "tcp ", "udp ", "sctp "]);
        let port = self.one(&["53", "80", "443", "40000", "ssh"]);
        match self.below(8) {
            0 => format!("{direction}host {four}"),
            1 => format!("{direction}host {six}"),
            2 => format!(
                "{direction}net {}",
                self.one(&["10", "10.0.0.0/24", "192.168", "2001:db8::/32"])
            ),
            3 if port == "ssh" => format!("{direction}port {port} or 80"),
            3 => format!("{transport}{direction}port {port}"),
            4 => format!("{transport}{direction}portrange {}", self.one(&["0-80", "80-443", "53"])),
            5 => {
                self.one(&["tcp", "udp", "icmp", "icmp6", "ip", "ip6", "arp", "sctp", "esp"]).into()
            }
            6 => format!(
                "{} {}",
                self.one(&["proto", "ip proto", "ip6 proto"]),
                self.one(&["6", "17", "47", "58"])
            ),
            _ => format!(
                "{} {}",
                self.one(&["less", "greater"]),
                self.one(&["54", "60", "74", "100"])
            ),
        }
    }

    fn comparison(&mut self) -> String {
        let relation = self.one(&["=", "!=", "<", "<=", ">", ">="]);
        let (left, right) = (self.sum(1), self.sum(1));
        format!("{left} {relation} {right}")
    }

    fn sum(&mut self, depth: usize) -> String {
        match self.below(5) {
            0 if depth > 0 => {
                let operator = self.one(&["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"]);
                let right =
                    if operator == "<<" || operator == ">>" { "3".into() } else { self.sum(0) };
                format!("({} {operator} {right})", self.sum(depth - 1))
            }
            1 => self.one(&["1", "6", "64", "0x50", "40000", "len"]).into(),
            _ => {
                let protocol = self.one(&["ip", "tcp", "udp", "ip6", "icmp", "arp"]);
                let at = self.one(&["0", "2", "4", "8", "12"]);
                format!("{protocol}[{at}{}]", self.one(&["", ":2", ":4"]))
            }
        }
    }
}

/// Frames of every kind that the expressions ask for.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let pairs = [
        ([10, 0, 0, 7], [10, 0, 0, 1]),
        ([10, 0, 0, 1], [192, 168, 1, 5]),
        ([192, 168, 1, 5], [224, 0, 0, 1]),
    ];
    let ports = [(40000, 80), (443, 40000), (53, 53), (40000, 22), (5000, 79)];
    for (source, destination) in pairs {
        for (from, to) in ports {
            for flags in [0x02, 0x12, 0x04] {
                frames.push(ipv4(source, destination, 6, &tcp(from, to, flags), &[], 0x4000));
            }
            frames.push(ipv4(source, destination, 17, &udp(from, to), &[], 0));
            frames.push(ipv4(source, destination, 132, &udp(from, to), &[], 0));
        }
        frames.push(ipv4(source, destination, 6, &tcp(40000, 80, 2), &[1; 12], 0));
        // The first and a later fragment.
        frames.push(ipv4(source, destination, 17, &udp(53, 53), &[], 0x2000));
        frames.push(ipv4(source, destination, 17, &udp(53, 53), &[], 0x2007));
        for (protocol, payload) in
            [(1, [8, 0, 1, 2]), (1, [3, 4, 0, 0]), (2, [0x11, 0, 0, 0]), (47, [0; 4]), (50, [1; 4])]
        {
            frames.push(ipv4(source, destination, protocol, &payload, &[], 0));
        }
        for (ethertype, operation) in [(0x0806, 1), (0x0806, 2), (0x8035, 3)] {
            let mut arp = vec![0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, 1];
            arp.extend(source);
            arp.extend([0; 6]);
            arp.extend(destination);
            frames.push(ethernet(ethertype, &arp));
        }
    }
    for (from, to) in ports {
        frames.push(ipv6(1, 2, 6, &tcp(from, to, 2)));
        frames.push(ipv6(2, 1, 17, &udp(from, to)));
    }
    frames.push(ipv6(1, 2, 58, &[135, 0, 0, 0]));
    // A fragment header, and a hop-by-hop header.
    for first in [44, 0] {
        let mut behind = vec![6, 0, 0, 0, 0, 0, 0, 1];
        behind.extend(tcp(40000, 80, 2));
        frames.push(ipv6(1, 2, first, &behind));
    }
    let mut multicast = ipv6(1, 2, 17, &udp(53, 53));
    multicast[38] = 0xff;
    multicast[0] = 0x33;
    frames.push(multicast);
    frames.push(ethernet(0x88cc, &[2, 7, 4, 0]));
    frames.push(ethernet(0x8100, &[0, 5, 8, 0, 0x45, 0, 0, 20]));
    let mut broadcast = ethernet(0x0806, &[0; 28]);
    broadcast[..6].fill(0xff);
    frames.push(broadcast);
    frames
}

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

fn ipv4(
    source: [u8; 4],
    destination: [u8; 4],
    protocol: u8,
    payload: &[u8],
    options: &[u8],
    fragment: u16,
) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | (header / 4) as u8, 0];
    packet.extend(((header + payload.len()) as u16).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(options);
    packet.extend(payload);
    ethernet(0x0800, &packet)
}

fn ipv6(source: u8, destination: u8, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    for last in [source, destination] {
        packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(payload);
    ethernet(0x86dd, &packet)
}

fn tcp(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut segment = [from.to_be_bytes(), to.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(*b"GET /");
    segment
}

fn udp(from: u16, to: u16) -> Vec<u8> {
    let mut datagram = [from.to_be_bytes(), to.to_be_bytes()].concat();
    datagram.extend([0, 12, 0, 0, 0xde, 0xad, 0xbe, 0xef]);
    datagram
}
