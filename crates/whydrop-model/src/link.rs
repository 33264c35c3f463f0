//! A network device: its counters, how it is set up and what it is joined to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Counters, Pair};

/// A network device. Settings are those at the end of the window, or of the device's life.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Link {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name.
    pub name: String,
    /// `IFLA_INFO_KIND` (`veth`, `bridge`, ...); `None` for hardware and loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `IFF_UP`.
    pub up: bool,
    /// `IFLA_CARRIER`; `None` if not reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
    /// `IFLA_CARRIER_CHANGES`: how often the carrier came or went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier_changes: Option<Pair>,
    /// `IFLA_OPERSTATE` as in RFC 2863: `up`, `down`, `lowerlayerdown`, `dormant`, `notpresent`,
    /// `testing`, or `unknown` where the driver does not tell (loopback, tun).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operstate: Option<String>,
    /// `IFF_*` bits of `include/uapi/linux/if.h`.
    #[serde(default)]
    pub flags: u32,
    /// MTU in bytes.
    pub mtu: u32,
    /// Hardware address, as `02:fc:00:00:00:01`; `None` if the device has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Addresses of the device (`RTM_GETADDR`); tells packets for this host from those for others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// `IFLA_PROMISCUITY`: how many users asked for promiscuous mode.
    #[serde(default)]
    pub promiscuity: u32,
    /// `IFLA_TXQLEN` in packets: the limit of queueing disciplines that have none of their own, and
    /// of the ring of a tun device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_queue_len: Option<u32>,
    /// `IFLA_QDISC`: kind of the root queueing discipline; `noop` drops all (the device is down),
    /// `noqueue` never queues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qdisc: Option<String>,
    /// `IFLA_NUM_RX_QUEUES`: queues allocated, of which the driver may use fewer (see `channels`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx_queues: Option<u32>,
    /// `IFLA_NUM_TX_QUEUES`, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_queues: Option<u32>,
    /// Index of the bridge, bond or VRF that this device belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<u32>,
    /// The device below (VLAN, macvlan) or at the other end (veth).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<LowerLink>,
    /// XDP programs; `None` if none is attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xdp: Option<Xdp>,
    /// Settings of a VLAN device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vlan>,
    /// Settings of a tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
    /// Settings of a bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Bridge>,
    /// State of a port of a bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge_port: Option<BridgePort>,
    /// `IFLA_BOND_SLAVE_STATE` of a port of a bond: true for `backup`, which receives for nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond_backup: Option<bool>,
    /// `IFLA_MACVLAN_BC_QUEUE_LEN_USED` in packets: how many broadcast frames may wait for delivery
    /// to all macvlans of the device below (5.11+).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macvlan_bc_queue_len: Option<u32>,
    /// `IFLA_PARENT_DEV_NAME`: the device on its bus, as `0000:00:05.0` or `virtio2` (5.14+).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_device: Option<String>,
    /// Fields of `struct rtnl_link_stats64`, by their names in `include/uapi/linux/if_link.h`.
    pub stats: Counters,
    /// The driver, as it calls itself in `ethtool -i`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    /// The driver's own statistics by its own names (`ethtool -S`), as they came: some are gauges.
    /// What a name means depends on the driver.
    #[serde(default, skip_serializing_if = "Counters::is_empty")]
    pub ethtool: Counters,
    /// Statistics that mean the same for every driver, as `eth-mac.FrameCheckSequenceErrors`,
    /// `rmon.oversize_pkts`, `pause.rx_pause_frames` (`ETHTOOL_MSG_STATS_GET`, 5.13+) and
    /// `qstats.rx-hw-drops` (`NETDEV_CMD_QSTATS_GET`, 6.9+), by the names of the kernel's
    /// `Documentation/netlink/specs`; what the driver does not report is absent.
    #[serde(default, skip_serializing_if = "Counters::is_empty")]
    pub standard_stats: Counters,
    /// Fields of `struct ethtool_ringparam`: `rx_pending` of at most `rx_max_pending` and so on, in
    /// descriptors. Those that are zero are left out: the device has none. Empty, like the following,
    /// if the driver does not tell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ring: BTreeMap<String, u32>,
    /// Fields of `struct ethtool_channels`, likewise: queues that can be had and that are in use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub channels: BTreeMap<String, u32>,
    /// Fields of `struct ethtool_coalesce`, likewise: microseconds and frames that the device waits
    /// before it interrupts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub coalesce: BTreeMap<String, u32>,
    /// Fields of `struct ethtool_pauseparam`: flow control, 0 or 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pause: BTreeMap<String, u32>,
    /// Names of the offloads that are on (`ethtool -k`, the kernel's own strings as `rx-gro`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Speed in Mbit/s; `None` if unknown or there is no link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<u32>,
    /// True for full duplex; `None` if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_duplex: Option<bool>,
    /// How received and sent packets are spread over CPUs; only queues where something is set. `None`
    /// if that could not be read: sysfs shows the devices of one namespace only, so for now that of
    /// whydrop itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steering: Option<Vec<QueueSteering>>,
}

