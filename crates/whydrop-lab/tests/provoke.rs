//! Plays scenarios on the real kernel with nobody watching: do the counters in their namespaces move
//! as they claim, and stand still once the remedy is applied? Of those that have a rule it is one for
//! each topology: all of them are played, and held to their claims, with the real program watching.

use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;

use whydrop_lab::{Provoked, Runner, list, planned};

/// Scenarios mostly wait; this many side by side also shows that they do not disturb each other.
const SIDE_BY_SIDE: usize = 4;

const WITH_RULES: [&str; 4] =
    ["udp-port-closed", "reverse-path-strict", "ttl-expired", "bridge-port-locked"];

#[test]
fn scenarios_do_what_they_claim() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let runner = Runner::new(PathBuf::from(env!("CARGO_BIN_EXE_whydrop-lab-standin"))).unwrap();
    let known = list().unwrap().into_iter().filter(|it| WITH_RULES.contains(&&*it.name));
    let infos = [known.collect(), planned().unwrap()].concat();
    assert!(infos.len() >= WITH_RULES.len());
    let both = infos
        .into_iter()
        .flat_map(|it| [Some((it.name.clone(), false)), it.remedy.then_some((it.name, true))]);
    let jobs: Vec<_> = both.flatten().collect();
    let jobs = Mutex::new(jobs);
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let Some((name, remedy)) = jobs.lock().unwrap().pop() else { break };
                    let wrongs = match runner.provoke(&name, remedy) {
                        Ok(Provoked { skipped: Some(why), .. }) => {
                            eprintln!("skipped: {name}: {why}");
                            Vec::new()
                        }
                        Ok(provoked) => provoked.failures,
                        Err(error) => vec![error.to_string()],
                    };
                    let told = wrongs.into_iter().map(|why| format!("{name}, {remedy}: {why}"));
                    wrong.lock().unwrap().extend(told);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
