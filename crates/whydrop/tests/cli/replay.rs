//! A recorded window gives the report of the live one, byte for byte, without privileges.

use crate::program::{run, scratch, under, whydrop};

#[test]
fn a_saved_window_gives_the_same_report() {
    let folder = scratch();
    let file = folder.path().join("evidence.whydrop");
    let file = file.to_str().expect("UTF-8");
    let live = whydrop(&["--duration", "0.3", "--save", file, "--format", "json"]);
    assert!(matches!(live.status, Some(0 | 1)), "{live:?}");
    let again = whydrop(&["diagnose", file, "--format", "json"]);
    assert_eq!(again.stdout, live.stdout);
    assert_eq!(again.status, live.status);
    let text = whydrop(&["diagnose", file]);
    assert!(text.stdout.starts_with("whydrop: "), "{text:?}");
    assert_eq!(text.stdout, whydrop(&["diagnose", file, "--format", "text"]).stdout);
}

#[test]
fn a_recording_can_be_read_by_anybody() {
    let folder = scratch();
    let file = folder.path().join("evidence.whydrop");
    let shown = file.to_str().expect("UTF-8");
    let recorded = whydrop(&["record", "-o", shown, "--duration", "0.2"]);
    assert_eq!((recorded.status, recorded.stdout.as_str()), (Some(0), ""), "{recorded:?}");
    assert!(recorded.stderr.contains(shown), "{recorded:?}");
    let as_root = whydrop(&["diagnose", shown, "--format", "json"]);
    assert!(matches!(as_root.status, Some(0 | 1)), "{as_root:?}");
    if crate::program::needs_root() {
        return;
    }
    run(std::process::Command::new("chmod").args(["-R", "a+rX"]).arg(folder.path()));
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let as_nobody = under(&nobody, &["diagnose", shown, "--format", "json"]);
    assert_eq!(as_nobody.stdout, as_root.stdout);
}
