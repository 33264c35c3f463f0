//! Whose the connection is that a packet was dropped of.

use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{needs_root, pair, scratch, signal, started};

/// Lets a connection come about, and drops what is sent over it.
const RULES: &str = "table inet t {
    chain c {
        type filter hook input priority 0; policy accept
        tcp dport 6000 meta length > 100 counter drop
    }
}";

/// Accepts one connection, and listens no longer: the connection is all that its owner is known by.
const SERVER: &str = "import socket, time
listener = socket.socket()
listener.bind(('10.99.0.2', 6000))
listener.listen()
connection, _ = listener.accept()
listener.close()
connection.send(b'x')
time.sleep(60)";

/// Sends as soon as it is accepted, which it is told: before that the connection is nobody's.
const CLIENT: &str = "import socket, time
while True:
    try:
        connection = socket.create_connection(('10.99.0.2', 6000))
        break
    except OSError:
        time.sleep(0.02)
connection.recv(1)
connection.send(b'x' * 500)
time.sleep(2)";

/// A process that ends with its guard.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_connection_made_meanwhile_has_its_owner() {
    if needs_root() {
        return;
    }
    let [a, b] = pair("owners");
    b.run(&["nft", RULES]);
    let folder = scratch();
    let arguments =
        ["watch", "--netns", b.name(), "--class", "policy", "--format", "ndjson", "tcp"];
    let child = started(&arguments, &folder.path().join("ready"));
    // `ip netns exec` becomes what it runs, so this is its pid.
    let mut server = Command::new("ip");
    server.args(["netns", "exec", b.name(), "python3", "-c", SERVER]).stdin(Stdio::null());
    let server = Server(server.spawn().expect("started"));
    a.run(&["python3", "-c", CLIENT]);
    signal(&child, Signal::INT);
    let output = child.wait_with_output().expect("ended");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let drop: Value = serde_json::from_str(text.lines().next().expect("a drop")).expect("JSON");
    assert_eq!(drop["verdict"]["cause"], "netfilter-rule-drop", "{drop}");
    assert_eq!(drop["owner"]["pid"], server.0.id(), "{drop}");
    assert_eq!(drop["owner"]["comm"], "python3", "{drop}");
}
