//! Every scenario of the lab, diagnosed by the real program: right cause, right variant, right place,
//! right count, nothing unexplained; and clean once its remedy is applied.

use crate::program::{needs_root, whydrop};

#[test]
fn every_scenario_is_right_and_its_remedy_cures_it() {
    if needs_root() {
        return;
    }
    let run = whydrop(&["lab", "run", "--all", "--remedy"]);
    assert_eq!(run.status, Some(0), "{}\n{}", run.stdout, run.stderr);
}
