//! The program behind a tun, tap or macvtap device does not read fast enough.
//!
//! `FULL_RING` in `tun_net_xmit` (`drivers/net/tun.c`, 6.18) with `tx_dropped`, in `tap_handle_frame`
//! (`drivers/net/tap.c`) with `rx_dropped` of the macvtap: the ring holds `txqueuelen` packets. Look-alike:
//! with nobody attached at all the device has no carrier, and its qdisc drops.

use whydrop_model::{EvidenceItem, EvidenceKind, Link, Severity};

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct TunReaderSlow;

const ID: &str = "tun-reader-slow";

const KIND: Kind = Kind {
    variant: None,
    signatures: &[drops("FULL_RING", "tun_net_xmit"), drops("FULL_RING", "tap_handle_frame")],
    counters: &[],
};

impl Rule for TunReaderSlow {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        let claims = case.claim(|total| KIND.signatures.iter().any(|it| it.matches(total)));
        for group in traced::by_device(case, claims) {
            let device = group.device_name();
            let variant = group.link().map(variant);
            let length = group.link().and_then(|link| link.tx_queue_len);
            let ring = length.map(|packets| format!(" of {packets}")).unwrap_or_default();
            let told = Told {
                variant,
                object: Some(format!("reader of {device}, whose ring holds txqueuelen packets")),
                summary: format!(
                    "The program behind {device} does not read fast enough, and its ring{ring} overflows: give \
                     it CPU or more queues"
                ),
                cure: format!(
                    "The file with `iff:` {device} in /proc/PID/fdinfo tells the program (VPN, virtual machine). \
                     Give it CPU, or more queues. Only for bursts: `ip link set dev {device} txqueuelen \
                     <packets per second x longest pause>`"
                ),
                command: group.device.map(|device| format!("ip -d -s link show dev {device}")),
                useless: &["the socket buffers of the program: they are other queues"],
            };
            let mut agreed = group.link_counters(&["tx_dropped", "rx_dropped"]);
            agreed.extend(length.map(|packets| {
                EvidenceItem::new(EvidenceKind::State, "txqueuelen", u64::from(packets))
            }));
            group.agreed(agreed).conclude(case, ID, Severity::Critical, &KIND, told);
        }
    }
}

/// A tun device has no link layer. Whether it is vhost that reads a tap, the device does not tell.
fn variant(link: &Link) -> &'static str {
    match link.kind.as_deref() {
        Some("macvtap" | "ipvtap") => "macvtap",
        _ if link.mac.is_none() => "tun",
        _ => "tap",
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::Link;

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn the_device_tells_the_variant() {
        let mac = Some("02:00:00:00:00:01".to_owned());
        for (symbol, kind, mac, variant) in [
            ("tun_net_xmit", "tun", None, "tun"),
            ("tun_net_xmit", "tun", mac.clone(), "tap"),
            ("tap_handle_frame", "macvtap", mac, "macvtap"),
        ] {
            let mut evidence = sample::evidence();
            evidence.tracer.totals = vec![sample::total("FULL_RING", symbol, 30)];
            let kind = Some(kind.to_owned());
            let link = Link { ifindex: 2, kind, mac, tx_queue_len: Some(10), ..Link::default() };
            evidence.namespaces[0].links.push(link);
            let finding = diagnose(&evidence, &Thresholds::default()).findings.remove(0);
            assert_eq!((finding.cause.as_str(), finding.packets), ("tun-reader-slow", 30));
            assert_eq!(finding.variant.as_deref(), Some(variant));
            assert!(finding.summary.contains("ring of 10 overflows"), "{}", finding.summary);
        }
    }
}
