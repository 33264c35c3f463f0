//! A filter attached to a socket, or to a tap device, drops the packet.
//!
//! `sk_filter_trim_cap` (`net/core/filter.c`, 6.18) frees as `SOCKET_FILTER` what the socket's own filter
//! refuses; whether it has one, the tracer sees. For a tun or tap device `tun_net_xmit`
//! (`drivers/net/tun.c`) says `SOCKET_FILTER` of a classic filter, `TAP_FILTER` of an eBPF one and
//! `TAP_TXFILTER` of its list of addresses. Look-alike: a program of the socket's cgroup refuses in the
//! same function under the same reason, for sockets without a filter too.

use whydrop_model::{DropTotal, Evidence, Severity, SocketRef};

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct SocketFilterDrop;

const ID: &str = "socket-filter-drop";
const TAP: &[Kind] = &[Kind {
    variant: Some("tap"),
    signatures: &[
        drops("TAP_FILTER", "*"),
        drops("TAP_TXFILTER", "*"),
        drops("SOCKET_FILTER", "tun_net_xmit"),
    ],
    counters: &[],
}];
const SOCKET: Kind = Kind { variant: Some("socket"), signatures: &[], counters: &[] };

impl Rule for SocketFilterDrop {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, TAP, |group, _| {
            Told {
            object: Some(format!("filter of {}", group.device_name())),
            summary: format!(
                "The program behind {} told the kernel to filter what it is sent, and the filter drops",
                group.device_name()
            ),
            cure: "Correct the filter or the list of MAC addresses in the VM monitor or VPN that opened \
                   the device; a guest that changed its address or joined a group must be followed"
                .into(),
            command: group.device.map(|device| format!("ip -d tuntap list dev {device}")),
            useless: &["txqueuelen: the queue has room"],
            ..Told::default()
        }
        });
        let evidence = case.evidence();
        let claims =
            case.claim(|total| total.reason == "SOCKET_FILTER" && filtered(evidence, total));
        for group in traced::gather(case, claims) {
            let told = Told {
                object: Some(format!("filter of the socket on port {}", group.own_ports())),
                summary: format!(
                    "The socket on port {} has a filter of its own, which refuses packets from {}",
                    group.own_ports(),
                    group.sources()
                ),
                cure: "Correct the filter in the program that attaches it (SO_ATTACH_FILTER, \
                       SO_ATTACH_BPF), then restart it"
                    .into(),
                command: Some("ss -tuanp".into()),
                useless: &["a larger receive buffer: the filter refuses before it"],
                ..Told::default()
            };
            group.conclude(case, ID, Severity::Notice, &SOCKET, told);
        }
    }
}

/// True if the sockets that these packets were for, of those seen in detail, mostly have a filter.
fn filtered(evidence: &Evidence, total: &DropTotal) -> bool {
    let exemplars = evidence.tracer.exemplars.iter().filter(|one| one.is_of(total));
    let sockets: Vec<SocketRef> = exemplars.filter_map(|one| one.socket).collect();
    let with = sockets.iter().filter(|socket| socket.filtered).count();
    with > 0 && with * 2 >= sockets.len()
}

#[cfg(test)]
mod tests {
    use whydrop_model::SocketRef;

    use crate::{Thresholds, diagnose, sample};

    fn cause_of(filtered: bool) -> String {
        let mut evidence = sample::evidence();
        let total = sample::total("SOCKET_FILTER", "udp_queue_rcv_one_skb", 40);
        let mut exemplar = sample::exemplar(&total, 5000);
        exemplar.socket = Some(SocketRef {
            family: 2,
            state: 7,
            local_port: 9000,
            inode: 7,
            receiver: true,
            filtered,
        });
        evidence.tracer.exemplars = vec![exemplar];
        evidence.tracer.totals = vec![total];
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!((report.findings.len(), report.ledger.unexplained), (1, 0));
        report.findings[0].cause.clone()
    }

    #[test]
    fn only_a_socket_with_a_filter_has_one_that_drops() {
        assert_eq!(cause_of(true), super::ID);
        assert_eq!(cause_of(false), "cgroup-bpf-drop");
    }
}
