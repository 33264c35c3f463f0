//! `whydrop explain`: what it finds, what it guesses, and how it ends.

use serde_json::Value;

use crate::program::whydrop;

fn json(words: &[&str]) -> Value {
    let run = whydrop(&[&["explain", "--format", "json"], words].concat());
    assert_eq!(run.status, Some(0), "{run:?}");
    serde_json::from_str(&run.stdout).expect("one JSON document")
}

fn names(document: &Value, list: &str) -> Vec<String> {
    let items = document[list].as_array().expect("a list");
    items.iter().filter_map(|item| item["name"].as_str()).map(str::to_owned).collect()
}

#[test]
fn a_reason_is_explained_with_its_call_sites() {
    let run = whydrop(&["explain", "SKB_DROP_REASON_NO_SOCKET"]);
    assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""));
    for part in ["NO_SOCKET", "What happened", "How to cure", "NO_SOCKET@cookie_v4_check"] {
        assert!(run.stdout.contains(part), "{part} in {}", run.stdout);
    }
    assert!(!run.stdout.contains("## "), "a heading as it stands in the file");
}

#[test]
fn each_kind_of_name_is_found() {
    for (asked, list, name) in [
        ("TCP_FILTER", "pages", "SOCKET_FILTER"),
        ("Accept-Queue-Full", "pages", "accept-queue-full"),
        ("NOT_SPECIFIED@tcp_v4_rcv", "pages", "NOT_SPECIFIED@tcp_v4_rcv"),
        ("NETFILTER_DROP@nft_do_chain+0x12/0x5e0", "pages", "NETFILTER_DROP@nft_do_chain"),
        ("nft_do_chain+0x123", "pages", "NETFILTER_DROP@nft_do_chain"),
        ("NO_SOCKET@a_function_of_tomorrow", "pages", "NO_SOCKET"),
        ("TcpExt.ListenOverflows", "counters", "TcpExt.ListenOverflows"),
        ("listenoverflows", "counters", "TcpExt.ListenOverflows"),
        ("rx_missed_errors", "counters", "rx_missed_errors"),
    ] {
        assert_eq!(names(&json(&[asked]), list), [name], "{asked}");
    }
    let others = &json(&["enqueue_to_backlog"])["others"];
    assert!(
        others.as_array().is_some_and(|names| names.contains(&"CPU_BACKLOG".into())),
        "{others}"
    );
    assert_eq!(json(&["rx_out_of_buffer"])["statistics"][0]["class"], "no-buffer");
    assert_eq!(names(&json(&["accept", "queue", "full"]), "pages"), ["accept-queue-full"]);
}

#[test]
fn a_page_is_whole_in_json() {
    let document = json(&["IP_RPFILTER"]);
    assert_eq!(document["schema"], "whydrop.explain/1");
    let page = &document["pages"][0];
    assert_eq!((&page["kind"], &page["since"]), (&"drop reason".into(), &"5.18".into()));
    let headings: Vec<_> = page["sections"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|section| section["heading"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(headings.first(), Some(&"What happened"));
    assert_eq!(headings.len(), 6);
}

#[test]
fn what_has_no_name_is_guessed_or_refused_in_one_line() {
    assert_eq!(
        names(&json(&["NO_SOKCET"]), "similar").first().map(String::as_str),
        Some("NO_SOCKET")
    );
    let found = names(&json(&["rmem_max", "datagram"]), "similar");
    assert!(found.iter().any(|name| name == "SOCKET_RCVBUFF"), "{found:?}");

    for words in [&["qqqqqqqq"][..], &["\x1b[31m\nqqqqforged"], &[""], &[" "], &["@"], &["+"]] {
        let run = whydrop(&[&["explain"], words].concat());
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{words:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
        assert!(!run.stderr.contains('\x1b'), "{run:?}");
    }
}
