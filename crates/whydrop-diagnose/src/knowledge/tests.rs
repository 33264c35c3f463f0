//! Every page is whole, and every reason of every supported kernel has one.

use super::*;
use crate::causes::{self, LAYERS};
use crate::counters;

/// The reasons of each supported kernel, from its own type information.
const KERNELS: &[(&str, &str)] = &[
    ("5.17", include_str!("../../knowledge/kernels/5.17.txt")),
    ("6.1", include_str!("../../knowledge/kernels/6.1.txt")),
    ("6.12", include_str!("../../knowledge/kernels/6.12.txt")),
    ("6.18", include_str!("../../knowledge/kernels/6.18.txt")),
    ("7.2", include_str!("../../knowledge/kernels/7.2.txt")),
];

#[test]
fn every_reason_of_every_supported_kernel_has_a_page() {
    let mut missing = Vec::new();
    for (kernel, names) in KERNELS {
        let names: Vec<_> = names.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(names.len() >= 7, "{kernel} has {} names", names.len());
        for name in names.into_iter().filter(|name| crate::reasons::find(name).is_none()) {
            missing.push(format!("{kernel}: {name}"));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_file_is_a_page() {
    assert!(MALFORMED.is_empty(), "{MALFORMED:#?}");
}

#[test]
fn heads_use_known_words_and_short_meanings() {
    let classes = ["fault", "policy", "peer", "benign", "info", "depends"];
    for page in PAGES {
        let name = page.name;
        assert!(LAYERS.contains(&page.layer), "{name}: layer {}", page.layer);
        assert!(classes.contains(&page.class), "{name}: class {}", page.class);
        let length = page.meaning.chars().count();
        assert!((10..=100).contains(&length), "{name}: {length} characters of meaning");
        for release in page.since.iter().chain(page.until.iter()) {
            let numbers = release.split_once('.');
            let is_number = |text: &str| text.parse::<u32>().is_ok();
            assert!(
                numbers.is_some_and(|(major, minor)| is_number(major) && is_number(minor)),
                "{name}: {release} is not a release"
            );
        }
        if page.kind == Kind::Reason && page.call_site().is_none() {
            assert!(page.since.is_some(), "{name}: since when?");
        }
    }
}

#[test]
fn every_page_has_its_headings_with_text() {
    for page in PAGES {
        let wanted = match page.kind {
            Kind::Reason => REASON_HEADINGS,
            Kind::Cause => CAUSE_HEADINGS,
        };
        let headings: Vec<_> = page.sections().map(|(heading, _)| heading).collect();
        assert_eq!(headings, wanted, "{}", page.name);
        for (heading, text) in page.sections() {
            assert!(text.trim().len() >= 4, "{}: nothing under {heading}", page.name);
        }
    }
}

#[test]
fn related_pages_exist() {
    let mut lost = Vec::new();
    for page in PAGES {
        for other in page.see {
            let counter = counters::find(other).next().is_some();
            if !counter && find(other).is_none() && causes::find(other).is_none() {
                lost.push(format!("{} -> {other}", page.name));
            }
            assert_ne!(*other, page.name, "sees itself");
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn no_name_stands_for_two_pages() {
    let mut names: Vec<_> = PAGES
        .iter()
        .flat_map(|page| page.names().map(move |name| (plain(name), page.name)))
        .collect();
    names.sort();
    for pair in names.windows(2) {
        assert_ne!(pair[0].0, pair[1].0, "{} and {}", pair[0].1, pair[1].1);
    }
}

#[test]
fn a_call_sites_reason_has_a_page_of_its_own() {
    for page in PAGES {
        if let Some((reason, _)) = page.name.split_once('@') {
            assert!(reason == "ANY" || crate::reasons::find(reason).is_some(), "{}", page.name);
        }
    }
}

#[test]
fn names_are_found_however_they_are_written() {
    for name in ["NO_SOCKET", "no-socket", "SKB_DROP_REASON_NO_SOCKET", " no_socket "] {
        assert_eq!(find(name).map(|page| page.name), Some("NO_SOCKET"), "{name}");
    }
    assert_eq!(find("PTYPE_ABSENT").map(|page| page.name), Some("UNHANDLED_PROTO"));
    assert!(find("NO_SUCH_REASON").is_none());
}

#[test]
fn call_sites_are_found_as_tracers_print_them() {
    for symbol in [
        "nft_do_chain",
        "nft_do_chain+0x123",
        "nft_do_chain+0x1f/0x5e0 [nf_tables]",
        "nft_do_chain.isra.0",
    ] {
        let names: Vec<_> = at_call_site(symbol).map(|page| page.name).collect();
        assert_eq!(names, ["NETFILTER_DROP@nft_do_chain"], "{symbol}");
    }
    assert_eq!(at_call_site("no_such_function").count(), 0);
    let others: Vec<_> = from_source("ip_rcv_core+0x1c/0x350").map(|page| page.name).collect();
    assert!(others.contains(&"IP_CSUM") && others.contains(&"OTHERHOST"), "{others:?}");
    assert!(call_sites_of("netfilter_drop").any(|page| page.name == "NETFILTER_DROP@nf_hook_slow"));
}

#[test]
fn slips_of_the_finger_are_forgiven() {
    let first = |name: &str| near(name).first().map(|page| page.name);
    assert_eq!(first("NO_SOKCET"), Some("NO_SOCKET"));
    assert_eq!(first("netfilterdrop"), Some("NETFILTER_DROP"));
    assert_eq!(first("TCP_LISTEN_OVERFLOWS"), Some("TCP_LISTEN_OVERFLOW"));
    assert!(near("IPV6_NDISC").iter().any(|page| page.name == "IPV6_NDISC_FRAG"));
    assert!(near("qqqqqqqqqqqq").is_empty());
    assert!(near("").is_empty());
}

#[test]
fn distances() {
    assert_eq!(distance("ABCD", "ABCD", 2), 2, "begins with itself");
    assert_eq!(distance("ABC", "ACB", 2), 1, "swapped");
    assert_eq!(distance("ABC", "ABD", 2), 1, "changed");
    assert_eq!(distance("ABC", "AC", 2), 1, "removed");
    assert!(distance("ABC", "XYZABC", 2) > 2);
}

#[test]
fn words_are_found_in_any_order_and_the_best_comes_first() {
    let names: Vec<_> = search(&["queue", "accept"]).iter().map(|page| page.name).collect();
    assert_eq!(names.first(), Some(&"accept-queue-full"), "{names:?}");
    assert!(names.contains(&"TCP_LISTEN_OVERFLOW"), "{names:?}");
    assert!(search(&["zzzzzz"]).is_empty());
    assert!(search(&["@", "a"]).is_empty(), "signs are no words");
    assert!(search(&[]).is_empty());
}
