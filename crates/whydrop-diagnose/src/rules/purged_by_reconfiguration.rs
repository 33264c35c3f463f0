//! A change of configuration threw queued packets away.

use crate::case::Case;
use crate::rule::Rule;
use crate::signature::{self, Signature, drops};

/// See the module.
pub(super) struct PurgedByReconfiguration;

const ID: &str = "purged-by-reconfiguration";

const SIGNATURES: &[Signature] = &[
    drops("NOT_SPECIFIED", "__rtnl_unlock"),
    drops("NEIGH_DEAD", "__neigh_event_send"),
    drops("QUEUE_PURGE", "neigh_destroy"),
];

impl Rule for PurgedByReconfiguration {
    fn cause(&self) -> &'static str {
        ID
    }

    fn check(&self, case: &mut Case<'_>) {
        signature::book_as_noise(case, ID, SIGNATURES);
    }
}
