//! Plays every scenario on the real kernel with nobody watching: do the counters in its namespaces
//! move as it claims, and stand still once its remedy is applied?

use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;

use whydrop_lab::{Provoked, Runner, list, planned};

/// Scenarios mostly wait; this many side by side also shows that they do not disturb each other.
const SIDE_BY_SIDE: usize = 4;

#[test]
fn every_scenario_does_what_it_claims() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let runner = Runner::new(PathBuf::from(env!("CARGO_BIN_EXE_whydrop-lab-standin"))).unwrap();
    let infos = [list().unwrap(), planned().unwrap()].concat();
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
