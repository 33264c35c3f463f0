//! What undoing does and what it leaves alone.

use whydrop_cure::{Error, State, plan};
use whydrop_model::Answer;

use crate::stage::{NEW, Stage};

fn proposal(stage: &Stage) -> whydrop_model::Proposal {
    match stage.cure().answer {
        Answer::Change(proposal) => *proposal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_is_made_and_undone_exactly() {
    let Some(stage) = Stage::set() else { return };
    let before = stage.settings();
    assert!(stage.changer("keep", usize::MAX, &[]).status.success());
    let after = stage.settings();
    let differ: Vec<_> = before.keys().filter(|name| before[*name] != after[*name]).collect();
    assert_eq!(differ, ["/proc/sys/net/core/somaxconn", "backlog"]);
    assert_eq!(after["backlog"], format!("Some({NEW})"));
    assert_eq!(stage.files().len(), 1);

    let planned = plan(&whydrop_collect::Roots::default(), &proposal(&stage)).unwrap();
    assert!(planned.iter().all(whydrop_cure::Planned::is_done), "nothing the second time");

    let (_, undone) = stage.changes().undo(1, false, &mut |_| {}).unwrap();
    assert_eq!(undone.restored.len(), 3);
    assert_eq!((stage.settings(), stage.files().len()), (before, 0));
    let (record, undone) = stage.changes().undo(1, false, &mut |_| {}).unwrap();
    assert_eq!((record.state, undone), (State::Undone, whydrop_cure::Undone::default()));
}

#[test]
fn what_others_changed_since_is_left_alone() {
    let Some(stage) = Stage::set() else { return };
    let before = stage.settings();
    assert!(stage.changer("keep", usize::MAX, &[]).status.success());
    stage.within(|| std::fs::write("/proc/sys/net/core/somaxconn", "99").unwrap());
    let (record, undone) = stage.changes().undo(1, false, &mut |_| {}).unwrap();
    assert_eq!((undone.left[0].ours.as_str(), undone.left[0].now.as_str()), (NEW, "99"));
    assert_eq!(record.state, State::Kept);
    assert_eq!(stage.settings()["backlog"], format!("Some({NEW})"), "not half of it either");
    let (_, undone) = stage.changes().undo(1, true, &mut |_| {}).unwrap();
    assert!(undone.left.is_empty());
    assert_eq!(stage.settings(), before);
}

#[test]
fn what_is_gone_needs_no_restoring() {
    let Some(stage) = Stage::set() else { return };
    assert!(stage.changer("keep", usize::MAX, &[]).status.success());
    let journal = stage.journal();
    let changes = stage.changes();
    let folder = stage.folder.path().to_owned();
    // The folder with the journal outlives the namespace.
    let kept = tempfile::tempdir().unwrap();
    std::fs::copy(folder.join("journal/1.json"), kept.path().join("1.json")).unwrap();
    drop((changes, stage, journal));
    let journal = whydrop_cure::Journal::new(kept.path());
    let changes = whydrop_cure::Changes::open(&journal, whydrop_collect::Roots::default()).unwrap();
    let (record, undone) = changes.undo(1, false, &mut |_| {}).unwrap();
    assert_eq!(record.state, State::Undone);
    assert!(undone.gone.iter().all(|line| line.contains("is gone")), "{undone:?}");
    assert_eq!(undone.gone.len(), 2);
}

#[test]
fn a_setting_that_moved_since_the_evidence_is_not_touched() {
    let Some(stage) = Stage::set() else { return };
    stage.within(|| std::fs::write("/proc/sys/net/core/somaxconn", "9").unwrap());
    let error = plan(&whydrop_collect::Roots::default(), &proposal(&stage)).unwrap_err();
    assert!(matches!(error, Error::Stale { .. }), "{error}");
}

#[test]
fn a_journal_that_cannot_be_written_keeps_nothing_from_being_restored() {
    let Some(stage) = Stage::set() else { return };
    let before = stage.settings();
    let (cure, changes) = (stage.cure(), stage.changes());
    let planned = plan(&whydrop_collect::Roots::default(), &proposal(&stage)).unwrap();
    let mut record = changes.apply(&cure, "a change", &planned, &mut |_| {}).unwrap();
    assert_ne!(stage.settings(), before);
    std::fs::remove_dir_all(stage.folder.path().join("journal")).unwrap();
    let told = changes.roll_back(&mut record, None, &mut |_| {}).unwrap_err();
    assert!(matches!(told, Error::Journal { .. }), "{told}");
    assert_eq!(stage.settings(), before);
}
