//! `whydrop sockets`: what `ss` shows, with the past seconds and the reason of the limit.

use std::net::{TcpListener, TcpStream, UdpSocket};

use crate::program::whydrop;

#[test]
fn a_queue_is_told_with_its_limit_and_its_owner() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let waiting = [(); 3].map(|()| TcpStream::connect(address).expect("connected"));
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("bound");
    datagrams.send_to(b"to itself", datagrams.local_addr().expect("an address")).expect("sent");

    let run = whydrop(&["sockets", "--duration", "0.3", "--format", "json"]);
    assert_eq!(run.status, Some(0), "{run:?}");
    let document: serde_json::Value = serde_json::from_str(&run.stdout).expect("one document");
    assert_eq!(document["schema"], "whydrop.sockets/1");
    let queues = document["queues"].as_array().expect("a list");
    let queue = |protocol: &str, local: String| {
        let is_it = |it: &&serde_json::Value| it["local"] == local && it["protocol"] == protocol;
        queues.iter().find(is_it).unwrap_or_else(|| panic!("no {local} in {queues:#?}")).clone()
    };
    let tcp = queue("tcp", address.to_string());
    assert_eq!((&tcp["queued"], &tcp["peak"]), (&3.into(), &3.into()));
    // What the standard library asks for.
    assert_eq!((&tcp["limit"], &tcp["bound_by"]), (&128.into(), &"listen(fd, 128)".into()));
    assert_eq!(tcp["owner"]["pid"], std::process::id());
    let udp = queue("udp", datagrams.local_addr().expect("an address").to_string());
    assert!(udp["queued"].as_u64() > Some(0) && udp["limit"].as_u64() > Some(2000), "{udp}");
    assert_eq!(udp["owner"]["pid"], std::process::id(), "something waits in it");

    let text = whydrop(&["sockets", "--duration", "0.1"]).stdout;
    let line = text.lines().find(|line| line.contains(&format!(" {address} "))).expect("a line");
    assert!(line.starts_with("tcp") && line.contains(" 2%"), "{line}");
    drop(waiting);
}

#[test]
fn an_unknown_namespace_is_refused() {
    let run = whydrop(&["sockets", "--netns", "no-such-one"]);
    assert_eq!(run.status, Some(2));
    assert!(run.stderr.contains("no-such-one") && run.stderr.lines().count() == 1, "{run:?}");
}
