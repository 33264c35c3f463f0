//! Drops that are recognised by their reason and the function that freed them.

use whydrop_model::DropTotal;

use crate::case::{self, Case, Claim, Loss, packets};

/// A pattern over drop totals.
pub struct Signature {
    /// Reason name; `*` at the end stands for any rest.
    pub reason: &'static str,
    /// Function that freed the packet; `*` at the end stands for any rest.
    pub symbol: &'static str,
    /// What else must hold.
    pub when: fn(&DropTotal) -> bool,
}

/// A signature without a further condition.
#[must_use]
pub const fn drops(reason: &'static str, symbol: &'static str) -> Signature {
    Signature { reason, symbol, when: |_| true }
}

impl Signature {
    /// True if these drops bear the signature. Drops without a call site (spilled from the full
    /// table) only match a signature for any function.
    #[must_use]
    pub fn matches(&self, total: &DropTotal) -> bool {
        let symbol = total.site.as_ref().map_or("", |site| site.symbol.as_str());
        fits(self.reason, &total.reason) && fits(self.symbol, symbol) && (self.when)(total)
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

/// Books all open drops that bear one of the signatures under a cause that needs no finding: noise.
pub fn book_as_noise(case: &mut Case<'_>, cause: &'static str, signatures: &[Signature]) {
    let claims = case.claim(|total| signatures.iter().any(|signature| signature.matches(total)));
    book_claims_as_noise(case, cause, claims);
}

/// Books what was claimed under a cause that needs no finding. One account per namespace.
pub fn book_claims_as_noise(case: &mut Case<'_>, cause: &'static str, claims: Vec<Claim<'_>>) {
    for (netns, claims) in case::by_netns(claims) {
        let site = case.site_of(netns);
        case.account(cause, Loss::traced(packets(&claims)), site);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn patterns_end_in_a_star_or_match_whole() {
        let unix = drops("UNIX_*", "*");
        assert!(unix.matches(&sample::total("UNIX_DISCONNECT", "unix_release", 1)));
        assert!(!unix.matches(&sample::total("NO_SOCKET", "unix_release", 1)));
        let exact = drops("NO_SOCKET", "ping_rcv");
        assert!(exact.matches(&sample::total("NO_SOCKET", "ping_rcv", 1)));
        assert!(!exact.matches(&sample::total("NO_SOCKET", "ping_rcv_more", 1)));
    }

    #[test]
    fn spilled_drops_have_no_function() {
        let mut spilled = sample::total("NO_SOCKET", "", 1);
        spilled.site = None;
        assert!(!drops("NO_SOCKET", "ping_rcv").matches(&spilled));
        assert!(drops("NO_SOCKET", "*").matches(&spilled));
    }
}
