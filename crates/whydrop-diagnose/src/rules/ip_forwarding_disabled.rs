//! Packets to be routed through this host arrive while forwarding is off.
//!
//! `IP_INADDRERRORS` in `ip_error` (`net/ipv4/route.c`) or `ip6_forward` (`net/ipv6/ip6_output.c`,
//! 6.18) while the way they came in by does not forward, and a route leads to their destination by
//! another device: this host could pass them on. Without such a route the address is simply not here
//! (`address_not_local`).

use whydrop_model::{DropTotal, Flow, Namespace, Severity};

use super::address_not_local;
use crate::case::Case;
use crate::fib;
use crate::rule::Rule;
use crate::traced::{self, Group, Told};

/// See the module.
pub(super) struct IpForwardingDisabled;

const ID: &str = "ip-forwarding-disabled";

impl Rule for IpForwardingDisabled {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for kind in address_not_local::KINDS {
            let evidence = case.evidence();
            let refused = |total: &_| kind.signatures.iter().any(|one| one.matches(total));
            let found = traced::take_by_flow(case, 1.0, refused, |total, flow| {
                let namespace = evidence.namespace(total.netns?)?;
                switch(namespace, total)?;
                way_out(namespace, total, flow)
            });
            for (out, group) in found {
                let told = tell(&group, &out);
                group.conclude(case, ID, Severity::Critical, kind, told);
            }
        }
    }
}

/// The setting that keeps these packets from being forwarded; `None` if forwarding is on.
fn switch(namespace: &Namespace, total: &DropTotal) -> Option<String> {
    let value = |name: &str| namespace.sysctl(name);
    if total.l3 == 0x86dd {
        let all = "net.ipv6.conf.all.forwarding";
        return (value(all) == Some(0)).then(|| all.into());
    }
    let device = total.device.as_deref().unwrap_or_default().replace('.', "/");
    let own = format!("net.ipv4.conf.{device}.forwarding");
    let all = value("net.ipv4.conf.all.forwarding").or_else(|| value("net.ipv4.ip_forward"));
    // That of the device decides; it is told only where it differs from that of all.
    match (value(&own), all) {
        (Some(0), Some(1)) => Some(own),
        (Some(0), _) | (None, Some(0)) => Some("net.ipv4.ip_forward".into()),
        _ => None,
    }
}

/// The device by which a route leads on to the destination, if it is another than the packet came in
/// by.
fn way_out(namespace: &Namespace, total: &DropTotal, flow: &Flow) -> Option<String> {
    let route = fib::route_to(namespace, flow.destination.address)?;
    let out = *route.devices.first().filter(|_| !route.devices.contains(&total.ifindex))?;
    let link = namespace.links.iter().find(|link| link.ifindex == out)?;
    Some(link.name.clone())
}

fn tell(group: &Group<'_>, out: &str) -> Told {
    let setting = group.namespace.zip(group.first()).and_then(|(here, total)| switch(here, total));
    let setting = setting.unwrap_or_else(|| "net.ipv4.ip_forward".into());
    let (to, device) = (group.targets(), group.device_name());
    Told {
        summary: format!(
            "Packets to {to} come in by {device} to be passed on by {out}, but {setting} is 0: this host \
             does not forward"
        ),
        cure: format!(
            "If this host is meant to be a router, set {setting}=1 (for good in /etc/sysctl.d), and \
             filter what it forwards; otherwise correct the route of those who send here ({})",
            group.sources()
        ),
        command: Some(format!("sysctl -w {setting}=1")),
        object: Some(setting),
        useless: &["rp_filter and the packet filter: the packets do not come that far"],
        ..Told::default()
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Evidence, Link, Routes};

    use crate::{Thresholds, diagnose, sample};

    /// Packets to 192.0.2.1 that came in by device 2.
    fn refused(forwarding: &str, out: u32) -> Evidence {
        let mut evidence = sample::evidence();
        sample::count(&mut evidence, "Ip.InAddrErrors", 30);
        let total = sample::total("IP_INADDRERRORS", "ip_error", 30);
        evidence.tracer.exemplars = vec![sample::exemplar(&total, 1000)];
        evidence.tracer.totals = vec![total];
        let namespace = &mut evidence.namespaces[0];
        namespace.sysctls.insert("net.ipv4.conf.all.forwarding".into(), forwarding.into());
        let link = |ifindex, name: &str| Link { ifindex, name: name.into(), ..Link::default() };
        namespace.links = vec![link(2, "veth0"), link(3, "veth1")];
        let unicast = vec![sample::route("unicast", "192.0.2.0", 24, out)];
        namespace.routes = Some(Routes { unicast, ..Routes::default() });
        evidence
    }

    fn cause(evidence: &Evidence) -> (String, Option<String>) {
        let report = diagnose(evidence, &Thresholds::default());
        let finding = &report.findings[0];
        assert_eq!((report.ledger.lost, finding.packets), (30, 30));
        (finding.cause.clone(), finding.site.object.clone())
    }

    #[test]
    fn a_route_by_another_device_means_forwarding() {
        let (cause, object) = cause(&refused("0", 3));
        assert_eq!(cause, "ip-forwarding-disabled");
        assert_eq!(object.as_deref(), Some("net.ipv4.ip_forward"));
    }

    #[test]
    fn the_device_decides() {
        let mut evidence = refused("1", 3);
        let own = "net.ipv4.conf.veth0.forwarding";
        evidence.namespaces[0].sysctls.insert(own.into(), "0".into());
        assert_eq!(cause(&evidence), ("ip-forwarding-disabled".into(), Some(own.into())));
    }

    #[test]
    fn without_a_way_out_the_address_is_not_here() {
        assert_eq!(cause(&refused("0", 2)).0, "address-not-local", "on the link it came by");
        let mut evidence = refused("0", 3);
        evidence.namespaces[0].routes = None;
        assert_eq!(cause(&evidence).0, "address-not-local", "no route is known");
    }
}
