//! SIGKILL after every step: whatever was done, `undo` brings everything back.

use std::os::unix::process::ExitStatusExt as _;

use whydrop_cure::State;

use crate::stage::Stage;

/// Kills a change after its first step, its second, and so on until it survives; gives the number of
/// steps.
fn walk(mode: &str) -> usize {
    let Some(stage) = Stage::set() else { return usize::MAX };
    let (settings, files) = (stage.settings(), stage.files());
    for steps in 1.. {
        let output = stage.changer(mode, steps, &[]);
        if output.status.success() {
            return steps - 1;
        }
        assert_eq!(output.status.signal(), Some(9), "{mode} after {steps}: {output:?}");
        let changes = stage.changes();
        for record in stage.journal().records().unwrap() {
            let (_, undone) = changes.undo(record.id, false, &mut |_| {}).unwrap();
            assert!(undone.left.is_empty(), "{mode} after {steps}: {undone:?}");
        }
        assert_eq!(stage.settings(), settings, "{mode} after {steps}");
        assert_eq!(stage.files(), files, "{mode} after {steps}");
        let open = stage.journal().records().unwrap().into_iter().find(|it| it.state.is_open());
        assert_eq!(open.map(|record| record.state), None::<State>, "{mode} after {steps}");
    }
    unreachable!("it never survived")
}

#[test]
fn while_it_is_made_and_kept() {
    // Journaled, two settings, applied, judged, one file.
    assert!(walk("keep") >= 6);
}

#[test]
fn while_it_is_made_and_taken_back() {
    // Journaled, two settings, applied, begun to be undone, two settings, undone.
    assert!(walk("roll-back") >= 8);
}
