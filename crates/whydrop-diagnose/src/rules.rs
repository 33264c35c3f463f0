//! Every rule, in the order in which they take their part of the losses.
//!
//! To add one: a file in `rules/` with a unit struct that implements [`Rule`], and two lines here.
//! Order matters where two causes share a signature: the one that needs a counter to agree comes
//! before the one that takes what is left.

mod accept_queue_full;
mod lan_chatter;
mod listen_drop_other;
mod multicast_not_joined;
mod purged_by_reconfiguration;
mod socket_closed_with_data;
mod syn_cookies_active;
mod syn_queue_full;
mod tcp_routine_discard;
mod unwanted_control_message;

use crate::rule::Rule;

/// All rules.
pub const RULES: &[&dyn Rule] = &[
    &accept_queue_full::AcceptQueueFull,
    &syn_queue_full::SynQueueFull,
    &listen_drop_other::ListenDropOther,
    &syn_cookies_active::SynCookiesActive,
    &tcp_routine_discard::TcpRoutineDiscard,
    &socket_closed_with_data::SocketClosedWithData,
    &multicast_not_joined::MulticastNotJoined,
    &unwanted_control_message::UnwantedControlMessage,
    &lan_chatter::LanChatter,
    &purged_by_reconfiguration::PurgedByReconfiguration,
];

#[cfg(test)]
mod tests {
    use super::RULES;
    use crate::causes;

    #[test]
    fn every_rule_names_a_cause_and_no_cause_has_two() {
        let mut ids: Vec<_> = RULES.iter().map(|rule| rule.cause()).collect();
        for id in &ids {
            assert!(causes::find(id).is_some(), "{id} is not in causes.tsv");
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), RULES.len());
    }
}
