//! What fuzzers call of `watch -r`. Not in any other build.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

use whydrop_model::Evidence;
use whydrop_show::pcapng;

use super::conditions::Conditions;
use super::replay;
use super::screen::Screen;
use crate::cli::{Lines, Only};
use crate::fuzz::check_terminal;

/// What a screen wrote.
#[derive(Clone, Default)]
struct Memory(Rc<RefCell<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn shown(
    format: Option<Lines>,
    show: impl FnOnce(&mut Screen) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<u8>> {
    let memory = Memory::default();
    let conditions = Conditions::new(&Only::default())?;
    let mut screen = Screen::into_memory(format, Box::new(memory.clone()), conditions)?;
    show(&mut screen)?;
    screen.finish(None)?;
    drop(screen);
    Ok(memory.0.take())
}

/// Shows the drops of a recording.
pub(crate) fn recording(evidence: &Evidence) {
    let path = Path::new("file");
    if let Ok(text) = shown(Some(Lines::Text), |it| replay::evidence(evidence.clone(), path, it)) {
        check_terminal(&text);
    }
}

/// Shows a capture file, as text, as JSON and as a capture file again.
///
/// # Panics
///
/// If text could do something to a terminal, or what was written cannot be read.
pub(crate) fn capture(data: &[u8]) {
    let Ok(captured) = pcapng::read(data) else { return };
    let show = |format| shown(format, |it| replay::capture(&captured, None, it));
    let Ok(text) = show(Some(Lines::Text)) else { return };
    check_terminal(&text);
    for line in show(Some(Lines::Ndjson)).expect("as text").split(|byte| *byte == b'\n') {
        if !line.is_empty() {
            serde_json::from_slice::<whydrop_model::Sighting>(line).expect("a drop");
        }
    }
    let again = pcapng::read(&show(None).expect("as text")).expect("a capture file");
    let whole = captured.iter().filter(|one| one.frame.len() >= 14).count();
    assert_eq!(again.len(), whole);
}
