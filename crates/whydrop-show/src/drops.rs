//! Single drops as they happen, and totals of many: the lines of `whydrop watch`.

use std::io::{self, Write};

use whydrop_model::{Attribution, Class, DropTotal, Exemplar, QueueOwner, Sighting};

use crate::safe::Safe;
use crate::style::{FAINT, FAULT, NOTICE, STRONG};

/// Writes one drop as a line: time, reason, call site, flow, device, namespace, then owner, cause and
/// what dropped it, as far as they are known. `time` and `netns` are as they are to be shown.
pub fn write_drop(
    sighting: &Sighting,
    time: &str,
    netns: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    let drop = &sighting.drop;
    write!(
        out,
        "{FAINT}{time}{FAINT:#} {STRONG}{}{STRONG:#} {} {} dev {} netns {}",
        Safe(&drop.reason),
        Safe(&drop.site.to_string()),
        packet(drop),
        Safe(drop.device.as_deref().unwrap_or("-")),
        Safe(netns),
    )?;
    if let Some(container) = &sighting.container {
        write!(out, " container {}", Safe(container))?;
    }
    if let Some(one) = &sighting.owner {
        write!(out, " owner {}", Safe(&owner(one)))?;
    }
    if let Some(verdict) = &sighting.verdict {
        let style = match verdict.class {
            Class::Fault => FAULT,
            Class::Policy | Class::Peer => NOTICE,
            Class::Info | Class::Benign => FAINT,
        };
        let class = verdict.class.name();
        write!(out, " cause {style}{}{style:#} ({class})", Safe(&cause(verdict)))?;
        if let Some(object) = &verdict.object {
            write!(out, ": {}", Safe(object))?;
        }
    }
    writeln!(out)
}

/// A cause with its variant: `udp-port-closed/no-listener`.
pub(crate) fn cause(verdict: &Attribution) -> String {
    match &verdict.variant {
        Some(variant) => format!("{}/{variant}", verdict.cause),
        None => verdict.cause.clone(),
    }
}

/// A process with what it belongs to: `nginx[812] nginx.service`.
pub(crate) fn owner(owner: &QueueOwner) -> String {
    let mut text = format!("{}[{}]", owner.comm, owner.pid);
    let pod = owner.pod.as_ref().and_then(|pod| pod.name.as_deref());
    for part in [pod, owner.container.as_deref(), owner.unit.as_deref()].into_iter().flatten() {
        text.push(' ');
        text.push_str(part);
    }
    text
}

/// Writes totals, the largest first: packets, bytes, reason, call site, protocol, device, namespace,
/// cause. Each comes with how its namespace is called and what it is recognised as.
pub fn write_totals(
    totals: &[(&DropTotal, &str, Option<&Attribution>)],
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut sorted = totals.to_vec();
    sorted.sort_by(|(a, ..), (b, ..)| {
        b.packets.cmp(&a.packets).then_with(|| a.reason.cmp(&b.reason))
    });
    writeln!(
        out,
        "{STRONG}{:>10} {:>12}  REASON CALL-SITE PROTOCOL DEVICE NETNS CAUSE{STRONG:#}",
        "PACKETS", "BYTES"
    )?;
    for (total, netns, verdict) in sorted {
        let site = total.site.as_ref().map_or("-".into(), ToString::to_string);
        writeln!(
            out,
            "{:>10} {:>12}  {STRONG}{}{STRONG:#} {} {} {} {} {}",
            total.packets,
            total.bytes,
            Safe(&total.reason),
            Safe(&site),
            protocol(total.l3, total.l4),
            Safe(total.device.as_deref().unwrap_or("-")),
            Safe(netns),
            Safe(&verdict.map_or("-".into(), cause)),
        )?;
    }
    Ok(())
}

fn packet(drop: &Exemplar) -> String {
    let tag = drop.vlan.map(|id| format!(" vlan {id}")).unwrap_or_default();
    let network = drop.vni.map(|vni| format!(" vni {vni}")).unwrap_or_default();
    let Some(flow) = &drop.flow else {
        return format!("{} len {}{tag}{network}", protocol(drop.l3, None), drop.len);
    };
    let flags = match flow.tcp_flag_letters() {
        letters if letters.is_empty() => letters,
        letters => format!(" [{letters}]"),
    };
    let icmp =
        flow.icmp.map(|(kind, code)| format!(" type {kind} code {code}")).unwrap_or_default();
    let (name, source, destination) = (flow.protocol_name(), flow.source, flow.destination);
    format!("{name} {source} > {destination}{flags}{icmp} len {}{tag}{network}", drop.len)
}

