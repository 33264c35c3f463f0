//! What a shell and its user expect: completions, manual pages, defaults from a file.

use std::fs;
use std::process::{Command, Stdio};

use crate::program::{path, run, scratch, whydrop};

#[test]
fn a_shell_understands_its_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = whydrop(&["completions", shell]);
        assert_eq!(script.status, Some(0), "{script:?}");
        assert!(script.stdout.contains("diagnose") && script.stdout.contains("netns"), "{shell}");
    }
    let folder = scratch();
    let script = folder.path().join("whydrop");
    fs::write(&script, whydrop(&["completions", "bash"]).stdout).expect("written");
    let checked = run(Command::new("bash").arg("-n").arg(&script));
    assert_eq!((checked.status, checked.stderr.as_str()), (Some(0), ""));
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = scratch();
    let shown = folder.path().join("man");
    let written = whydrop(&["man", shown.to_str().expect("UTF-8")]);
    assert_eq!(written.status, Some(0), "{written:?}");
    for page in ["whydrop", "whydrop-diagnose", "whydrop-watch", "whydrop-lab-run"] {
        let text = fs::read_to_string(shown.join(format!("{page}.1"))).expect(page);
        assert!(text.contains(".SH DESCRIPTION"), "{page}");
    }
    assert!(!shown.join("whydrop-lab-actor.1").exists(), "it is nobody's business");
    let refused = whydrop(&["man", "/proc/here"]);
    assert_eq!((refused.status, refused.stderr.lines().count()), (Some(2), 1), "{refused:?}");
}

#[test]
fn defaults_come_from_the_users_file_and_the_command_line_overrides_them() {
    let folder = scratch();
    let settings = folder.path().join("whydrop");
    fs::create_dir(&settings).expect("created");
    fs::write(settings.join("config.toml"), "[reasons]\nformat = 'json'\n").expect("written");
    let with = |arguments: &[&str]| {
        run(Command::new(path()).args(arguments).env("XDG_CONFIG_HOME", folder.path()))
    };
    assert!(with(&["reasons"]).stdout.starts_with('['));
    assert!(!with(&["reasons", "--format", "text"]).stdout.starts_with('['));
    fs::write(settings.join("config.toml"), "[reasons]\ncolour = 'red'\n").expect("written");
    let refused = with(&["reasons"]);
    assert_eq!((refused.status, refused.stderr.lines().count()), (Some(2), 1), "{refused:?}");
    assert!(refused.stderr.contains("line 2") && refused.stderr.contains("config.toml"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for arguments in [&["completions", "zsh"][..], &["reasons"], &["reasons", "--format", "json"]] {
        let mut child = Command::new(path())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("ended");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}
