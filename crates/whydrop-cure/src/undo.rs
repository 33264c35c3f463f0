//! Takes changes back: from the last setting to the first, each to what it was.
//!
//! A setting that somebody else has changed since is left alone and named, unless told otherwise. A
//! setting that is gone (its namespace, device, queue, process or boot) needs no restoring.

use crate::change::{Changes, Step};
use crate::error::Error;
use crate::record::{Record, RecordedWrite, State};
use crate::{persist, target};

/// What became of a change that was to be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Undone {
    /// Settings and files that were restored.
    pub restored: Vec<String>,
    /// Those that need no restoring, with the reason.
    pub gone: Vec<String>,
    /// Those that were left alone; then the change stays in the journal as it is.
    pub left: Vec<Left>,
}

/// A setting that somebody else has changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The setting.
    pub what: String,
    /// What whydrop made of it.
    pub ours: String,
    /// What it is now.
    pub now: String,
}

impl Changes {
    /// Takes a change back. With `force`, also what somebody else has changed since.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`], [`Error::Journal`], and what kept a setting from being restored; what was
    /// restored until then stays so, and the next attempt goes on from there.
    pub fn undo(
        &self,
        id: u64,
        force: bool,
        told: &mut dyn FnMut(Step),
    ) -> Result<(Record, Undone), Error> {
        let mut record = self.journal.record(id)?;
        if !record.state.is_open() {
            return Ok((record, Undone::default()));
        }
        let undone = self.take_back(&mut record, force, told)?;
        Ok((record, undone))
    }

    pub(crate) fn take_back(
        &self,
        record: &mut Record,
        force: bool,
        told: &mut dyn FnMut(Step),
    ) -> Result<Undone, Error> {
        // Where a process was killed between a write and its note, what is found tells nothing.
        let unsure = matches!(record.state, State::Intended | State::Undoing);
        let mut undone = Undone::default();
        if record.boot_id != self.boot_id {
            undone.gone.push("the host has been rebooted since".into());
        } else if !unsure && !force {
            self.look_for_others(record, &mut undone)?;
            if !undone.left.is_empty() {
                return Ok(undone);
            }
        }
        record.state = State::Undoing;
        // A journal that cannot be written, as on a full disk, keeps nothing from being restored: it has
        // the old values already, and what is restored twice is restored.
        let noted = self.journal.store(record);
        told(Step::Undoing);
        if record.boot_id == self.boot_id {
            for (number, write) in record.writes.iter().enumerate().rev() {
                self.restore(write, &mut undone)?;
                told(Step::Restored(number));
            }
        }
        for (number, file) in record.files.iter().enumerate().rev() {
            if persist::restore(file, force || unsure)? {
                undone.restored.push(file.path.display().to_string());
            }
            told(Step::Removed(number));
        }
        noted?;
        record.state = State::Undone;
        self.journal.store(record)?;
        told(Step::Undone);
        Ok(undone)
    }

    /// Settings that have neither the value we gave them nor the one before.
    fn look_for_others(&self, record: &Record, undone: &mut Undone) -> Result<(), Error> {
        for write in &record.writes {
            if self.is_gone(write).is_some() {
                continue;
            }
            let now = target::read(&self.roots, &write.netns, &write.target)?;
            let ours = write.became.as_ref().unwrap_or(&write.new);
            if now != *ours && now != write.old {
                let (what, ours) = (write.target.to_string(), ours.clone());
                undone.left.push(Left { what, ours, now });
            }
        }
        for file in &record.files {
            if let Some(now) = persist::changed_by_others(file)? {
                let what = file.path.display().to_string();
                undone.left.push(Left { what, ours: file.after.clone(), now });
            }
        }
        Ok(())
    }

    fn restore(&self, write: &RecordedWrite, undone: &mut Undone) -> Result<(), Error> {
        if let Some(why) = self.is_gone(write) {
            undone.gone.push(format!("{}: {why}", write.target));
            return Ok(());
        }
        let (roots, netns, target) = (&self.roots, &write.netns, &write.target);
        if target::read(roots, netns, target)? == write.old {
            return Ok(());
        }
        target::write(roots, netns, target, &write.old)?;
        let now = target::read(roots, netns, target)?;
        if now != write.old {
            return Err(Error::Write {
                what: target.to_string(),
                value: write.old.clone(),
                why: format!("the kernel took it and left {now}"),
            });
        }
        undone.restored.push(format!("{target} = {now}"));
        Ok(())
    }

    /// Why a setting is no more; `None` if it is there, or that cannot be told.
    fn is_gone(&self, write: &RecordedWrite) -> Option<String> {
        match target::gone(&self.roots, &write.netns, &write.target) {
            Err(Error::Place(gone @ whydrop_collect::Error::NamespaceGone { .. })) => {
                Some(gone.to_string())
            }
            Err(_) => None,
            Ok(gone) => gone,
        }
    }
}
