//! Plays the part of the program in this crate's tests: the real one is built on this crate.
//!
//! `lab-actor` is the real thing. `run NAME` plays a scenario, for tests that kill it, or
//! `run NAME PROGRAM` with the real program, for people who write rules; `provoke NAME`
//! plays one with nobody watching and prints what moved, for people who write one. `diagnose`
//! knows one cause and reports it truthfully, or with the one flaw that its own name (`argv[0]`)
//! asks for.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs, io, thread};

use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;
use whydrop_lab::{Job, Runner, actor_main};
use whydrop_model::{
    Attach, Class, Confidence, EvidenceItem, EvidenceKind, EvidenceValue, Finding, HostFacts,
    Ledger, LedgerEntry, NetnsRef, ProcessRef, REPORT_SCHEMA, Remedy, Report, ReportWindow,
    Severity, Site, TracerFacts, Verdict,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    let own = arguments.next().unwrap_or_default();
    let flaw = Path::new(&own).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    let done = match command.to_str() {
        Some("lab-actor") => return actor_main(&rest),
        Some("run") => run(&rest),
        Some("provoke") => provoke(&rest),
        Some("diagnose") => diagnose(flaw, &rest),
        _ => Err("no such command".into()),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(2)
        }
    }
}

/// Plays a scenario, planned or not, with itself as the program, or with another.
fn run(arguments: &[OsString]) -> Outcome<u8> {
    let (name, program) = match arguments {
        [name] => (name, env::current_exe()?),
        [name, program] => (name, program.into()),
        _ => return Err("run NAME [PROGRAM]".into()),
    };
    let name = name.to_str().ok_or("a name is text")?;
    let outcome = Runner::new(program)?.run(&Job::one(name))?;
    serde_json::to_writer(io::stdout(), &outcome)?;
    Ok(0)
}

/// Plays a scenario with nobody watching, and prints what moved.
fn provoke(arguments: &[OsString]) -> Outcome<u8> {
    let (name, remedy) = match arguments {
        [name] => (name, false),
        [name, option] if option == "--remedy" => (name, true),
        _ => return Err("provoke NAME [--remedy]".into()),
    };
    let name = name.to_str().ok_or("a name is text")?;
    let provoked = Runner::new(env::current_exe()?)?.provoke(name, remedy)?;
    serde_json::to_writer(io::stdout(), &provoked)?;
    Ok(u8::from(!provoked.failures.is_empty()))
}

fn diagnose(flaw: &str, arguments: &[OsString]) -> Outcome<u8> {
    let mut signals = Signals::new([SIGINT])?;
    let after = |option: &str| {
        let values = arguments.windows(2).filter(move |pair| pair[0] == option);
        values.filter_map(|pair| pair[1].to_str()).collect::<Vec<_>>()
    };
    let namespaces = after("--netns");
    let [_, server] = namespaces[..] else { return Err("two namespaces are expected".into()) };
    let before = overflows(server)?;
    if flaw == "ends-early" {
        return Err("no such kernel".into());
    }
    for path in after("--ready-file") {
        fs::write(path, "")?;
    }
    signals.forever().next();
    if flaw == "deaf" {
        thread::park();
    }
    let report = report(flaw, server, overflows(server)? - before)?;
    if flaw == "garbage" {
        writeln!(io::stdout(), "all is well")?;
        return Ok(0);
    }
    serde_json::to_writer(io::stdout(), &report)?;
    let fault = report.findings.iter().any(|finding| finding.class == Class::Fault);
    Ok(u8::from(fault != (flaw == "wrong-exit")))
}

/// `TcpExt.ListenOverflows` of a namespace.
fn overflows(netns: &str) -> Outcome<u64> {
    let text = inside(netns, "netstat")?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().ok_or("names")?, lines.next().ok_or("values")?);
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs.find(|(name, _)| *name == "ListenOverflows").ok_or("no counter")?;
    Ok(value.parse()?)
}

