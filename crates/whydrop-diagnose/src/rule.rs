//! What a rule is.

use crate::case::Case;

/// Recognises one cause of packet loss, from evidence alone.
///
/// Rules run in the order of [`crate::rules::RULES`]. Each takes from the case the drops and counter
/// growth that it explains, so that no packet is explained twice, and books them.
pub trait Rule: Sync {
    /// The id of the cause: the name of its page in `knowledge/causes/`; also the rule's file name.
    fn cause(&self) -> &'static str;

    /// Looks for the cause and books what it explains.
    fn check(&self, case: &mut Case<'_>);
}
