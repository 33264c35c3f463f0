//! What a fuzzer calls, and the test that replays what it kept. Not in any other build.

use std::path::Path;

use crate::journal;

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

/// A record of the journal.
///
/// # Panics
///
/// If what was read is not written as it was.
pub fn journal(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match journal::parse(Path::new("7.json"), text) {
        Ok(record) => {
            let written = serde_json::to_string(&record).expect("a record");
            let again = journal::parse(Path::new("7.json"), &written).expect("what was written");
            assert_eq!(again, record);
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1),
    }
}

#[test]
fn what_a_fuzzer_kept_passes() {
    replay::corpus("journal", journal);
}
