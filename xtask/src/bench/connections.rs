//! Many TCP connections in a namespace, held until nobody wants them any more.
#![expect(clippy::print_stdout, reason = "it answers on its standard output")]

use std::io::{BufRead as _, BufReader, Read as _, stdin};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Sockets of one process: as many as it may open almost everywhere.
const PER_PROCESS: usize = 4000;

/// As many open files as are allowed without asking anybody.
const WITH_FILES: &str = "ulimit -n $(ulimit -Hn); exec \"$@\"";

/// A process that holds connections; dropped, it ends.
pub(super) struct Holder(Child);

/// So many sockets in this namespace, two for each connection.
pub(super) fn open(namespace: &str, sockets: usize) -> Result<Vec<Holder>> {
    let mut holders = Vec::new();
    for first in (0..sockets).step_by(PER_PROCESS) {
        let number = PER_PROCESS.min(sockets - first) / 2;
        holders.push(Holder::start(namespace, holders.len(), number)?);
    }
    for holder in &mut holders {
        holder.wait_until_ready()?;
    }
    Ok(holders)
}

impl Holder {
    /// Each has an address of its own.
    fn start(namespace: &str, index: usize, number: usize) -> Result<Self> {
        let this = std::env::current_exe().context("the own program")?;
        let child = Command::new("sh")
            .args(["-c", WITH_FILES, "sh", "ip", "netns", "exec", namespace])
            .arg(this)
            .args(["connections", &number.to_string(), &(index + 1).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a shell")?;
        Ok(Self(child))
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let mut line = String::new();
        let answer = self.0.stdout.take().context("it says nothing")?;
        BufReader::new(answer).read_line(&mut line)?;
        if line != "ready\n" {
            bail!("the sockets could not be opened");
        }
        Ok(())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends with its standard input.
        let _ = self.0.wait();
    }
}

/// The process itself: `connections NUMBER HOST`, to the address 127.0.0.HOST. Says "ready" and holds
/// them until its input ends.
pub(crate) fn play(_root: &Path, arguments: &[String]) -> Result<()> {
    let [number, host] = arguments else { bail!("connections takes their number and a host") };
    let number: usize = number.parse().context("a number")?;
    let address = (Ipv4Addr::new(127, 0, 0, host.parse().context("a host")?), 80);
    let listener = TcpListener::bind(address).context("a listener")?;
    let mut held = Vec::with_capacity(number);
    for _ in 0..number {
        let client = TcpStream::connect(address).context("a connection")?;
        held.push((client, listener.accept().context("a connection")?.0));
    }
    println!("ready");
    let _ = stdin().read(&mut [0])?;
    Ok(())
}
