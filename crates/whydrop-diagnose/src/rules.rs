//! Every rule, in the order in which they take their part of the losses.
//!
//! To add one: a file in `rules/` with a unit struct that implements [`Rule`], and two lines here.
//! Order matters where two causes share a signature: the one that needs a counter to agree comes
//! before the one that takes what is left. `cpu_starvation` and `tcp_path_loss` come last: they
//! look at what the others concluded.

mod accept_queue_full;
mod address_not_local;
mod aqm_drop;
mod bad_checksum;
mod blackhole_route;
mod bridge_fdb_misdirected;
mod bridge_port_not_forwarding;
mod bridge_port_policy;
mod capture_socket_full;
mod cgroup_bpf_drop;
mod cloud_allowance_exceeded;
mod conntrack_insert_failed;
mod conntrack_invalid_drop;
mod conntrack_table_full;
mod cpu_backlog_full;
mod cpu_starvation;
mod ephemeral_ports_exhausted;
mod fastopen_refused;
mod fq_limit_reached;
mod fragment_distance_limit;
mod fragment_memory_limit;
mod fragment_overlap;
mod fragment_timeout;
mod hardening_sysctl_drop;
mod icmp_replies_limited;
mod ifb_without_redirect;
mod interface_down;
mod invalid_source_mac;
mod ip_forwarding_disabled;
mod kernel_memory_low;
mod lan_chatter;
mod link_down;
mod link_mtu_mismatch;
mod link_saturated;
mod listen_drop_other;
mod local_frame_invalid;
mod local_send_refused;
mod macvlan_broadcast_queue_full;
mod malformed_packet;
mod martian_address;
mod multicast_not_joined;
mod neighbour_queue_full;
mod neighbour_table_full;
mod neighbour_unreachable;
mod netfilter_rule_drop;
mod netlink_overflow;
mod nfqueue_no_reader;
mod nic_irq_imbalance;
mod nic_pause_frames;
mod nic_physical_errors;
mod nic_rx_ring_overrun;
mod nic_tx_stall;
mod no_route_forwarding;
mod openvswitch_flow_drop;
mod path_mtu_exceeded;
mod pmtu_blackhole;
mod protocol_memory_limit;
mod purged_by_reconfiguration;
mod qdisc_burst_too_small;
mod qdisc_limit_reached;
mod qdisc_lock_contention;
mod raw_socket_buffer_full;
mod reverse_path_filter;
mod routing_loop;
mod security_module_drop;
mod service_bound_elsewhere;
mod socket_closed_with_data;
mod socket_filter_drop;
mod socket_memcg_limit;
mod softirq_budget_exhausted;
mod syn_cookies_active;
mod syn_queue_full;
mod tc_filter_drop;
mod tc_redirect_failed;
mod tcp_app_closed_early;
mod tcp_minttl_drop;
mod tcp_out_of_window;
mod tcp_path_loss;
mod tcp_port_closed;
mod tcp_receive_buffer_full;
mod tcp_routine_discard;
mod tcp_signature_mismatch;
mod tcp_socket_backlog_full;
mod tcp_stray_segment;
mod tcp_timestamp_rejected;
mod tcp_zero_window;
mod time_wait_overflow;
mod ttl_expired;
mod tun_not_attached;
mod tun_reader_slow;
mod tunnel_ecn_conflict;
mod tunnel_endpoint_unreachable;
mod tunnel_fdb_conflict;
mod tunnel_loop;
mod tunnel_mtu;
mod tunnel_no_remote;
mod udp_port_closed;
mod udp_receive_buffer_full;
mod udp_send_buffer_full;
mod unknown_ip_protocol;
mod unwanted_control_message;
mod veth_ring_full;
mod vlan_not_configured;
mod vxlan_vni_mismatch;
mod wrong_destination_mac;
mod xdp_program_drop;
mod xdp_program_error;
mod xfrm_no_state;
mod xfrm_policy_block;

use crate::rule::Rule;

pub(crate) use tcp_routine_discard::is_routine;

