//! `whydrop top`: the screen to leave open during an incident.
//!
//! One thread observes and diagnoses lap after lap, and reads the kernel's debug information for a
//! stack that is looked at; this one draws and listens to keys, so that the screen answers at once
//! whatever the host is busy with.

use std::collections::BTreeMap;
use std::env;
use std::io::{IsTerminal as _, stdin, stdout};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use whydrop_diagnose::{Thresholds, diagnose, knowledge};
use whydrop_model::{Evidence, Frame};
use whydrop_top::{Flow, Lap, Looks, Screen};

use crate::cli::Top;
use crate::laps::{Laps, Waited};
use crate::observe::{TICK, announce};
use crate::privilege::{Part, Privileges};
use crate::signals::Ended;
use crate::{config, failure};

/// Runs the command.
pub(crate) fn run(options: &Top) -> anyhow::Result<ExitCode> {
    if !(stdout().is_terminal() && stdin().is_terminal()) {
        bail!("top needs a terminal: `whydrop diagnose` reports without one");
    }
    let ended = Ended::listen()?;
    let thresholds = config::read(options.observe.config.as_deref())?.thresholds;
    let privileges = Privileges::reduce(Part::Everything, options.observe.ready_file.as_deref());
    let mut laps = Laps::start(&options.observe, options.interval, &privileges)?;
    if let Some(path) = &options.observe.ready_file {
        announce(path)?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (tell, told) = mpsc::sync_channel(2);
    let (ask, asked) = mpsc::channel::<Vec<Frame>>();
    let stopped = Arc::clone(&stop);
    let observer = thread::Builder::new()
        .name("whydrop-laps".into())
        .spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let news = match laps.wait(TICK) {
                    Waited::Not => None,
                    Waited::Quietly(length) => Some(Ok(Told::Quiet(length))),
                    Waited::Over => Some(laps.lap().map(|(evidence, quiet)| {
                        let lap = lap(evidence, quiet, &thresholds);
                        let ledger = &lap.report.ledger;
                        laps.note_restful(ledger.lost == 0 && ledger.benign == 0);
                        Told::Lap(Box::new(lap))
                    })),
                };
                if let Some(news) = news {
                    let failed = news.is_err();
                    if tell.send(news).is_err() || failed {
                        return;
                    }
                }
                for mut stack in asked.try_iter() {
                    laps.annotate(&mut stack);
                    if tell.send(Ok(Told::Lines(stack))).is_err() {
                        return;
                    }
                }
            }
        })
        .context("cannot start the thread that observes")?;
    // From here on the terminal is another's; it is given back also when something panics.
    let mut terminal = ratatui::try_init().context("cannot use this terminal")?;
    let shown = show(&mut terminal, &told, &ask, &ended);
    ratatui::restore();
    stop.store(true, Ordering::Relaxed);
    drop(told);
    observer.join().map_err(|_| anyhow!("the thread that observes panicked; please report it"))?;
    shown.map(|()| failure::CLEAN)
}

/// What the observing thread has to say.
enum Told {
    Lap(Box<Lap>),
    /// For so long, since then, nothing happened.
    Quiet(Duration),
    Lines(Vec<Frame>),
}

/// Draws until a key or a signal says that it is enough.
fn show(
    terminal: &mut DefaultTerminal,
    told: &Receiver<anyhow::Result<Told>>,
    ask: &Sender<Vec<Frame>>,
    ended: &Ended,
) -> anyhow::Result<()> {
    let mut screen = Screen::new(looks(), explanation);
    let mut changed = true;
    while !ended.yet() {
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
        }
        changed = event::poll(TICK).context("cannot read keys")?;
        if changed
            && let Event::Key(key) = event::read().context("cannot read keys")?
            && screen.key(key) == Flow::Quit
        {
            break;
        }
    }
    Ok(())
}

fn lap(evidence: Evidence, quiet: Duration, thresholds: &Thresholds) -> Lap {
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
