//! `whydrop top`: the screen to leave open during an incident.
//!
//! One thread observes and diagnoses lap after lap, and reads the kernel's debug information for a
//! stack that is looked at; this one draws and listens to keys, so that the screen answers at once
//! whatever the host is busy with.

use std::collections::BTreeMap;
use std::env;
use std::io::{IsTerminal as _, stdin, stdout};
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TryRecvError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use rustix::process::{Signal, getpid, kill_process};
use whydrop_diagnose::{Thresholds, diagnose, knowledge};
use whydrop_model::{Evidence, Frame};
use whydrop_top::{Flow, Lap, Looks, Screen};

use crate::cli::Top;
use crate::laps::{Laps, Waited};
use crate::observe::{TICK, announce};
use crate::privilege::{Part, Privileges};
use crate::signals::{Bell, Ended, pause};
use crate::{config, failure};

/// Runs the command.
pub(crate) fn run(options: &Top) -> anyhow::Result<ExitCode> {
    if !(stdout().is_terminal() && stdin().is_terminal()) {
        bail!("top needs a terminal: `whydrop diagnose` reports without one");
    }
    let ended = Ended::listen_in_terminal()?;
    let thresholds = config::read(options.observe.config.as_deref())?.thresholds;
    let privileges = Privileges::reduce(Part::Everything, options.observe.ready_file.as_deref());
    let laps = Laps::start(&options.observe, options.interval, &privileges)?;
    if let Some(path) = &options.observe.ready_file {
        announce(path)?;
    }
    let (tell, told) = mpsc::sync_channel(2);
    let (ask, asked) = mpsc::channel::<Vec<Frame>>();
    let bells = Bells { told: Bell::new()?, asked: Bell::new()? };
    let observer = Observer { laps, thresholds, tell, asked, bells: bells.clone() };
    let observer = thread::Builder::new()
        .name("whydrop-laps".into())
        .spawn(|| observer.run())
        .context("cannot start the thread that observes")?;
    // From here on the terminal is another's; it is given back also when something panics.
    let mut terminal = ratatui::try_init().context("cannot use this terminal")?;
    let shown = show(&mut terminal, &told, &ask, &bells, &ended);
    let restored = ratatui::try_restore().context("cannot give the terminal back");
    drop((told, ask));
    bells.asked.ring();
    observer.join().map_err(|_| anyhow!("the thread that observes panicked; please report it"))?;
    shown.and(restored).map(|()| failure::CLEAN)
}

/// Rung when there is something to read: told to the one who draws, asked of the one who observes.
#[derive(Clone)]
struct Bells {
    told: Bell,
    asked: Bell,
}

/// What the observing thread has to say.
enum Told {
    Lap(Box<Lap>),
    /// For so long, since then, nothing happened.
    Quiet(Duration),
    Lines(Vec<Frame>),
}

/// The thread that observes.
struct Observer {
    laps: Laps,
    thresholds: Thresholds,
    tell: SyncSender<anyhow::Result<Told>>,
    asked: Receiver<Vec<Frame>>,
    bells: Bells,
}

impl Observer {
    /// Until nobody looks any more, or something fails, which is told.
    fn run(mut self) {
        while self.go_on().is_continue() {}
    }

    fn go_on(&mut self) -> ControlFlow<()> {
        match self.laps.wait(&self.bells.asked) {
            Waited::Not => {}
            Waited::Quietly(length) => self.say(Ok(Told::Quiet(length)))?,
            Waited::Over => {
                let lap = self.laps.lap();
                let lap = lap.map(|(evidence, quiet)| lap_of(evidence, quiet, &self.thresholds));
                if let Ok(Lap { report, .. }) = &lap {
                    self.laps.note_restful(report.ledger.lost == 0);
                }
                self.say(lap.map(|lap| Told::Lap(Box::new(lap))))?;
            }
        }
        self.bells.asked.hush();
        loop {
            match self.asked.try_recv() {
                Ok(mut stack) => {
                    self.laps.annotate(&mut stack);
                    self.say(Ok(Told::Lines(stack)))?;
                }
                Err(TryRecvError::Empty) => return ControlFlow::Continue(()),
                Err(TryRecvError::Disconnected) => return ControlFlow::Break(()),
            }
        }
    }

    /// Nothing comes after an error.
    fn say(&self, news: anyhow::Result<Told>) -> ControlFlow<()> {
        let failed = news.is_err();
        let heard = self.tell.send(news).is_ok();
        self.bells.told.ring();
        if heard && !failed { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// Draws until a key or a signal says that it is enough.
fn show(
    terminal: &mut DefaultTerminal,
    told: &Receiver<anyhow::Result<Told>>,
    ask: &Sender<Vec<Frame>>,
    bells: &Bells,
    ended: &Ended,
) -> anyhow::Result<()> {
    let mut screen = Screen::new(looks(), explanation);
    let keys = stdin();
    let pressed = || event::poll(Duration::ZERO).context("cannot read keys");
    // From the first time on that it is asked, it hears of changes of size.
    pressed()?;
    let mut changed = true;
    while !ended.yet() {
        bells.told.hush();
        loop {
            match told.try_recv() {
                Ok(told) => match told? {
                    Told::Lap(lap) => screen.take(*lap),
                    Told::Quiet(length) => screen.rest(length),
                    Told::Lines(stack) => screen.learn(stack),
                },
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => bail!("the observation ended early"),
            }
            changed = true;
        }
        if changed {
            terminal.draw(|frame| screen.draw(frame)).context("cannot draw")?;
        }
        if let Some(stack) = screen.asks_for() {
            // One that has ended says so itself.
            let _ = ask.send(stack);
            bells.asked.ring();
        }
        // crossterm cannot wait for a bell as well, and reads for ever from a terminal that is gone.
        if !pause(TICK, &[keys.as_fd(), bells.told.as_fd()]) {
            // One that does not control this process ends without this signal.
            kill_process(getpid(), Signal::HUP).context("the terminal is gone")?;
        }
        changed = false;
        while pressed()? {
            let event = event::read().context("cannot read keys")?;
            if let Event::Key(key) = event
                && screen.key(key) == Flow::Quit
            {
                return Ok(());
            }
            changed = true;
        }
    }
    Ok(())
}

fn lap_of(evidence: Evidence, quiet: Duration, thresholds: &Thresholds) -> Lap {
    let report = diagnose(&evidence, thresholds);
    let named = |namespace: &whydrop_model::Namespace| {
        let own = namespace.own.then(|| "this host".to_owned());
        Some((namespace.inode, namespace.name.clone().or(own)?))
    };
    let namespaces: BTreeMap<u64, String> = evidence.namespaces.iter().filter_map(named).collect();
    let tracer = evidence.tracer;
    Lap { report, totals: tracer.totals, exemplars: tracer.exemplars, namespaces, quiet }
}

/// What is known under a name.
fn explanation(name: &str) -> Option<String> {
    let page = knowledge::find(name)?;
    Some(format!("{}: {}\n\n{}", page.name, page.meaning, page.body))
}

fn looks() -> Looks {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    // As the C library chooses: the first that is set decides.
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let locale = locale.to_string_lossy().to_ascii_uppercase();
    let plain = set("TERM").is_some_and(|terminal| terminal == "dumb" || terminal == "vt100");
    Looks {
        colour: set("NO_COLOR").is_none() && !plain,
        unicode: locale.contains("UTF-8") || locale.contains("UTF8"),
    }
}
