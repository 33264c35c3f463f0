//! `rp_filter` refused a packet because of the interface it came in by.
//!
//! `IP_RPFILTER` with `TcpExt.IPReversePathFilter` (`fib_validate_source()`, `net/ipv4/fib_frontend.c`,
//! 6.18). What counts is the larger of the interface's value and that of `all`: 1 (strict) wants the
//! route back to the source to leave by the same interface, 2 (loose) wants any route back.

use whydrop_model::{Confidence, Remedy, Severity};

use crate::case::{Case, Conclusion, Loss};
use crate::rule::Rule;
use crate::signature::{Signature, drops};
use crate::{command, traced};

/// See the module.
pub(super) struct ReversePathFilter;

const ID: &str = "reverse-path-filter";

const SIGNATURES: &[Signature] = &[drops("IP_RPFILTER", "*")];
const COUNTER: &str = "TcpExt.IPReversePathFilter";

impl Rule for ReversePathFilter {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        for group in traced::take(case, SIGNATURES) {
            let device = group.device.unwrap_or("INTERFACE");
            let setting = format!("net.ipv4.conf.{}.rp_filter", device.replace('.', "/"));
            let value = |name: &str| group.namespace.and_then(|here| here.sysctl(name));
            let effective = value("net.ipv4.conf.all.rp_filter").max(value(&setting));
            let sources = group.sources();
            let counters = group.counters(&[COUNTER]);
            let conclusion = Conclusion {
                variant: match effective {
                    Some(1) => Some("strict"),
                    Some(2) => Some("loose"),
                    _ => None,
                },
                severity: Severity::Critical,
                confidence: if counters.is_empty() {
                    Confidence::Likely
                } else {
                    Confidence::Confirmed
                },
                loss: Loss::traced(group.packets),
                site: group.site(case, Some(setting.clone())),
                summary: format!(
                    "Packets from {sources} are refused on {device} because the route back does not leave \
                     there: repair the route, or set {setting}=2"
                ),
                evidence: group.proof().into_iter().chain(counters).collect(),
                remedies: vec![Remedy {
                    summary: format!(
                        "Where the path is asymmetric on purpose, let rp_filter be loose (2) on {device}: it is \
                         the larger value, so that of `all` does not matter. Otherwise add the route to \
                         {sources} by {device}. Loose mode lets through spoofed sources that have some route"
                    ),
                    commands: group
                        .namespace
                        .and_then(|here| command::within(here, &format!("sysctl -w {setting}=2")))
                        .into_iter()
                        .collect(),
                    useless: vec![format!(
                        "{setting}=0 alone: the value of `all` still counts where it is larger"
                    )],
                }],
            };
            case.conclude(ID, conclusion);
        }
    }
}
