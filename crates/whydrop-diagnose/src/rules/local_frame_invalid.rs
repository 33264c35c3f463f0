//! A local program exchanged an unusable frame with the kernel.
//!
//! What a VPN or virtual machine writes into a tun or tap device is refused in `tun_get_user` or
//! `tap_get_user` (`drivers/net/tun.c`, `tap.c`, 6.18), mostly without a reason: one that is no IP packet is
//! counted in `rx_dropped`, one with a wrong virtio-net header in nothing, or in `rx_frame_errors`. A read with too little room loses the packet in `tun_do_read`; a frame whose
//! metadata contradict it dies when it is to be segmented. Look-alikes: a device that is down, a full ring.

use whydrop_model::{EvidenceItem, EvidenceKind, Link, Severity};

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Group, Kind, Told};

/// See the module.
pub(super) struct LocalFrameInvalid;

const ID: &str = "local-frame-invalid";

/// Counts a frame with a wrong virtio-net header on a tun or tap device.
const FRAME_ERRORS: &str = "rx_frame_errors";

const KINDS: &[Kind] = &[
    Kind {
        variant: Some("vnet-header"),
        signatures: &[drops("DEV_HDR", "tap_*"), drops("DEV_HDR", "tun_*")],
        counters: &[],
    },
    Kind {
        variant: Some("tun-write"),
        signatures: &[
            drops("NOT_SPECIFIED", "tun_get_user"),
            drops("NOT_SPECIFIED", "tap_get_user"),
            drops("HDR_TRUNC", "tun_*"),
            drops("HDR_TRUNC", "tap_*"),
        ],
        counters: &[],
    },
    Kind {
        variant: Some("gso"),
        signatures: &[
            drops("SKB_GSO_SEG", "*"),
            drops("SKB_CSUM", "tap_handle_frame"),
            drops("SKB_BAD_GSO", "*"),
            drops("NOT_SPECIFIED", "validate_xmit_skb"),
        ],
        counters: &[],
    },
    Kind { variant: Some("fault"), signatures: &[drops("SKB_UCOPY_FAULT", "*")], counters: &[] },
    Kind {
        variant: Some("short-read"),
        signatures: &[drops("NOT_SPECIFIED", "tun_do_read"), drops("NOT_SPECIFIED", "tap_do_read")],
        counters: &[],
    },
];

impl Rule for LocalFrameInvalid {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for kind in KINDS {
            for group in traced::take(case, kind.signatures) {
                let mut counted = Vec::new();
                let mut variant = kind.variant;
                if variant == Some("tun-write") {
                    counted = book_frame_errors(case, &group);
                    if !counted.is_empty() || uncounted(&group) {
                        variant = Some("vnet-header");
                    }
                }
                let told = told(&group, variant);
                group.agreed(counted).conclude(case, ID, Severity::Warning, kind, told);
            }
        }
    }
}

/// True if the tun and tap devices of the namespace are known and dropped nothing that they count.
fn uncounted(group: &Group<'_>) -> bool {
    let links = group.namespace.map_or(&[][..], |namespace| &namespace.links);
    let mut devices = links.iter().filter(|link| link.kind.as_deref() == Some("tun")).peekable();
    let dropped = |link: &Link| link.stats.get("rx_dropped").is_some_and(|it| it.delta() > 0);
    devices.peek().is_some() && !devices.any(dropped)
}

/// Books what tun and tap devices of the namespace counted of these frames: by the time they die they are
/// on no device yet.
fn book_frame_errors(case: &mut Case<'_>, group: &Group<'_>) -> Vec<EvidenceItem> {
    let Some(namespace) = group.namespace else { return Vec::new() };
    let (mut left, mut counted) = (group.packets, Vec::new());
    for link in namespace.links.iter().filter(|link| link.kind.as_deref() == Some("tun")) {
        let grown = case.unbooked_field(namespace, link, FRAME_ERRORS).min(left);
        if grown > 0 {
            case.book_field(namespace, link, FRAME_ERRORS, grown);
            left -= grown;
            let name = format!("{} {FRAME_ERRORS}", link.name);
            counted.push(EvidenceItem::new(EvidenceKind::Counter, name, grown));
        }
    }
    counted
}