/// All rules.
pub const RULES: &[&dyn Rule] = &[
    &accept_queue_full::AcceptQueueFull,
    &syn_queue_full::SynQueueFull,
    &listen_drop_other::ListenDropOther,
    &syn_cookies_active::SynCookiesActive,
    &tcp_app_closed_early::TcpAppClosedEarly,
    &tcp_routine_discard::TcpRoutineDiscard,
    &socket_closed_with_data::SocketClosedWithData,
    &multicast_not_joined::MulticastNotJoined,
    &hardening_sysctl_drop::HardeningSysctlDrop,
    &unwanted_control_message::UnwantedControlMessage,
    &vlan_not_configured::VlanNotConfigured,
    &lan_chatter::LanChatter,
    &purged_by_reconfiguration::PurgedByReconfiguration,
    &xfrm_policy_block::XfrmPolicyBlock,
    &service_bound_elsewhere::ServiceBoundElsewhere,
    &tcp_port_closed::TcpPortClosed,
    &tcp_stray_segment::TcpStraySegment,
    &protocol_memory_limit::ProtocolMemoryLimit,
    &socket_memcg_limit::SocketMemcgLimit,
    &tcp_receive_buffer_full::TcpReceiveBufferFull,
    &tcp_socket_backlog_full::TcpSocketBacklogFull,
    &tcp_out_of_window::TcpOutOfWindow,
    &tcp_signature_mismatch::TcpSignatureMismatch,
    &tcp_minttl_drop::TcpMinttlDrop,
    &tcp_zero_window::TcpZeroWindow,
    &fastopen_refused::FastopenRefused,
    &time_wait_overflow::TimeWaitOverflow,
    &ephemeral_ports_exhausted::EphemeralPortsExhausted,
    &raw_socket_buffer_full::RawSocketBufferFull,
    &capture_socket_full::CaptureSocketFull,
    &netlink_overflow::NetlinkOverflow,
    &tcp_timestamp_rejected::TcpTimestampRejected,
    &conntrack_table_full::ConntrackTableFull,
    &conntrack_insert_failed::ConntrackInsertFailed,
    &conntrack_invalid_drop::ConntrackInvalidDrop,
    &netfilter_rule_drop::NetfilterRuleDrop,
    &udp_port_closed::UdpPortClosed,
    &udp_receive_buffer_full::UdpReceiveBufferFull,
    &reverse_path_filter::ReversePathFilter,
    &xfrm_no_state::XfrmNoState,
    &blackhole_route::BlackholeRoute,
    &no_route_forwarding::NoRouteForwarding,
    &ip_forwarding_disabled::IpForwardingDisabled,
    &address_not_local::AddressNotLocal,
    &tun_not_attached::TunNotAttached,
    &tun_reader_slow::TunReaderSlow,
    &local_frame_invalid::LocalFrameInvalid,
    &interface_down::InterfaceDown,
    &local_send_refused::LocalSendRefused,
    &routing_loop::RoutingLoop,
    &ttl_expired::TtlExpired,
    &neighbour_unreachable::NeighbourUnreachable,
    &bad_checksum::BadChecksum,
    &martian_address::MartianAddress,
    &malformed_packet::MalformedPacket,
    &unknown_ip_protocol::UnknownIpProtocol,
    &pmtu_blackhole::PmtuBlackhole,
    &path_mtu_exceeded::PathMtuExceeded,
    &fragment_timeout::FragmentTimeout,
    &link_mtu_mismatch::LinkMtuMismatch,
    &tc_redirect_failed::TcRedirectFailed,
    &tc_filter_drop::TcFilterDrop,
    &neighbour_queue_full::NeighbourQueueFull,
    &fragment_memory_limit::FragmentMemoryLimit,
    &fragment_overlap::FragmentOverlap,
    &fragment_distance_limit::FragmentDistanceLimit,
    &wrong_destination_mac::WrongDestinationMac,
    &link_down::LinkDown,
    &bridge_port_not_forwarding::BridgePortNotForwarding,
    &bridge_port_policy::BridgePortPolicy,
    &bridge_fdb_misdirected::BridgeFdbMisdirected,
    &security_module_drop::SecurityModuleDrop,
    &socket_filter_drop::SocketFilterDrop,
    &cgroup_bpf_drop::CgroupBpfDrop,
    &nfqueue_no_reader::NfqueueNoReader,
    &neighbour_table_full::NeighbourTableFull,
    &aqm_drop::AqmDrop,
    &fq_limit_reached::FqLimitReached,
    &qdisc_lock_contention::QdiscLockContention,
    &qdisc_burst_too_small::QdiscBurstTooSmall,
    &link_saturated::LinkSaturated,
    &qdisc_limit_reached::QdiscLimitReached,
    &udp_send_buffer_full::UdpSendBufferFull,
    &vxlan_vni_mismatch::VxlanVniMismatch,
    &cpu_backlog_full::CpuBacklogFull,
    &veth_ring_full::VethRingFull,
    &macvlan_broadcast_queue_full::MacvlanBroadcastQueueFull,
    &softirq_budget_exhausted::SoftirqBudgetExhausted,
    &xdp_program_error::XdpProgramError,
    &xdp_program_drop::XdpProgramDrop,
    &tunnel_fdb_conflict::TunnelFdbConflict,
    &tunnel_no_remote::TunnelNoRemote,
    &tunnel_loop::TunnelLoop,
    &tunnel_mtu::TunnelMtu,
    &tunnel_endpoint_unreachable::TunnelEndpointUnreachable,
    &tunnel_ecn_conflict::TunnelEcnConflict,
    &invalid_source_mac::InvalidSourceMac,
    &ifb_without_redirect::IfbWithoutRedirect,
    &openvswitch_flow_drop::OpenvswitchFlowDrop,
    &kernel_memory_low::KernelMemoryLow,
    &nic_irq_imbalance::NicIrqImbalance,
    &nic_rx_ring_overrun::NicRxRingOverrun,
    &nic_physical_errors::NicPhysicalErrors,
    &nic_tx_stall::NicTxStall,
    &nic_pause_frames::NicPauseFrames,
    &cloud_allowance_exceeded::CloudAllowanceExceeded,
    &cpu_starvation::CpuStarvation,
    &icmp_replies_limited::IcmpRepliesLimited,
    // What all the others found is what local losses explain.
    &tcp_path_loss::TcpPathLoss,
];