/// The link behind `IFLA_LINK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LowerLink {
    /// Its index, in its own namespace.
    pub ifindex: u32,
    /// `IFLA_LINK_NETNSID`: what this namespace calls the other one; `None` if they are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netnsid: Option<i32>,
    /// Inode of the other namespace; `None` if they are the same, or the other is not among those
    /// observed at the end of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u64>,
}

/// What XDP does on a device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Xdp {
    /// `driver`, `generic`, `offload` or `multiple`.
    pub mode: String,
    /// Ids of the programs, as `bpftool prog` shows them; of each only once.
    pub programs: Vec<u32>,
}

/// Settings of a VLAN device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Vlan {
    /// VLAN id.
    pub id: u16,
    /// EtherType of the tag: `0x8100` for 802.1Q, `0x88a8` for 802.1ad.
    pub protocol: u16,
}

/// Settings of a tunnel: VXLAN, Geneve, GRE and their like, IP in IP, VTI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tunnel {
    /// Network identifier of VXLAN or Geneve; `None` for other kinds, and where it comes with each
    /// packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// Where packets go of which nothing else is known: the other end, or a multicast group; `None`
    /// if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
    /// Own address of the outer packets; `None` for what routing chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// UDP port of VXLAN and Geneve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `external`: the remote comes with each packet, from a route or a program.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
}

/// Settings of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bridge {
    /// `IFLA_BR_STP_STATE`: 0 off, 1 the kernel's, 2 that of a daemon.
    pub stp_state: u32,
    /// `IFLA_BR_VLAN_FILTERING`.
    pub vlan_filtering: bool,
}

/// State of a port of a bridge (`IFLA_BRPORT_*`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the kernel")]
pub struct BridgePort {
    /// `disabled`, `listening`, `learning`, `forwarding` or `blocking`; only `forwarding` passes
    /// frames.
    pub state: String,
    /// Does not talk to other isolated ports (4.18+).
    pub isolated: bool,
    /// Only sources in the forwarding table are let in (5.18+).
    pub locked: bool,
    /// Source addresses are learnt.
    pub learning: bool,
    /// Frames to unknown stations are sent out here.
    pub unicast_flood: bool,
    /// Multicast nobody asked for is sent out here (4.9+).
    pub mcast_flood: bool,
    /// Broadcast is sent out here (4.14+).
    pub bcast_flood: bool,
    /// Frames may leave through the port they came in by.
    pub hairpin: bool,
}

/// A driver, as it describes itself (`struct ethtool_drvinfo`); empty where it does not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Driver {
    /// Name of the driver.
    pub name: String,
    /// Its version; of most drivers in the kernel, that of the kernel.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Version of the device's firmware.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub firmware: String,
    /// Address of the device on its bus, as `0000:00:05.0`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bus: String,
}

/// Steering of one queue (`/sys/class/net/DEVICE/queues`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueSteering {
    /// `rx-0`, `tx-0`, ...
    pub queue: String,
    /// RPS of a receive queue, XPS of a transmit queue: mask of CPUs, as the kernel writes it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cpus: String,
    /// RFS of a receive queue: entries of its flow table; 0 for off.
    #[serde(default)]
    pub flow_count: u32,
}