fn protocol(l3: u16, l4: Option<u8>) -> String {
    let network = match l3 {
        0x0800 => "IPv4".into(),
        0x86dd => "IPv6".into(),
        0x0806 => "ARP".into(),
        0 => "-".into(),
        other => format!("ethertype-{other:#06x}"),
    };
    match l4 {
        Some(1) => format!("{network}/ICMP"),
        Some(6) => format!("{network}/TCP"),
        Some(17) => format!("{network}/UDP"),
        Some(58) => format!("{network}/ICMPv6"),
        Some(other) => format!("{network}/{other}"),
        None => network,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use whydrop_model::{CallSite, Endpoint, Flow};

    use super::*;

    /// A drop of which everything is known.
    pub(crate) fn sighting() -> Sighting {
        Sighting {
            schema: whydrop_model::DROP_SCHEMA.into(),
            time: "2026-01-01T00:00:00.000000005Z".into(),
            drop: drop(),
            packet_len: Some(60),
            netns_name: Some("b".into()),
            verdict: Some(Attribution {
                cause: "tcp-port-closed".into(),
                variant: Some("no-listener".into()),
                class: Class::Peer,
                layer: "tcp".into(),
                object: Some("port 80".into()),
                socket: None,
            }),
            owner: Some(QueueOwner {
                pid: 7,
                comm: "we\nb".into(),
                unit: Some("web.service".into()),
                container: None,
                pod: None,
                others: 0,
            }),
            container: None,
        }
    }

    fn drop() -> Exemplar {
        let end = |address: &str, port| Endpoint {
            address: address.parse().expect("an address"),
            port: Some(port),
        };
        Exemplar {
            at_ns: 5,
            reason: "NO_SOCKET".into(),
            site: CallSite { symbol: "tcp_v4_rcv".into(), offset: 0x20, module: None },
            netns: Some(1),
            ifindex: 2,
            device: Some("ve\nth0".into()),
            len: 60,
            l3: 0x0800,
            ether: None,
            vlan: None,
            vni: None,
            flow: Some(Flow {
                source: end("192.0.2.1", 40000),
                destination: end("192.0.2.2", 80),
                protocol: 6,
                tcp_flags: Some(2),
                icmp: None,
            }),
            socket: None,
            stack: Vec::new(),
        }
    }

    #[test]
    fn a_drop_is_one_line_whatever_its_names() {
        let mut bytes = Vec::new();
        write_drop(&sighting(), "10:00:00.000000", "b", &mut bytes).expect("written");
        let line = String::from_utf8(bytes).expect("UTF-8");
        assert_eq!(line.lines().count(), 1);
        assert!(line.contains("TCP 192.0.2.1:40000 > 192.0.2.2:80 [S] len 60"), "{line}");
        assert!(line.contains(r"ve\u{a}th0"));
        assert!(line.contains(r"owner we\u{a}b[7] web.service cause "), "{line}");
        assert!(
            line.contains("tcp-port-closed/no-listener") && line.contains("(peer): port 80"),
            "{line}"
        );
    }

    #[test]
    fn tags_and_tunnels_are_shown() {
        let mut bytes = Vec::new();
        let tagged = Exemplar { vlan: Some(42), vni: Some(7), ..drop() };
        write_drop(&Sighting { drop: tagged, ..sighting() }, "10:00:00.000000", "b", &mut bytes)
            .expect("written");
        let line = String::from_utf8(bytes).expect("UTF-8");
        assert!(line.contains(" len 60 vlan 42 vni 7 "), "{line}");
    }

    #[test]
    fn protocols_have_names() {
        assert_eq!(protocol(0x0800, Some(17)), "IPv4/UDP");
        assert_eq!(protocol(0x88cc, None), "ethertype-0x88cc");
        assert_eq!(protocol(0, None), "-");
    }
}
