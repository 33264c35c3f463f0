//! Whose turn it is: what must be [alone](crate::scenario::Scenario::alone) waits until nothing is
//! played on this host, and everything else until that is over. This holds between processes too.
//!
//! The two locks are empty files that stay: a lock file that is removed may be locked twice.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::LabError;
use crate::wait::Stop;

/// Where the locks are: writable by root alone.
const FOLDER: &str = "/run";
/// Held while waiting, so that nobody who comes later is served first.
const QUEUE: &str = "whydrop-lab.queue";
/// Held while playing.
const STAGE: &str = "whydrop-lab.stage";
/// Longest wait: many times what the longest scenario may take.
const LIMIT: Duration = Duration::from_secs(300);

/// The right to play. It ends when dropped, and with the process.
#[derive(Debug)]
pub(crate) struct Turn {
    _stage: File,
}

impl Turn {
    /// Waits for it.
    pub(crate) fn wait(alone: bool, stop: &Stop) -> Result<Self, LabError> {
        Self::wait_in(Path::new(FOLDER), alone, stop)
    }

    fn wait_in(folder: &Path, alone: bool, stop: &Stop) -> Result<Self, LabError> {
        let (exclusive, shared) =
            (FlockOperation::NonBlockingLockExclusive, FlockOperation::NonBlockingLockShared);
        let queue = locked(&folder.join(QUEUE), stop, exclusive)?;
        let stage = locked(&folder.join(STAGE), stop, if alone { exclusive } else { shared })?;
        drop(queue);
        Ok(Self { _stage: stage })
    }
}

fn locked(path: &Path, stop: &Stop, lock: FlockOperation) -> Result<File, LabError> {
    let file = File::options().create(true).append(true).open(path);
    let file = file.map_err(LabError::io(format!("opening {}", path.display())))?;
    stop.until(LIMIT, "a scenario that must be alone, here or in another lab", || {
        match flock(&file, lock) {
            Ok(()) => Ok(Some(())),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
            Err(error) => Err(LabError::io(format!("locking {}", path.display()))(error)),
        }
    })?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::{env, fs, process, thread};

    use super::*;

    /// True if somebody waits in the queue.
    fn is_queued(folder: &Path) -> bool {
        let queue = File::options().create(true).append(true).open(folder.join(QUEUE)).unwrap();
        flock(&queue, FlockOperation::NonBlockingLockExclusive).is_err()
    }

    #[test]
    fn what_is_alone_waits_and_is_waited_for() {
        let folder = env::temp_dir().join(format!("whydrop-turn-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let stop = Stop::never();
        let turn = |alone| Turn::wait_in(&folder, alone, &stop).unwrap();
        let first = turn(false);
        drop(turn(false));
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            let told_alone = tell.clone();
            scope.spawn(move || {
                let alone = turn(true);
                told_alone.send("alone").unwrap();
                drop(alone);
            });
            while !is_queued(&folder) {
                thread::yield_now();
            }
            // Comes later, and could play at once if it did not have to queue.
            scope.spawn(move || {
                let shared = turn(false);
                tell.send("shared").unwrap();
                drop(shared);
            });
            assert!(told.try_recv().is_err());
            drop(first);
            assert_eq!([told.recv().unwrap(), told.recv().unwrap()], ["alone", "shared"]);
        });
        fs::remove_dir_all(&folder).unwrap();
    }
}
