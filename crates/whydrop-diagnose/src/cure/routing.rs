//! Packets that the routing code refuses: a looser `rp_filter`, or forwarding.
//!
//! Both open the host to packets that it refused on purpose by its settings, so both need consent.

use whydrop_model::{Answer, Proposal};

use super::{Patient, left_out, measured};

/// Loose mode on the one interface: what counts is the larger of its value and that of `all`
/// (`IN_DEV_RPFILTER`, `include/linux/inetdevice.h`), so the others keep theirs.
pub(super) fn reverse_path(patient: &Patient<'_>) -> Option<Answer> {
    let device = patient.finding.site.device.as_deref()?;
    if patient.variant() != "strict" {
        return None;
    }
    let name = format!("net.ipv4.conf.{}.rp_filter", device.replace('.', "/"));
    let own = patient.device_setting("ipv4", "conf", device, "rp_filter").unwrap_or(0);
    let mut write = patient.sysctl(name.clone(), 2);
    // A value that equals that of `all` is not told apart from it.
    write.old = Some(own.to_string());
    Some(Answer::Change(Box::new(Proposal {
        summary: format!(
            "Let rp_filter be loose on {device} alone ({name}=2): packets are taken from any source that \
             has a route back, wherever it leaves"
        ),
        writes: vec![write],
        measured: vec![measured("packets refused", patient.finding.packets)],
        sizing: None,
        risk: "If the path is not asymmetric on purpose, the route is wrong and this hides it"
            .into(),
        weakens: Some(format!(
            "packets with forged sources that have some route are let in by {device}"
        )),
        interrupts: None,
        permanent: Vec::new(),
        left_out: left_out(patient.finding)
            .into_iter()
            .chain([
                "net.ipv4.conf.all.rp_filter=2: it would loosen every other interface as well"
                    .into(),
                "rp_filter=0: loose mode is enough, and still refuses sources without any route"
                    .into(),
            ])
            .collect(),
    })))
}

/// Forwarding on each device, and not by `net.ipv4.ip_forward` or `net.ipv6.conf.all.forwarding`, which
/// change other settings along with it (`inet_forward_change()`, `net/ipv4/devinet.c`;
/// `dev_forward_change()`, `net/ipv6/addrconf.c`) that nothing would put back. IPv6 has such a setting
/// since 6.17.
pub(super) fn forwarding(patient: &Patient<'_>) -> Option<Answer> {
    let (family, setting) = match patient.variant() {
        "ipv4" => ("ipv4", "forwarding"),
        "ipv6" if kernel(patient) >= (6, 17) => ("ipv6", "force_forwarding"),
        _ => return None,
    };
    let is_on = |device: &str| {
        patient.device_setting(family, "conf", device, setting).is_some_and(|on| on > 0)
    };
    let devices = patient.namespace.links.iter().filter(|link| link.up && link.name != "lo");
    let writes: Vec<_> = devices
        .filter(|link| !is_on(&link.name))
        .map(|link| {
            let device = link.name.replace('.', "/");
            let mut write = patient.sysctl(format!("net.{family}.conf.{device}.{setting}"), 1);
            // A value that equals that of `all` is not told apart from it.
            write.old = Some("0".into());
            write
        })
        .collect();
    if writes.is_empty() {
        return None;
    }
    Some(Answer::Change(Box::new(Proposal {
        summary: "Let this namespace forward what comes in by its devices".into(),
        writes,
        measured: vec![measured("packets for others refused", patient.finding.packets)],
        sizing: None,
        risk: "If this host is no router, the sender is wrong to use it as one: repair its route instead"
            .into(),
        weakens: Some("packets are passed on between the networks of this namespace".into()),
        interrupts: None,
        permanent: Vec::new(),
        left_out: left_out(patient.finding),
    })))
}

/// Version and patch level of the kernel.
fn kernel(patient: &Patient<'_>) -> (u32, u32) {
    let mut numbers =
        patient.evidence.host.kernel.split(['.', '-']).map_while(|it| it.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