#[cfg(test)]
mod tests {
    use super::RULES;
    use crate::{Thresholds, causes, diagnose, sample};

    /// What only the tracer sees is told by reason and function.
    #[test]
    fn signatures_have_their_causes() {
        for (reason, symbol, cause, variant) in [
            ("NO_SOCKET", "__udp4_lib_rcv", "udp-port-closed", Some("no-listener")),
            ("NO_SOCKET", "tcp_v4_rcv", "tcp-stray-segment", Some("unknown-connection")),
            ("TCP_FLAGS", "tcp_v4_do_rcv", "tcp-stray-segment", Some("flags")),
            ("IP_RPFILTER", "ip_rcv_finish_core", "reverse-path-filter", Some("strict")),
            ("IP_INNOROUTES", "ip_error", "no-route-forwarding", Some("ipv4")),
            ("IP_INHDR", "ip_forward", "ttl-expired", Some("ipv4")),
            ("NEIGH_FAILED", "neigh_invalidate", "neighbour-unreachable", None),
            ("NOT_SPECIFIED", "neigh_invalidate", "neighbour-unreachable", None),
            ("UDP_CSUM", "udp_queue_rcv_one_skb", "bad-checksum", Some("udp")),
            ("IP_INHDR", "ip_rcv_core", "malformed-packet", Some("ip")),
            ("IP_LOCAL_SOURCE", "ip_rcv_finish_core", "martian-address", Some("own-source")),
            ("IP_NOPROTO", "ip_local_deliver_finish", "unknown-ip-protocol", None),
            ("PKT_TOO_BIG", "ip6_forward", "path-mtu-exceeded", Some("ipv6")),
            ("FRAG_REASM_TIMEOUT", "ip_expire", "fragment-timeout", None),
            ("NOT_SPECIFIED", "__dev_forward_skb2", "link-mtu-mismatch", None),
            ("TC_EGRESS", "__dev_queue_xmit", "tc-filter-drop", Some("egress")),
            ("NEIGH_QUEUEFULL", "__neigh_event_send", "neighbour-queue-full", None),
        ] {
            let mut evidence = sample::evidence();
            let sysctls = &mut evidence.namespaces[0].sysctls;
            sysctls.insert("net.ipv4.conf.all.rp_filter".into(), "1".into());
            evidence.tracer.totals = vec![sample::total(reason, symbol, 30)];
            let report = diagnose(&evidence, &Thresholds::default());
            assert_eq!(report.findings.len(), 1, "{reason}@{symbol}");
            let finding = &report.findings[0];
            assert_eq!((finding.cause.as_str(), finding.packets), (cause, 30), "{reason}@{symbol}");
            assert_eq!(finding.variant.as_deref(), variant, "{reason}@{symbol}");
            assert_eq!(
                (report.ledger.lost, report.ledger.unexplained),
                (30, 0),
                "{reason}@{symbol}"
            );
        }
    }

    #[test]
    fn a_connection_attempt_is_no_stray_segment() {
        let mut evidence = sample::evidence();
        let mut syn = sample::total("NO_SOCKET", "tcp_v4_rcv", 30);
        syn.marks.syn = true;
        evidence.tracer.totals = vec![syn];
        let report = diagnose(&evidence, &Thresholds::default());
        assert_eq!(report.findings[0].cause, "tcp-port-closed");
    }

    #[test]
    fn every_rule_names_a_cause_and_no_cause_has_two() {
        let mut ids: Vec<_> = RULES.iter().map(|rule| rule.cause()).collect();
        for id in &ids {
            assert!(causes::find(id).is_some(), "{id} has no page");
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), RULES.len());
    }
}
