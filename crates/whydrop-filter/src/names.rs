//! Names with a fixed value: constants of the language, IP protocols, services.
//!
//! libpcap asks the host's `/etc/protocols` and `/etc/services`; here a filter means the same on
//! every host, so only names that stand below are known.

/// Constants that stand for an offset or a value in arithmetic.
pub(crate) fn constant(name: &str) -> Option<u32> {
    let value = match name {
        "icmptype" | "icmp6type" | "icmp-echoreply" => 0,
        "icmpcode" | "icmp6code" | "tcp-fin" | "icmp6-destinationunreach" => 1,
        "tcp-syn" | "icmp6-packettoobig" => 2,
        "icmp-unreach" | "icmp6-timeexceeded" => 3,
        "tcp-rst" | "icmp-sourcequench" | "icmp6-parameterproblem" => 4,
        "icmp-redirect" => 5,
        "tcp-push" | "icmp-echo" => 8,
        "icmp-routeradvert" => 9,
        "icmp-routersolicit" => 10,
        "icmp-timxceed" => 11,
        "icmp-paramprob" => 12,
        "tcpflags" | "icmp-tstamp" => 13,
        "icmp-tstampreply" => 14,
        "icmp-ireq" => 15,
        "tcp-ack" | "icmp-ireqreply" => 16,
        "icmp-maskreq" => 17,
        "icmp-maskreply" => 18,
        "tcp-urg" => 32,
        "tcp-ece" => 64,
        "tcp-cwr" | "icmp6-echo" => 128,
        "icmp6-echoreply" => 129,
        "icmp6-multicastlistenerquery" => 130,
        "icmp6-multicastlistenerreportv1" => 131,
        "icmp6-multicastlistenerdone" => 132,
        "icmp6-routersolicit" => 133,
        "icmp6-routeradvert" => 134,
        "icmp6-neighborsolicit" => 135,
        "icmp6-neighboradvert" => 136,
        "icmp6-redirect" => 137,
        "icmp6-routerrenum" => 138,
        "icmp6-nodeinformationquery" => 139,
        "icmp6-nodeinformationresponse" => 140,
        "icmp6-ineighbordiscoverysolicit" => 141,
        "icmp6-ineighbordiscoveryadvert" => 142,
        "icmp6-multicastlistenerreportv2" => 143,
        "icmp6-homeagentdiscoveryrequest" => 144,
        "icmp6-homeagentdiscoveryreply" => 145,
        "icmp6-mobileprefixsolicit" => 146,
        "icmp6-mobileprefixadvert" => 147,
        "icmp6-certpathsolicit" => 148,
        "icmp6-certpathadvert" => 149,
        "icmp6-multicastrouteradvert" => 151,
        "icmp6-multicastroutersolicit" => 152,
        "icmp6-multicastrouterterm" => 153,
        _ => return None,
    };
    Some(value)
}

/// IP protocols by name, as after `proto`.
pub(crate) const PROTOCOLS: &[(&str, u32)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipencap", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("ipv6-frag", 44),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("ipv6-nonxt", 59),
    ("eigrp", 88),
    ("ospf", 89),
    ("ipip", 94),
    ("pim", 103),
    ("ipcomp", 108),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];

/// EtherTypes by name, as after `ether proto`.
pub(crate) const ETHERTYPES: &[(&str, u32)] =
    &[("ip", 0x0800), ("arp", 0x0806), ("rarp", 0x8035), ("ip6", 0x86dd)];

/// For which protocols a service has its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Tcp,
    Udp,
    Both,
}

/// Services by name, as after `port`; which protocols each is for as in Debian's `netbase`.
pub(crate) const SERVICES: &[(&str, u16, Of)] = &[
    ("ftp-data", 20, Of::Tcp),
    ("ftp", 21, Of::Tcp),
    ("ssh", 22, Of::Tcp),
    ("telnet", 23, Of::Tcp),
    ("smtp", 25, Of::Tcp),
    ("domain", 53, Of::Both),
    ("bootps", 67, Of::Udp),
    ("bootpc", 68, Of::Udp),
    ("tftp", 69, Of::Udp),
    ("http", 80, Of::Tcp),
    ("kerberos", 88, Of::Both),
    ("pop3", 110, Of::Tcp),
    ("sunrpc", 111, Of::Both),
    ("ntp", 123, Of::Udp),
    ("imap2", 143, Of::Tcp),
    ("snmp", 161, Of::Both),
    ("snmp-trap", 162, Of::Both),
    ("bgp", 179, Of::Tcp),
    ("ldap", 389, Of::Both),
    ("https", 443, Of::Both),
    ("syslog", 514, Of::Udp),
    ("submission", 587, Of::Tcp),
    ("ldaps", 636, Of::Both),
    ("imaps", 993, Of::Tcp),
    ("openvpn", 1194, Of::Both),
    ("nfs", 2049, Of::Both),
    ("mysql", 3306, Of::Tcp),
    ("postgresql", 5432, Of::Tcp),
    ("sip", 5060, Of::Both),
    ("redis", 6379, Of::Tcp),
];

/// The known name that is most like this one; `None` if none is.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let close = known.map(|one| (distance(name, one), one)).min()?;
    (close.0 <= 2 && close.0 < name.len()).then_some(close.1)
}

/// Letters to insert, remove, replace or exchange with their neighbour to get from one word to the
/// other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for row in 1..=from.len() {
        let mut next = vec![row];
        for at in 1..=to.len() {
            let same = from[row - 1] == to[at - 1];
            let replaced = rows[row - 1][at - 1] + usize::from(!same);
            let mut least = replaced.min(rows[row - 1][at] + 1).min(next[at - 1] + 1);
            if row > 1 && at > 1 && from[row - 1] == to[at - 2] && from[row - 2] == to[at - 1] {
                least = least.min(rows[row - 2][at - 2] + 1);
            }
            next.push(least);
        }
        rows.push(next);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let services = || SERVICES.iter().map(|service| service.0);
        assert_eq!(nearest("htpp", services()), Some("http"));
        assert_eq!(nearest("domian", services()), Some("domain"));
        assert_eq!(nearest("webcache", services()), None);
        assert_eq!(nearest("ab", services()), None);
    }
}
