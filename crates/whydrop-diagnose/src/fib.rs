//! Where a namespace's routes lead: the look-up of the kernel, as far as the evidence knows the routes.
//!
//! The longest prefix that covers the destination, of those the lowest metric (`fib_table_lookup()`,
//! `net/ipv4/fib_trie.c`, 6.18). Policy rules that choose another table than `main` are not followed.

use std::cmp::Reverse;
use std::net::IpAddr;

use whydrop_model::{Namespace, Route};

/// `RT_TABLE_MAIN`.
const MAIN: u32 = 254;

/// The route of table `main` to an address; `None` if there is none, or if the namespace has more
/// routes than were read, so that a better one may be missing.
pub(crate) fn route_to(namespace: &Namespace, to: IpAddr) -> Option<&Route> {
    let routes = namespace.routes.as_ref()?;
    let all = routes.unicast.iter().chain(&routes.defaults).chain(&routes.discarding);
    let found = all
        .filter(|route| route.table == MAIN && covers(route, to))
        .max_by_key(|route| (route.prefix, Reverse(route.priority)))?;
    let all_known = routes.unicast_left_out == 0 && routes.partial.is_empty();
    // Nothing is longer than a route to the one address.
    let longest = found.prefix == if to.is_ipv4() { 32 } else { 128 };
    (all_known || longest).then_some(found)
}

/// True if the address is within the route's prefix.
pub(crate) fn covers(route: &Route, address: IpAddr) -> bool {
    let prefix = u32::from(route.prefix);
    match (route.destination, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let differ = network.to_bits() ^ address.to_bits();
            differ.checked_shr(32_u32.saturating_sub(prefix)).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let differ = network.to_bits() ^ address.to_bits();
            differ.checked_shr(128_u32.saturating_sub(prefix)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use whydrop_model::Routes;

    use super::*;
    use crate::sample::route;

    fn to(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    #[test]
    fn a_route_covers_its_prefix() {
        let route = |destination: &str, prefix| route("blackhole", destination, prefix, 2);
        assert!(covers(&route("10.1.0.0", 16), to("10.1.2.3")));
        assert!(!covers(&route("10.1.0.0", 16), to("10.2.2.3")));
        assert!(covers(&route("0.0.0.0", 0), to("192.0.2.1")));
        assert!(!covers(&route("0.0.0.0", 0), to("2001:db8::1")));
        assert!(covers(&route("2001:db8::", 32), to("2001:db8:1::1")));
        assert!(!covers(&route("2001:db8::1", 128), to("2001:db8::2")));
    }

    #[test]
    fn the_longest_prefix_wins_and_of_those_the_lowest_metric() {
        let mut far = route("unicast", "10.1.0.0", 16, 5);
        far.priority = 100;
        let routes = Routes {
            defaults: vec![route("unicast", "0.0.0.0", 0, 3)],
            unicast: vec![far, route("unicast", "10.1.0.0", 16, 4)],
            ..Routes::default()
        };
        let mut namespace = Namespace { routes: Some(routes), ..Namespace::default() };
        let device = |namespace: &Namespace, address| {
            route_to(namespace, to(address)).map(|route| route.devices[0])
        };
        assert_eq!(device(&namespace, "10.1.2.3"), Some(4));
        assert_eq!(device(&namespace, "192.0.2.1"), Some(3));
        assert_eq!(device(&namespace, "2001:db8::1"), None);
        if let Some(routes) = &mut namespace.routes {
            routes.unicast_left_out = 1;
        }
        assert_eq!(device(&namespace, "10.1.2.3"), None, "there may be a better one");
    }
}
