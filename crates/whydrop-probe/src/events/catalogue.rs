//! The tracepoints that the events come from, and what the numbers mean that they come with.
//!
//! One list, in the order of `EVENT_*` in `bpf/wire.h`. Nothing here knows a kernel's version: what
//! a tracepoint hands over is compared with its type information.

use std::collections::BTreeMap;

use crate::btf::Btf;

/// A tracepoint with a program.
#[derive(Debug)]
pub(crate) struct Tracepoint {
    /// `EVENT_*`.
    pub(crate) number: u32,
    subsystem: &'static str,
    /// Its name, and that of the program.
    pub(crate) name: &'static str,
    /// Types of the arguments that the program reads, by position, as
    /// [`Btf::tracepoints`] gives them; empty for those that it does not read.
    arguments: &'static [&'static str],
    /// How many of them it cannot do without.
    required: usize,
    codes: Codes,
}

/// What the code of an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codes {
    /// Always 0.
    None,
    /// State of a TCP socket.
    State,
    /// The same, with what sending returned in the upper half.
    StateAndReturned,
    /// Member of an enum of the kernel, without this prefix.
    Member { of: &'static str, prefix: &'static str },
    /// Error number.
    Error,
    /// Send or receive memory.
    Memory,
    /// Just a number.
    Number,
    /// Part of the address of a name that the exemplars show.
    Trap,
}

/// All of them (`include/trace/events/*.h`, 5.8 to 7.2).
///
/// `xdp:xdp_redirect_map_err` is not among them: since 5.6 nothing in the kernel calls it.
/// `neigh:neigh_timer_handler` is where a neighbour that does not answer is given up;
/// `neigh:neigh_update` has that state only when somebody deletes an entry.
pub(crate) const TRACEPOINTS: [Tracepoint; 15] = [
    tracepoint(
        1,
        "tcp:tcp_retransmit_skb",
        &["sock", "sk_buff", "int"],
        2,
        Codes::StateAndReturned,
    ),
    tracepoint(2, "tcp:tcp_retransmit_synack", &["sock", "request_sock"], 2, Codes::None),
    tracepoint(
        3,
        "tcp:tcp_send_reset",
        &["sock", "sk_buff", "sk_rst_reason"],
        2,
        Codes::Member { of: "sk_rst_reason", prefix: "SK_RST_REASON_" },
    ),
    tracepoint(4, "tcp:tcp_receive_reset", &["sock"], 1, Codes::State),
    tracepoint(5, "sock:sock_rcvqueue_full", &["sock", "sk_buff"], 2, Codes::None),
    tracepoint(6, "sock:sock_exceed_buf_limit", &["sock", "", "", "int"], 4, Codes::Memory),
    tracepoint(7, "udp:udp_fail_queue_rcv_skb", &["int", "sock", "sk_buff"], 2, Codes::Error),
    tracepoint(
        8,
        "xdp:xdp_exception",
        &["net_device", "", "u32"],
        3,
        Codes::Member { of: "xdp_action", prefix: "XDP_" },
    ),
    tracepoint(9, "xdp:xdp_redirect_err", &["net_device", "", "", "int"], 4, Codes::Error),
    tracepoint(10, "neigh:neigh_event_send_dead", &["neighbour"], 1, Codes::None),
    tracepoint(11, "neigh:neigh_timer_handler", &["neighbour"], 1, Codes::None),
    tracepoint(12, "net:net_dev_xmit_timeout", &["net_device", "int"], 2, Codes::Number),
    tracepoint(13, "napi:napi_poll", &["napi_struct", "int", "int"], 3, Codes::Number),
    tracepoint(
        14,
        "qdisc:qdisc_drop",
        &["", "", "net_device", "sk_buff", "qdisc_drop_reason"],
        5,
        Codes::Member { of: "qdisc_drop_reason", prefix: "" },
    ),
    tracepoint(
        15,
        "devlink:devlink_trap_report",
        &["", "sk_buff", "devlink_trap_metadata"],
        3,
        Codes::Trap,
    ),
];

const fn tracepoint(
    number: u32,
    full_name: &'static str,
    arguments: &'static [&'static str],
    required: usize,
    codes: Codes,
) -> Tracepoint {
    let mut colon = 0;
    while full_name.as_bytes()[colon] != b':' {
        colon += 1;
    }
    let (subsystem, name) = full_name.split_at(colon);
    let (_, name) = name.split_at(1);
    Tracepoint { number, subsystem, name, arguments, required, codes }
}

