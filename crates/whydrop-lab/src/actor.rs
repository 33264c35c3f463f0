//! The inside of a lab process: enters its namespace, plays one part, and says on standard output
//! how it went.
//!
//! An actor dies with its runner, however that ends. It knows nothing of scenarios or diagnoses.

use std::ffi::{CString, OsString};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use std::{hint, thread};

use rustix::process::{Resource, Rlimit, Signal};
use rustix::time::{ClockId, clock_gettime};
use socket2::Socket;

use crate::netns::enter;
use crate::part::{ActorSpec, Message, Part, Play, Tally};

mod clients;
mod containers;
mod conversation;
mod crafted;
mod ether;
mod frame;
mod http;
mod idle_socket;
mod macvtap;
mod options;
mod ping;
mod segment;
mod server;
mod track;
mod tun;
mod tun_ioctl;
mod udp;

/// Plays the part that `arguments` (one JSON document, made by the runner) describes. This is what
/// the hidden command `lab-actor` does.
///
/// Must be called before the process starts a thread: only the calling one enters the namespace.
/// Gives 0 when the part is over, 2 if it could not be played.
pub fn actor_main(arguments: &[OsString]) -> ExitCode {
    match play(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If nobody listens any more, the exit status is all that is left to say.
            let _ = say(&Message::Failed(error.to_string()));
            ExitCode::from(2)
        }
    }
}

fn play(arguments: &[OsString]) -> io::Result<()> {
    let [spec] = arguments else {
        return Err(io::Error::other("an actor takes one argument, made by the runner"));
    };
    let spec: ActorSpec = serde_json::from_slice(spec.as_encoded_bytes())?;
    die_with(spec.runner)?;
    rustix::thread::set_name(&CString::new(spec.comm)?)?;
    if let Some(group) = &spec.cgroup {
        std::fs::write(group.join("cgroup.procs"), "0")?;
    }
    if let Some(netns) = &spec.netns {
        enter(netns)?;
    }
    allow_many_files()?;
    let (tally, open) = match &spec.part {
        Part::Serve { address, serve } => return server::serve(*address, serve),
        Part::Receive { address, receive } => return udp::receive(*address, receive),
        Part::ReadTun(plan) => return tun::read(plan),
        Part::Hear(plan) => return idle_socket::hold(plan),
        Part::Become { program, arguments } => {
            // The signal at the runner's death stays set across this.
            return Err(Command::new(program).args(arguments).exec());
        }
        Part::Play { to, play } => traffic(*to, play)?,
    };
    say(&Message::Done(tally))?;
    while !open.is_empty() {
        thread::park();
    }
    Ok(())
}

/// Makes traffic, and gives the connections that must outlive it.
fn traffic(to: Option<SocketAddr>, play: &Play) -> io::Result<(Tally, Vec<Socket>)> {
    let to = || to.ok_or_else(|| io::Error::other("this traffic needs somebody to talk to"));
    let tally = match play {
        Play::Idle(idle) => clients::idle(idle),
        Play::Frames(frames) => ether::send(frames)?,
        Play::ConnectBurst(burst) => return clients::connect_burst(to()?, burst),
        Play::HttpShort(http) => http::short(to()?, http),
        Play::HttpKeepAlive(http) => http::keep_alive(to()?, http),
        Play::HttpAbort(abort) => http::abort(to()?, abort),
        Play::Bulk(bulk) => clients::bulk(to()?, bulk)?,
        Play::Handshakes(shakes) => crafted::handshakes(to()?, shakes)?,
        Play::SynFlood(flood) => crafted::syn_flood(to()?, flood)?,
        Play::Conversation(plan) => conversation::converse(to()?, plan)?,
        Play::TcpConnect(connect) => clients::tcp_connect(to()?, connect),
        Play::UdpSend(send) => udp::send(to()?, send)?,
        Play::UdpRequest(request) => udp::request(to()?, request)?,
        Play::Capture(capture) => ether::capture(capture)?,
        Play::Containers(containers) => containers::come_and_go(containers)?,
        Play::Ping(ping) => ping::ping(to()?, ping)?,
        Play::TunWrite(plan) => tun::write(plan)?,
        Play::TrackFlows(flows) => track::fill(flows)?,
    };
    Ok((tally, Vec::new()))
}

fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}

/// Uses up this much CPU time, however long it takes to get it.
fn work(micros: u64) {
    let spent = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::from_secs(now.tv_sec.cast_unsigned())
            + Duration::from_nanos(now.tv_nsec.cast_unsigned())
    };
    let until = spent() + Duration::from_micros(micros);
    while micros > 0 && spent() < until {
        hint::spin_loop();
    }
}

/// Makes the kernel kill this process when the runner's thread that started it ends.
fn die_with(runner: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before the line above took effect.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    if parent == Some(runner) { Ok(()) } else { Err(io::Error::other("the runner is gone")) }
}

/// Raises the soft limit of open files to the hard one.
fn allow_many_files() -> io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    Ok(rustix::process::setrlimit(Resource::Nofile, raised)?)
}

/// Tells the runner.
fn say(message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}
