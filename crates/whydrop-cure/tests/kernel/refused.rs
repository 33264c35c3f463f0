//! Whatever keeps a change from being made: a clear reason, and nothing is half done.

use std::process::Output;

use crate::stage::{NEW, Stage};

/// Runs a change by way of a shell script that ends in `exec "$@"`, and gives what it complained of.
fn complaint(stage: &Stage, script: &str) -> String {
    let script = format!("set -e; {script} exec \"$@\"");
    let wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    let Output { status, stderr, .. } = stage.changer("keep", usize::MAX, &wrapper);
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(!status.success(), "{stderr}");
    stderr.lines().find_map(|line| line.strip_prefix("refused: ")).expect(&stderr).to_owned()
}

#[test]
fn read_only_settings() {
    let Some(stage) = Stage::set() else { return };
    let before = stage.settings();
    let script = "mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys;";
    let told = complaint(&stage, script);
    assert!(told.contains("read-only") && told.contains("as it was before"), "{told}");
    assert_eq!(stage.settings(), before);
    assert!(stage.journal().records().unwrap().iter().all(|record| !record.state.is_open()));
}

#[test]
fn a_full_disk_for_the_journal() {
    let Some(stage) = Stage::set() else { return };
    let before = stage.settings();
    let journal = stage.folder.path().join("journal");
    std::fs::create_dir(&journal).unwrap();
    let path = journal.display();
    let script = format!(
        "mount -t tmpfs -o size=4k none {path}; head -c 4096 /dev/zero > {path}/full; : > {path}/lock;"
    );
    let told = complaint(&stage, &script);
    assert!(told.contains("disk is full") && told.contains("nothing was changed"), "{told}");
    assert_eq!(stage.settings(), before);
}

#[test]
fn no_privilege() {
    let Some(stage) = Stage::set() else { return };
    let before = stage.settings();
    let folder = stage.folder.path().display();
    let program = std::env::current_exe().unwrap();
    // Where the unprivileged user reaches it.
    std::fs::copy(program, stage.folder.path().join("program")).unwrap();
    let script = format!(
        "chmod 777 {folder}; shift; set -- setpriv --reuid 65534 --regid 65534 --clear-groups \
         {folder}/program \"$@\";"
    );
    let told = complaint(&stage, &script);
    assert!(told.contains("cannot be entered"), "{told}");
    assert_eq!(stage.settings(), before);
}

#[test]
fn the_second_part_of_a_change_fails() {
    let Some(stage) = Stage::set() else { return };
    let before = stage.settings();
    // The journal is there, the settings can be written, and the program's socket is out of reach.
    let script = "set -- setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace \"$@\";";
    let told = complaint(&stage, script);
    let expected = "does not let whydrop borrow";
    assert!(told.contains(expected) && told.contains("as it was before"), "{told}");
    assert_eq!(stage.settings(), before);
}

#[test]
fn two_at_once() {
    let Some(stage) = Stage::set() else { return };
    let before = stage.settings();
    let changes = stage.changes();
    let told = complaint(&stage, "");
    assert!(told.starts_with("another whydrop is changing this host"), "{told}");
    assert_eq!(stage.settings(), before);
    drop(changes);
    assert!(stage.changer("keep", usize::MAX, &[]).status.success());
    assert_eq!(stage.settings()["backlog"], format!("Some({NEW})"));
}
