//! A loader that knows nothing of the running kernel until it is told.
//!
//! The library's reads and parses the kernel's type information as it is made, before anybody can
//! tell it not to: twenty megabytes, and the longest part of a start. What it is told afterwards is
//! the business of [`attach`](crate::attach).

use std::os::unix::fs::chroot;
use std::thread;

use aya::EbpfLoader;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::heap;

/// Where there is no `sys/kernel/btf/vmlinux`.
const ELSEWHERE: &str = "/proc";

/// A loader without type information of the kernel. Who may not change a thread's root directory
/// gets one all the same, only later.
pub(crate) fn empty_loader<'a>() -> EbpfLoader<'a> {
    // Whatever is loaded begins here.
    heap::give_back();
    let made = thread::scope(|scope| {
        let maker = scope.spawn(|| {
            look_elsewhere();
            EbpfLoader::new()
        });
        maker.join().ok()
    });
    let mut loader = made.unwrap_or_default();
    loader.btf(None);
    loader
}

/// Changes the root directory of this thread, and of no other. Refused, it changes nothing.
#[expect(unsafe_code, reason = "the library's function can part threads from open files, too")]
fn look_elsewhere() {
    // SAFETY: only the root and the working directory become the thread's own; its open files
    // stay those of the process.
    if unsafe { unshare_unsafe(UnshareFlags::FS) }.is_ok() {
        let _ = chroot(ELSEWHERE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_stays_where_it_is() {
        let root = std::fs::metadata("/").unwrap();
        drop(empty_loader());
        let there = |data: &std::fs::Metadata| {
            use std::os::unix::fs::MetadataExt as _;
            (data.dev(), data.ino())
        };
        assert_eq!(there(&root), there(&std::fs::metadata("/").unwrap()));
    }
}
