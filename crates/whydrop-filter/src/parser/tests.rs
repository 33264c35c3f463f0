use crate::compile;

fn refused(expression: &str) -> (usize, String) {
    let error = compile(expression).expect_err(expression);
    (error.position(), error.to_string())
}

#[test]
fn equal_expressions_compile_to_the_same() {
    for (one, other) in [
        ("port 80 or 443", "port 80 or port 443"),
        ("not host 1.2.3.4 and 5.6.7.8", "(not host 1.2.3.4) and host 5.6.7.8"),
        ("tcp src port 80 or 443", "tcp src port 80 or tcp src port 443"),
        ("port (80 or 443)", "port 80 or port 443"),
        ("tcp or udp and ip", "(tcp or udp) and ip"),
        ("src or dst host 1.2.3.4", "host 1.2.3.4"),
        ("src 1.2.3.4", "src host 1.2.3.4"),
        ("net 10.1", "net 10.1.0.0/16"),
        ("net 10", "net 10.0.0.0 mask 255.0.0.0"),
        ("! tcp && ! udp || arp", "not tcp and not udp or arp"),
        ("proto \\tcp", "proto 6"),
        ("less 64", "len <= 64"),
        ("portrange 90-80", "portrange 80-90"),
        ("tcp[tcpflags] == tcp-syn", "tcp[13] = 2"),
        ("1 + 2 * 3 = len", "7 = len"),
        ("ip[0] = 10 % 4 + 3", "ip[0] = 3"),
    ] {
        assert_eq!(compile(one), compile(other), "{one} and {other}");
    }
}

#[test]
fn what_is_wrong_has_a_place_and_a_hint() {
    for (expression, at, words) in [
        ("tcp port htpp", 9, "did you mean http?"),
        ("host 10.1", 5, "net 10.1"),
        ("tcp or 80", 7, "put host, net or port before it"),
        ("tcp host 1.2.3.4", 9, "write tcp and host ADDRESS"),
        ("net 10.0.0.1/8", 4, "the network is 10.0.0.0"),
        ("vlan 5", 0, "--dev"),
        ("gre", 0, "proto gre"),
        ("host example.org", 5, "give an IPv4 or IPv6 address"),
        ("tpc", 0, "did you mean tcp?"),
        ("port 80 and", 11, "(the end)"),
        ("(tcp", 4, ") is missing"),
        ("tcp)", 3, "no ( before"),
        ("tcp udp", 4, "and` or `or"),
        ("ip[0:3] = 1", 5, "1, 2 or 4"),
        ("5 / 0 = 3", 2, "division by zero"),
        ("len << 40 = 0", 4, "31 bits"),
        ("port 70000", 5, "65535"),
        ("udp port http", 9, "another protocol"),
        ("ether proto 100", 12, "more than 1500"),
        ("ether[12:4] = 1", 6, "ask for each"),
        ("ip broadcast", 3, "dst host"),
        ("tcp[13]", 7, "compare with"),
        ("host 1.2.3.4/24", 13, "net instead of host"),
        ("esp[0] = 1", 3, "cannot be looked at"),
        ("ip proto tcp", 9, "\\tcp"),
        ("1.2.3.4", 0, "put host, net or port before it"),
    ] {
        let (position, message) = refused(expression);
        assert_eq!(position, at, "{expression}: {message}");
        assert!(message.contains(words), "{expression}: {message}");
    }
}

#[test]
fn nesting_has_an_end() {
    let deep = |levels| format!("{}tcp{}", "(".repeat(levels), ")".repeat(levels));
    assert!(compile(&deep(60)).is_ok());
    assert!(compile(&deep(5000)).is_err());
    assert!(compile(&format!("{}1 = 1", "(".repeat(5000))).is_err());
    assert!(compile(&format!("{}tcp", "not ".repeat(200))).is_ok());
}
