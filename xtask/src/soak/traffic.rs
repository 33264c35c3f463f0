//! Mixed traffic of which every packet is lost, and a sender that knows how many it sent.
//!
//! All goes over a veth pair into a namespace where it meets, by turns: a port that nobody has open,
//! a firewall rule, a MAC address of nobody's, the full buffer of a socket that nobody reads, and TCP
//! ports without a listener.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command;

const HERE: &str = "10.98.0.1/24";
const THERE: &str = "10.98.0.2/24";
/// Where datagrams go: to a closed port, to a rule, to nobody, and to a socket that nobody reads.
const TARGETS: [(&str, &str); 4] = [
    ("closed port", "10.98.0.2:7001"),
    ("firewall rule", "10.98.0.2:7002"),
    ("other host", "10.98.0.9:7003"),
    ("full buffer", "10.98.0.2:7004"),
];
const UNREAD: &str = "10.98.0.2:7004";
const REFUSED: &str = "10.98.0.2:7005";

const NO_IPV6: &str = "net.ipv6.conf.default.disable_ipv6=1";

/// Time between two rounds of the sender, and what one round has of each kind.
const ROUND: Duration = Duration::from_millis(10);
const EACH: usize = 10;
/// Every so many rounds one kind bursts.
const BURST_EVERY: u64 = 300;
const BURST: usize = 5_000;

/// Two namespaces joined by a veth pair, and the socket that nobody reads; gone when dropped.
pub(super) struct Stage {
    names: [String; 2],
    unread: Option<Child>,
}

impl Stage {
    /// Makes all that.
    pub(super) fn build() -> Result<Self> {
        let name = |role| format!("whydrop-soak-{}-{role}", std::process::id());
        let mut stage = Self { names: [name("a"), name("b")], unread: None };
        let [a, b] = &stage.names;
        for line in [
            format!("netns add {a}"),
            format!("netns add {b}"),
            // What IPv6 announces by itself is not part of the play.
            format!("netns exec {a} sysctl -qw {NO_IPV6}"),
            format!("netns exec {b} sysctl -qw {NO_IPV6}"),
            format!("-n {a} link add veth0 type veth peer name veth0 netns {b}"),
            format!("-n {a} address add {HERE} dev veth0"),
            format!("-n {b} address add {THERE} dev veth0"),
            format!("-n {a} link set veth0 up"),
            format!("-n {b} link set veth0 up"),
            format!("-n {b} link set lo up"),
            format!("-n {a} neighbour add 10.98.0.9 lladdr 02:00:00:00:00:99 dev veth0"),
        ] {
            command::output(Command::new("ip").args(line.split(' ')))?;
        }
        let rule = "add table ip soak; add chain ip soak c { type filter hook input priority 0; }; \
                    add rule ip soak c udp dport 7002 counter drop";
        command::output(Command::new("ip").args(["netns", "exec", b, "nft", rule]))?;
        let mut reader = in_namespace(b)?;
        let mut child =
            reader.args(["traffic", "hold"]).stdout(Stdio::piped()).spawn().context("a reader")?;
        // It says so once it is bound.
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line)?;
        }
        stage.unread = Some(child);
        if line.trim() != "bound" {
            bail!("the socket that nobody reads was not made");
        }
        let [a, _] = &stage.names;
        command::output(in_namespace(a)?.args(["traffic", "fill"]))?;
        Ok(stage)
    }

    /// The namespace in which everything is lost.
    pub(super) fn lossy(&self) -> &str {
        &self.names[1]
    }

    /// Starts a sender.
    pub(super) fn send(&self, length: Duration) -> Result<Sender> {
        let mut command = in_namespace(&self.names[0])?;
        command.args(["traffic", "send", &length.as_secs().to_string()]).stdout(Stdio::piped());
        Ok(Sender(Some(command.spawn().context("a sender")?)))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(unread) = &mut self.unread {
            let _ = unread.kill();
            let _ = unread.wait();
        }
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

/// A sender at work; ended when dropped.
pub(super) struct Sender(Option<Child>);

impl Sender {
    /// Whether it still sends.
    pub(super) fn sends(&mut self) -> Result<bool> {
        let child = self.0.as_mut().context("a sender")?;
        Ok(child.try_wait()?.is_none())
    }

    /// How many packets it sent; waits for its end.
    pub(super) fn sent(mut self) -> Result<u64> {
        let child = self.0.take().context("a sender")?;
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().with_context(|| format!("the sender answered {text:?}"))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// This program, in that namespace.
pub(crate) fn in_namespace(name: &str) -> Result<Command> {
    let this = std::env::current_exe().context("the own program")?;
    let mut command = Command::new("ip");
    command.args(["netns", "exec", name]).arg(this);
    Ok(command)
}

/// The parts of the play, each a process in a namespace: `traffic PART`.
pub(crate) fn play(_root: &Path, arguments: &[String]) -> Result<()> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["hold"] => hold(),
        ["fill"] => fill(),
        ["nobodys"] => crate::churn::nobodys(),
        ["send", seconds] => send(Duration::from_secs(seconds.parse().context("seconds")?)),
        _ => bail!("traffic takes `hold`, `fill`, `nobodys` or `send SECONDS`"),
    }
}

/// Binds the socket that nobody reads, until the end of this process.
fn hold() -> Result<()> {
    let _held = UdpSocket::bind(UNREAD).context("the socket that nobody reads")?;
    println!("bound");
    loop {
        thread::park();
    }
}

/// Fills its buffer: far more than the largest default holds.
fn fill() -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("a socket")?;
    for _ in 0..20_000 {
        socket.send_to(&DATAGRAM, UNREAD)?;
    }
    Ok(())
}

const DATAGRAM: [u8; 200] = [0; 200];

/// Sends, and prints how many packets that were.
fn send(length: Duration) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("a socket")?;
    let refused: SocketAddr = REFUSED.parse()?;
    let start = Instant::now();
    let (mut sent, mut rounds) = (0_u64, 0_u64);
    while start.elapsed() < length {
        rounds += 1;
        for (at, (_, target)) in TARGETS.iter().enumerate() {
            let bursts = rounds.is_multiple_of(BURST_EVERY)
                && at as u64 == rounds / BURST_EVERY % TARGETS.len() as u64;
            for _ in 0..if bursts { BURST } else { EACH } {
                // An error is a datagram that was not sent.
                sent += u64::from(socket.send_to(&DATAGRAM, target).is_ok());
            }
        }
        match TcpStream::connect_timeout(&refused, Duration::from_secs(30)) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => sent += 1,
            other => bail!("a closed port answered {other:?}"),
        }
        thread::sleep(ROUND);
    }
    println!("{sent}");
    Ok(())
}
