//! A security module denied delivery to the socket.
//!
//! `security_sock_rcv_skb` in `sk_filter_trim_cap` (`net/core/filter.c`, 6.18) refused, and the packet is
//! freed as `SECURITY_HOOK` (6.14; before that it has no reason of its own). Look-alikes: programs of a
//! cgroup and filters of the socket refuse in the same function as `SOCKET_FILTER`.

use whydrop_model::Severity;

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::drops;
use crate::traced::{self, Kind, Told};

/// See the module.
pub(super) struct SecurityModuleDrop;

const ID: &str = "security-module-drop";
const KINDS: &[Kind] =
    &[Kind { variant: None, signatures: &[drops("SECURITY_HOOK", "*")], counters: &[] }];

impl Rule for SecurityModuleDrop {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        traced::conclude(case, ID, Severity::Notice, KINDS, |group, _| {
            Told {
            object: Some("policy of the security module".into()),
            summary: format!(
                "A security module (SELinux, Smack, AppArmor, BPF) denies packets from {} to port {}",
                group.sources(),
                group.own_ports()
            ),
            cure: "Find the denial in the audit log; then allow that label in the policy, or correct the \
                   SECMARK or NetLabel rule that labels this traffic"
                .into(),
            command: Some("ausearch -m avc -ts recent".into()),
            useless: &["firewall rules: the packet has passed them"],
            ..Told::default()
        }
        });
    }
}