/// What a kernel makes of a tracepoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It has none of that name.
    Absent,
    /// It has it, with so many arguments.
    Arguments(u8),
    /// It has it, but not as the program knows it.
    Unsuited(String),
}

impl Tracepoint {
    /// As in the list of tracepoints, with its subsystem.
    pub(crate) fn full_name(&self) -> String {
        format!("{}:{}", self.subsystem, self.name)
    }

    /// What the kernel with these arguments offers.
    fn offer(&self, found: Option<&[&str]>) -> Offer {
        let Some(found) = found else { return Offer::Absent };
        let differs = |(wanted, found): (&&str, &&str)| !wanted.is_empty() && wanted != found;
        if found.len() < self.required || self.arguments.iter().zip(found).any(differs) {
            let why = format!(
                "this kernel hands over ({}), which this release does not know",
                found.join(", ")
            );
            return Offer::Unsuited(why);
        }
        Offer::Arguments(found.len() as u8)
    }
}

/// What a kernel offers, in the order of [`TRACEPOINTS`].
pub(crate) fn offers(btf: &Btf) -> [Offer; TRACEPOINTS.len()] {
    let found = btf.tracepoints(TRACEPOINTS.each_ref().map(|tracepoint| tracepoint.name));
    let mut found = found.iter();
    TRACEPOINTS
        .each_ref()
        .map(|tracepoint| tracepoint.offer(found.next().and_then(|arguments| arguments.as_deref())))
}

/// The tracepoint with this number.
pub(crate) fn numbered(number: u32) -> Option<&'static Tracepoint> {
    TRACEPOINTS.get((number as usize).checked_sub(1)?)
}

/// Names of codes on the running kernel.
#[derive(Debug, Default)]
pub(crate) struct Names {
    members: BTreeMap<(&'static str, u32), String>,
    /// Names of traps, by that part of their address that is their code.
    pub(crate) traps: BTreeMap<u32, Box<str>>,
}

impl Names {
    /// Takes the members of the enums from the kernel's type information.
    pub(crate) fn read(btf: &Btf) -> Self {
        let mut members = BTreeMap::new();
        for found in btf.enums() {
            for tracepoint in &TRACEPOINTS {
                let Codes::Member { of, prefix } = tracepoint.codes else { continue };
                if of != found.name() {
                    continue;
                }
                for (name, value) in found.members() {
                    let Ok(value) = u32::try_from(value) else { continue };
                    let name = name.strip_prefix(prefix).unwrap_or(name).to_owned();
                    members.entry((of, value)).or_insert(name);
                }
            }
        }
        Self { members, traps: BTreeMap::new() }
    }

    /// What a code says; empty if it says nothing.
    pub(crate) fn code(&self, tracepoint: &Tracepoint, code: u32) -> String {
        let unknown = || format!("UNKNOWN_{code}");
        match tracepoint.codes {
            Codes::None => String::new(),
            Codes::State => state(code),
            Codes::StateAndReturned => match (code >> 16) as i16 {
                0 => state(code),
                returned => format!("{} {}", state(code & 0xffff), returned_name(returned)),
            },
            Codes::Member { of, .. } => match self.members.get(&(of, code)) {
                Some(name) => name.clone(),
                // A kernel without the enum has no code either.
                None if code == 0 && !self.has(of) => String::new(),
                None => unknown(),
            },
            Codes::Error => error(code),
            Codes::Memory => match code {
                0 => "SEND".to_owned(),
                1 => "RECV".to_owned(),
                _ => unknown(),
            },
            Codes::Number => code.to_string(),
            Codes::Trap => {
                self.traps.get(&code).map_or_else(unknown, |name| name.clone().into_string())
            }
        }
    }

