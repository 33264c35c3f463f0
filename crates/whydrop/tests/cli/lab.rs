//! The lab, diagnosed by the real program: right cause, right variant, right place, right count,
//! nothing unexplained; clean once the remedy is applied; and several causes at once kept apart.

use std::collections::BTreeSet;
use std::env;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value;
use whydrop_lab::{Job, Runner, list, pairs, usual_width, write_table};

use crate::program::{WITH_TRACEFS, needs_root, path, under, whydrop};

/// Pairs that are drawn. Each takes as long as one scenario.
const PAIRS: usize = 50;
/// How often healthy workloads are played.
const TEN: usize = 10;
/// Nothing is wrong with the host either; what they find is about peers that were too slow.
const TIMEOUTS: [&str; 1] = ["udp-late-reply"];
/// A number that draws other pairs, set in the environment: each run of a release is worth a new one.
const SEED: &str = "WHYDROP_LAB_SEED";
/// The one that is taken otherwise, so that a change is blamed for what it did and not for the draw.
const USUAL_SEED: u64 = 1_622_332_206;

#[test]
fn every_scenario_is_right_and_its_remedy_cures_it() {
    if needs_root() {
        return;
    }
    let run = whydrop(&["lab", "run", "--all", "--remedy"]);
    assert_eq!(run.status, Some(0), "{}\n{}", run.stdout, run.stderr);
}

#[test]
fn a_cause_stands_for_its_scenarios() {
    const CAUSE: &str = "socket-filter-drop";
    if needs_root() {
        return;
    }
    let scenarios = list().expect("scenarios");
    let of_cause = scenarios.iter().filter(|one| one.cause.as_deref() == Some(CAUSE));
    let names: BTreeSet<_> = of_cause.map(|one| one.name.as_str()).collect();
    let run = whydrop(&["lab", "run", CAUSE, "--format", "json"]);
    assert_eq!(run.status, Some(0), "{}\n{}", run.stdout, run.stderr);
    let played: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let played = played["outcomes"].as_array().expect("outcomes").iter();
    assert_eq!(played.filter_map(|one| one["name"].as_str()).collect::<BTreeSet<_>>(), names);
    assert!(names.len() > 1 && !names.contains(CAUSE), "{names:?}");
}

#[test]
fn every_way_to_attach_tells_the_same() {
    if needs_root() {
        return;
    }
    for kind in ["tp_btf", "raw_tp", "tp"] {
        let run = under(&WITH_TRACEFS, &["lab", "run", "udp-port-closed", "--attach", kind]);
        assert_eq!(run.status, Some(0), "{kind}: {}\n{}", run.stdout, run.stderr);
    }
    let run = whydrop(&["lab", "run", "udp-port-closed", "--attach", "kprobe"]);
    assert_eq!(run.status, Some(2));
    assert!(run.stderr.contains("one of tp_btf, raw_tp, tp"), "{}", run.stderr);
}

#[test]
fn any_two_scenarios_under_one_diagnosis_are_kept_apart() {
    if needs_root() {
        return;
    }
    let seed = env::var(SEED).map_or(USUAL_SEED, |text| text.parse().expect("a number"));
    writeln!(std::io::stderr(), "{SEED}={seed}").expect("told");
    right(&pairs(PAIRS, seed).expect("scenarios"));
}

#[test]
fn nothing_is_wrong_with_healthy_workloads_ten_times_over() {
    if needs_root() {
        return;
    }
    let healthy = list().expect("scenarios").into_iter().filter(|info| info.healthy);
    let healthy = healthy.map(|info| info.name).chain(TIMEOUTS.map(String::from));
    right(&vec![healthy.map(Job::one).collect::<Vec<_>>(); TEN].concat());
}

fn right(jobs: &[Job]) {
    let runner = Runner::new(path().into()).expect("a runner");
    let outcomes = runner.run_all(jobs, usual_width(), &mut |_| {}).expect("played");
    let wrong: Vec<_> = outcomes.into_iter().filter(whydrop_lab::Outcome::is_wrong).collect();
    let mut told = Vec::new();
    write_table(&wrong, 0.0, &mut told).expect("written");
    assert!(wrong.is_empty(), "{}", String::from_utf8_lossy(&told));
}

#[test]
fn a_shell_has_the_scenario_around_it_and_gives_its_own_exit_status() {
    if needs_root() {
        return;
    }
    // Until the server's namespace has lost something: the traffic really comes.
    let script = "echo \"$LAB_A $LAB_B\"; until whydrop sockets --netns $LAB_B --duration 0.2 \
                  | grep LOSES; do :; done; exit 7";
    let scenario = "udp-receive-buffer-stopped";
    let shell = whydrop(&["lab", "shell", scenario, "--", "timeout", "60", "sh", "-c", script]);
    assert_eq!(shell.status, Some(7), "{shell:?}");
    let names: Vec<_> = shell.stdout.lines().next().unwrap_or_default().split(' ').collect();
    assert!(names.len() == 2 && shell.stderr.contains(names[1]), "{shell:?}");
    for name in names {
        assert!(!Path::new("/run/netns").join(name).exists(), "{name} is still there");
    }
    let unknown = whydrop(&["lab", "shell", "no-such-scenario", "--", "true"]);
    assert_eq!((unknown.status, unknown.stderr.lines().count()), (Some(2), 1), "{unknown:?}");
    let missing = whydrop(&["lab", "shell", scenario, "--", "/no/such/program"]);
    assert_eq!((missing.status, missing.stderr.lines().last().is_some()), (Some(2), true));
    assert!(missing.stderr.contains("/no/such/program"), "{missing:?}");
}
