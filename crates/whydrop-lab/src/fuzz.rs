//! What a fuzzer calls, and the test that replays what it kept. Not in any other build.

use crate::scenario::Scenario;

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

/// The file of a scenario.
///
/// # Panics
///
/// If a scenario that passes its checks cannot be planned.
pub fn scenario(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(scenario) = Scenario::parse("fuzz", text) else { return };
    for traffic in &scenario.traffic {
        let reached = scenario.target(traffic);
        assert!(reached.is_some() || traffic.to.is_none(), "{:?} is no server", traffic.to);
    }
    scenario.all_needs().expect("lines that are well-formed");
    let _ = (scenario.acts(), scenario.watched(), scenario.pulse(), scenario.verdict());
    if scenario.remedy.is_some() {
        let remedied = scenario.remedied().expect("a remedy");
        if remedied.check().is_ok() {
            assert_eq!(remedied.exit(), 0);
        }
    }
}

#[test]
fn what_a_fuzzer_kept_passes() {
    replay::corpus("scenario", scenario);
}