    fn has(&self, of: &str) -> bool {
        self.members.keys().any(|&(found, _)| found == of)
    }
}

/// `include/net/tcp_states.h`
fn state(number: u32) -> String {
    const STATES: [&str; 12] = [
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
        "NEW_SYN_RECV",
    ];
    let name = (number as usize).checked_sub(1).and_then(|at| STATES.get(at));
    name.map_or_else(|| format!("UNKNOWN_{number}"), |&name| name.to_owned())
}

/// What sending a packet returns: an error, or `NET_XMIT_*` (`include/linux/netdevice.h`).
fn returned_name(returned: i16) -> String {
    match returned {
        1 => "NET_XMIT_DROP".to_owned(),
        2 => "NET_XMIT_CN".to_owned(),
        _ => error(returned.unsigned_abs().into()),
    }
}

/// Errors that the network stack answers with (`include/uapi/asm-generic/errno*.h`), by name.
fn error(number: u32) -> String {
    let name = match number {
        1 => "EPERM",
        2 => "ENOENT",
        7 => "E2BIG",
        11 => "EAGAIN",
        12 => "ENOMEM",
        14 => "EFAULT",
        16 => "EBUSY",
        19 => "ENODEV",
        22 => "EINVAL",
        28 => "ENOSPC",
        75 => "EOVERFLOW",
        90 => "EMSGSIZE",
        95 => "EOPNOTSUPP",
        99 => "EADDRNOTAVAIL",
        100 => "ENETDOWN",
        101 => "ENETUNREACH",
        105 => "ENOBUFS",
        111 => "ECONNREFUSED",
        113 => "EHOSTUNREACH",
        _ => return format!("error {number}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf::tests::Builder;

    /// Numbers and names are those of the header and the programs.
    #[test]
    fn the_list_is_that_of_the_programs() {
        let header = include_str!("../../bpf/wire.h");
        let source = include_str!("../../bpf/events.bpf.c");
        for (at, tracepoint) in TRACEPOINTS.iter().enumerate() {
            assert_eq!(tracepoint.number as usize, at + 1);
            let constant = format!("EVENT_{}", tracepoint.name.to_uppercase());
            let define = format!("#define {constant} {}\n", tracepoint.number);
            assert!(header.contains(&define), "{define}");
            assert!(source.contains(&format!("{}, {constant})", tracepoint.name)), "{constant}");
        }
        let defined = header.matches("#define EVENT_").count();
        let others = header.matches("#define EVENT_PACKET_BYTES").count();
        assert_eq!(defined - others, TRACEPOINTS.len());
        assert!(TRACEPOINTS.len() < crate::wire::event::EVENTS as usize);
    }

    #[test]
    fn arguments_decide_what_is_offered() {
        let reset = &TRACEPOINTS[2];
        assert_eq!(reset.full_name(), "tcp:tcp_send_reset");
        assert_eq!(reset.offer(None), Offer::Absent);
        assert_eq!(reset.offer(Some(&["sock", "sk_buff"])), Offer::Arguments(2));
        assert_eq!(reset.offer(Some(&["sock", "sk_buff", "sk_rst_reason"])), Offer::Arguments(3));
        let more = ["sock", "sk_buff", "sk_rst_reason", "u64"];
        assert_eq!(reset.offer(Some(&more)), Offer::Arguments(4));
        for other in [&["sock"][..], &["sk_buff", "sock"], &["sock", "sk_buff", "int"]] {
            assert!(matches!(reset.offer(Some(other)), Offer::Unsuited(_)), "{other:?}");
        }
    }

    #[test]
    fn codes_have_the_names_of_the_kernel() {
        let btf = Builder::new()
            .enumeration("xdp_action", &[("XDP_ABORTED", 0), ("XDP_DROP", 1)])
            .enumeration("other", &[("XDP_OTHER", 1)])
            .bytes();
        let mut names = Names::read(&Btf::parse(btf).unwrap());
        names.traps = BTreeMap::from([(77, "blackhole_route".into())]);
        let code = |name: &str, code| {
            names.code(TRACEPOINTS.iter().find(|one| one.name == name).unwrap(), code)
        };
        assert_eq!(code("xdp_exception", 1), "DROP");
        assert_eq!(code("xdp_exception", 9), "UNKNOWN_9");
        // This kernel has no reasons for resets.
        assert_eq!(code("tcp_send_reset", 0), "");
        assert_eq!(code("tcp_retransmit_skb", 2), "SYN_SENT");
        let minus_16 = u32::from((-16_i16).cast_unsigned()) << 16;
        assert_eq!(code("tcp_retransmit_skb", 1 | minus_16), "ESTABLISHED EBUSY");
        assert_eq!(code("tcp_retransmit_skb", 2 | 1 << 16), "SYN_SENT NET_XMIT_DROP");
        assert_eq!(code("tcp_receive_reset", 99), "UNKNOWN_99");
        assert_eq!(code("udp_fail_queue_rcv_skb", 12), "ENOMEM");
        assert_eq!(code("xdp_redirect_err", 4000), "error 4000");
        assert_eq!(code("sock_exceed_buf_limit", 1), "RECV");
        assert_eq!(code("napi_poll", 64), "64");
        assert_eq!(code("neigh_timer_handler", 0), "");
        assert_eq!(code("devlink_trap_report", 77), "blackhole_route");
        assert_eq!(code("devlink_trap_report", 78), "UNKNOWN_78");
    }
}
