//! The settings that decide how much the listen queue, the CPU backlog and the socket buffers hold,
//! how much a CPU receives in one go, whether packets are forwarded and echo requests answered. `/proc/sys` shows those of
//! the namespace the reader is in.

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;

pub(crate) const COLLECTOR: Collector =
    Collector { name: "sysctls", what: "kernel settings (sysctl)", read: Read::Closing(read) };

/// What is read. Those that the kernel keeps for the host as a whole (`tcp_mem`, `udp_mem`, those of
/// the CPU side; `rmem_*` on older kernels) exist in the initial namespace only.
const NAMES: &[&str] = &[
    "net.core.dev_weight",
    "net.core.flow_limit_cpu_bitmap",
    "net.core.flow_limit_table_len",
    "net.core.netdev_budget",
    "net.core.netdev_budget_usecs",
    "net.core.netdev_max_backlog",
    "net.core.rmem_default",
    "net.core.rmem_max",
    "net.core.rps_default_mask",
    "net.core.rps_sock_flow_entries",
    "net.core.somaxconn",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.default.rp_filter",
    "net.ipv4.icmp_echo_ignore_all",
    "net.ipv4.icmp_echo_ignore_broadcasts",
    "net.ipv4.ip_forward",
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_synack_retries",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.udp_mem",
    "net.ipv6.icmp.echo_ignore_all",
];

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    for &name in NAMES {
        if let Some(value) = place.sysctl(name)? {
            facts.sysctls.insert(name.to_owned(), value);
        }
    }
    if facts.sysctls.is_empty() {
        return Err(Why::new("none of the settings in /proc/sys/net is there"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn what_exists_is_read_without_its_line_end() {
        let facts = fixture::read("linux-6.18", read).unwrap();
        assert_eq!(facts.sysctls["net.core.somaxconn"], "4096");
        assert_eq!(facts.sysctls["net.ipv4.tcp_rmem"], "4096\t131072\t33554432");
        assert_eq!(facts.sysctls.len(), NAMES.len());

        let facts = fixture::read("linux-4.19", read).unwrap();
        assert_eq!(facts.sysctls.len(), 2, "a namespace without the settings of the host");
        assert_eq!(facts.sysctls["net.core.somaxconn"], "128");
    }

    #[test]
    fn none_at_all_is_a_reason() {
        assert!(fixture::read("empty", read).is_err());
    }

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(NAMES.is_sorted_by(|a, b| a < b));
    }
}
