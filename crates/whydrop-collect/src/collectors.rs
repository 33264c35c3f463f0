//! Every collector.
//!
//! To add one: write `collectors/<name>.rs` with its `COLLECTOR` and its tests, and name it in the
//! two lists here. Nothing else needs to know it, unless it fills a new kind of fact: then
//! `collector::Facts` and `merge` get a field.

use crate::collector::Collector;

pub(crate) mod addresses;
pub(crate) mod conntrack;
pub(crate) mod ethtool;
pub(crate) mod filters;
pub(crate) mod half_open;
pub(crate) mod interface_settings;
pub(crate) mod interrupts;
pub(crate) mod legacy_tables;
pub(crate) mod links;
pub(crate) mod listeners;
pub(crate) mod local_ports;
pub(crate) mod neighbour_tables;
pub(crate) mod neighbours;
pub(crate) mod netlink_sockets;
pub(crate) mod netstat;
pub(crate) mod nft;
pub(crate) mod packet_queues;
pub(crate) mod packet_sockets;
pub(crate) mod pressure;
pub(crate) mod protocol_memory;
pub(crate) mod qdiscs;
pub(crate) mod queue_steering;
pub(crate) mod raw_sockets;
pub(crate) mod routes;
pub(crate) mod snmp;
pub(crate) mod snmp6;
pub(crate) mod sockstat;
pub(crate) mod softirqs;
pub(crate) mod softnet_stat;
pub(crate) mod standard_stats;
pub(crate) mod stat;
pub(crate) mod sysctls;
pub(crate) mod tcp_sockets;
pub(crate) mod udp_sockets;
pub(crate) mod unix_listeners;
pub(crate) mod xfrm;

/// All collectors, in the order in which they read.
pub(crate) const COLLECTORS: &[Collector] = &[
    softnet_stat::COLLECTOR,
    stat::COLLECTOR,
    softirqs::COLLECTOR,
    interrupts::COLLECTOR,
    pressure::COLLECTOR,
    snmp::COLLECTOR,
    netstat::COLLECTOR,
    snmp6::COLLECTOR,
    // Before those that open sockets: a closed one of netlink is counted a little longer.
    sockstat::COLLECTOR,
    links::COLLECTOR,
    addresses::COLLECTOR,
    ethtool::COLLECTOR,
    standard_stats::COLLECTOR,
    queue_steering::COLLECTOR,
    sysctls::COLLECTOR,
    qdiscs::COLLECTOR,
    filters::COLLECTOR,
    neighbour_tables::COLLECTOR,
    neighbours::COLLECTOR,
    routes::COLLECTOR,
    interface_settings::COLLECTOR,
    xfrm::COLLECTOR,
    conntrack::COLLECTOR,
    packet_queues::COLLECTOR,
    legacy_tables::COLLECTOR,
    nft::COLLECTOR,
    listeners::COLLECTOR,
    half_open::COLLECTOR,
    local_ports::COLLECTOR,
    tcp_sockets::COLLECTOR,
    udp_sockets::COLLECTOR,
    raw_sockets::COLLECTOR,
    packet_sockets::COLLECTOR,
    unix_listeners::COLLECTOR,
    netlink_sockets::COLLECTOR,
    protocol_memory::COLLECTOR,
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::COLLECTORS;

    #[test]
    fn every_file_in_the_folder_is_in_the_list() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/collectors");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let mut listed: Vec<&str> = COLLECTORS.iter().map(|collector| collector.name).collect();
        files.sort();
        listed.sort_unstable();
        assert_eq!(files, listed);
    }
}