fn told(group: &Group<'_>, variant: Option<&'static str>) -> Told {
    let device = group.device.map(|device| format!(" on {device}")).unwrap_or_default();
    let (what, cure) = match variant {
        Some("vnet-header") => (
            "writes frames whose virtio-net header contradicts them",
            "Update the virtual machine monitor or the guest's virtio driver; it gets EINVAL",
        ),
        Some("gso") => (
            "sends frames that cannot be segmented as their metadata say",
            "Update what builds them (a guest's driver, a raw sender); as a stopgap switch its segmentation \
             offload off inside the guest",
        ),
        Some("fault") => (
            "hands over buffers that cannot be read",
            "Mend the program: a pointer or length it passes is wrong; it gets EFAULT",
        ),
        Some("short-read") => (
            "reads with less room than a packet and its header need, and the packet is lost",
            "The program must offer room for MTU and header, 64 KiB with segmentation offload",
        ),
        _ => (
            "writes frames that the device cannot take",
            "Update the VPN or virtual machine monitor that writes them; it gets EINVAL",
        ),
    };
    Told {
        variant,
        object: Some(format!("local program that exchanges frames{device}")),
        summary: format!("A local program{device} {what}: mend the program"),
        cure: format!(
            "{cure}. `strace -f -e trace=read,readv,write,writev -p <pid>` shows the call"
        ),
        command: group.device.map(|device| format!("ip -d -s link show dev {device}")),
        useless: &["rings, queues and the MTU of the host: the frame itself is wrong"],
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::{Link, Pair};

    use crate::{Thresholds, diagnose, sample};

    #[test]
    fn signatures_have_their_variants() {
        for (reason, symbol, variant) in [
            ("NOT_SPECIFIED", "tun_get_user", "tun-write"),
            ("DEV_HDR", "tap_get_user", "vnet-header"),
            ("SKB_GSO_SEG", "tap_handle_frame", "gso"),
            ("SKB_UCOPY_FAULT", "tun_get_user", "fault"),
            ("NOT_SPECIFIED", "tun_do_read", "short-read"),
        ] {
            let mut evidence = sample::evidence();
            evidence.tracer.totals = vec![sample::total(reason, symbol, 30)];
            let finding = diagnose(&evidence, &Thresholds::default()).findings.remove(0);
            assert_eq!((finding.cause.as_str(), finding.packets), ("local-frame-invalid", 30));
            assert_eq!(finding.variant.as_deref(), Some(variant), "{reason}@{symbol}");
        }
    }

    #[test]
    fn a_wrong_header_is_told_by_what_is_counted() {
        for (counter, grown, variant) in [
            ("rx_frame_errors", 30, "vnet-header"),
            ("rx_packets", 30, "vnet-header"),
            ("rx_dropped", 30, "tun-write"),
        ] {
            let mut evidence = sample::evidence();
            let mut total = sample::total("NOT_SPECIFIED", "tun_get_user", 30);
            (total.ifindex, total.device) = (0, None);
            evidence.tracer.totals = vec![total];
            let kind = Some("tun".to_owned());
            let mut link = Link { ifindex: 2, name: "tap0".into(), kind, ..Link::default() };
            link.stats.insert(counter.into(), Pair { before: 0, after: grown });
            evidence.namespaces[0].links.push(link);
            let report = diagnose(&evidence, &Thresholds::default());
            assert_eq!(report.findings[0].variant.as_deref(), Some(variant), "{counter}");
            assert_eq!((report.ledger.lost, report.ledger.unexplained), (30, 0));
        }
    }
}
