//! `cargo xtask churn`: namespaces, devices, sockets and processes that vanish while they are read.
//!
//! Two hundred namespaces a minute are made, lose packets and are deleted while one window of
//! `diagnose` is open over the whole host. It must end well, hold none of them, and have counted
//! every packet that was sent.
#![expect(clippy::print_stdout, reason = "a task talks to its terminal")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use crate::command;
use crate::debian::Tool;
use crate::soak::turns::{observing, within};
use crate::soak::{in_namespace, minutes, program};

const TOOLS: &[Tool] =
    &[Tool { program: "ip", package: "iproute2", purpose: "namespaces that come and go" }];

const A_MINUTE: u64 = 200;
/// Patience with the report: of a thousand namespaces, by a build that was not optimised, at times on
/// a busy machine.
const REPORT: Duration = Duration::from_secs(600);
/// Packets that each namespace loses.
const PACKETS: u64 = 25;
/// A protocol for experiments (RFC 3692), which nobody serves: packets of it are lost for a reason
/// that is rare elsewhere.
const NOBODYS: u8 = 253;
const REASON: &str = "IP_NOPROTO";

/// Runs the task.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let minutes = minutes(arguments, 5)?;
    let program = program(root, TOOLS)?;
    let folder = std::env::temp_dir().join(format!("whydrop-churn-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let result = churn(&program, &folder, minutes);
    fs::remove_dir_all(&folder)?;
    result
}

fn churn(program: &Path, folder: &Path, minutes: u64) -> Result<()> {
    let (mut child, saved) = observing(program, &[], folder)?;
    let began = Instant::now();
    let mut made = 0;
    while made < A_MINUTE * minutes {
        one(made)?;
        made += 1;
        let due = Duration::from_secs(60) * made as u32 / A_MINUTE as u32;
        // Looks come every tenth of a second: in step with them all would be seen, or none.
        let out_of_step = Duration::from_millis(made * 37 % 100);
        thread::sleep((due + out_of_step).saturating_sub(began.elapsed()));
    }
    let seconds = began.elapsed().as_secs_f64();
    command::output(Command::new("kill").args(["-INT", &child.0.id().to_string()]))?;
    let asked = Instant::now();
    within(REPORT, "the report", || Ok(child.0.try_wait()?.is_some()))?;
    let reported = asked.elapsed().as_secs_f64();
    let status = child.0.wait()?;
    if !matches!(status.code(), Some(0 | 1)) {
        bail!("the diagnosis ended with {status}");
    }
    let text = command::output(Command::new("zcat").arg(&saved))?;
    let evidence: serde_json::Value = serde_json::from_str(&text).context("the evidence")?;
    let seen = evidence["namespaces"].as_array().map_or(0, |all| {
        let ours = |one: &&serde_json::Value| {
            one["name"].as_str().is_some_and(|name| name.starts_with(&prefix()))
        };
        all.iter().filter(ours).count()
    });
    let totals = evidence["tracer"]["totals"].as_array().context("totals")?;
    let counted: u64 = totals
        .iter()
        // Others may lose packets for the same reason, but not of this protocol.
        .filter(|total| total["reason"] == REASON && total["l4"] == NOBODYS)
        .filter_map(|total| total["packets"].as_u64())
        .sum();
    let sent = made * PACKETS;
    println!(
        "{made} namespaces in {seconds:.0} s, {seen} of them seen while they lived; {sent} packets sent, \
         {counted} counted; report after {reported:.1} s"
    );
    if counted != sent {
        bail!("{sent} packets were sent and {counted} counted as {REASON}");
    }
    Ok(())
}

fn prefix() -> String {
    format!("whydrop-churn-{}-", std::process::id())
}

/// A namespace with a pair of devices and a process that loses packets.
fn one(number: u64) -> Result<()> {
    let name = format!("{}{number}", prefix());
    let ip = |line: &str| command::output(Command::new("ip").args(line.split(' ')));
    ip(&format!("netns add {name}"))?;
    let lived = (|| {
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("-n {name} link add v0 type veth peer name v1"))?;
        command::output(in_namespace(&name)?.args(["traffic", "nobodys"]))
    })();
    ip(&format!("netns delete {name}"))?;
    lived.map(drop)
}

/// Sends what nobody serves, over loopback: `traffic nobodys`.
pub(crate) fn nobodys() -> Result<()> {
    // A socket of that very protocol would be served: the header is made by hand.
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
    let mut packet = [0_u8; 28];
    packet[0] = 0x45;
    packet[8] = 64;
    packet[9] = NOBODYS;
    packet[12..16].copy_from_slice(&[127, 0, 0, 1]);
    packet[16..20].copy_from_slice(&[127, 0, 0, 1]);
    let target = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    for _ in 0..PACKETS {
        socket.send_to(&packet, &target.into()).context("a packet that nobody serves")?;
    }
    Ok(())
}
