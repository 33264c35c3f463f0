//! Replays what a fuzzer kept for a target: the seeds, what covers the code, and every input that was
//! ever a finding. A part of the unit tests of each crate that has a target.

use std::panic::catch_unwind;
use std::path::Path;

/// Hands each file of `fuzz/corpus/<target>` to the target, and says which one it fails on.
pub(crate) fn corpus(target: &str, entry: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).expect("a folder with the corpus");
    let mut replayed = 0;
    for file in files {
        let path = file.expect("a file of the corpus").path();
        let bytes = std::fs::read(&path).expect("a readable file");
        assert!(catch_unwind(|| entry(&bytes)).is_ok(), "{target} fails on {}", path.display());
        replayed += 1;
    }
    assert!(replayed > 0, "{} is empty", folder.display());
}