/// The first listening socket of a namespace, as `tcp ADDRESS:PORT`.
fn listener(netns: &str) -> Outcome<String> {
    let text = inside(netns, "tcp")?;
    let mut rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(3) == Some(&"0A")).ok_or("nobody listens")?;
    let (address, port) = row[1].split_once(':').ok_or("address")?;
    let address = u32::from_str_radix(address, 16)?.to_ne_bytes();
    let port = u16::from_str_radix(port, 16)?;
    Ok(format!("tcp {}:{port}", std::net::Ipv4Addr::from(address)))
}

fn inside(netns: &str, table: &str) -> Outcome<String> {
    let table = format!("/proc/net/{table}");
    let output = Command::new("ip").args(["netns", "exec", netns, "cat", &table]).output()?;
    Ok(String::from_utf8(output.stdout)?)
}

/// The process called `lab-server` that lives in a namespace.
fn server_process(netns: &str) -> Outcome<ProcessRef> {
    let pids = Command::new("ip").args(["netns", "pids", netns]).output()?;
    for pid in String::from_utf8(pids.stdout)?.lines() {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"))?.trim().to_owned();
        if comm == "lab-server" {
            return Ok(ProcessRef { pid: pid.parse()?, comm });
        }
    }
    Err("there is no server".into())
}

fn report(flaw: &str, netns: &str, overflows: u64) -> Outcome<Report> {
    let inode = fs::metadata(format!("/run/netns/{netns}"));
    let inode = std::os::unix::fs::MetadataExt::ino(&inode?);
    let mut site = Site {
        netns: Some(NetnsRef { inode: Some(inode), name: Some(netns.to_owned()) }),
        socket: Some(listener(netns)?),
        process: Some(server_process(netns)?),
        ..Site::default()
    };
    let mut finding = finding(overflows);
    let mut ledger = Ledger { lost: overflows, explained: overflows, ..Ledger::default() };
    match (flaw, &mut site.process) {
        ("wrong-pid", Some(process)) => process.pid += 1,
        ("wrong-cause", _) => finding.cause = "syn-queue-full".into(),
        ("wrong-count", _) => finding.packets += 1,
        _ => {}
    }
    finding.site = site;
    ledger.entries = vec![LedgerEntry {
        cause: finding.cause.clone(),
        packets: ledger.lost,
        noise: false,
        traced: 0,
        counted: overflows,
        site: finding.site.clone(),
    }];
    let mut findings = vec![finding];
    if overflows == 0 {
        findings.clear();
        ledger = Ledger::default();
    }
    Ok(Report {
        schema: REPORT_SCHEMA.into(),
        host: HostFacts { kernel: "6".into(), hostname: "standin".into(), cpus: 1 },
        window: ReportWindow { start: "2026-01-01T00:00:00Z".into(), seconds: 1.0 },
        verdict: if overflows > 0 { Verdict::Loss } else { Verdict::Clean },
        findings,
        ledger,
        tracer: TracerFacts { attach: Attach::None, events: 0, sampled: 0, lost: 0 },
        not_checked: Vec::new(),
        layers: Vec::new(),
    })
}

fn finding(packets: u64) -> Finding {
    Finding {
        cause: "accept-queue-full".into(),
        variant: Some("app-backlog".into()),
        class: Class::Fault,
        layer: "tcp-listen".into(),
        severity: Severity::Critical,
        confidence: Confidence::Confirmed,
        packets,
        site: Site::default(),
        summary: "the accept queue is full".into(),
        evidence: vec![EvidenceItem {
            kind: EvidenceKind::Counter,
            name: "TcpExt.ListenOverflows".into(),
            value: EvidenceValue::Number(packets.cast_signed()),
        }],
        remedies: vec![Remedy {
            summary: "a larger backlog".into(),
            commands: Vec::new(),
            useless: Vec::new(),
        }],
        follows: None,
    }
}
