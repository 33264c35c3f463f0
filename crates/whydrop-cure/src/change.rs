//! Makes a change: reads back, journals, writes, and takes everything back if one part fails.

use jiff::Timestamp;
use whydrop_collect::Roots;
use whydrop_model::{Cure, Effect, Proposal, Trial, Write};

use crate::error::Error;
use crate::journal::{Journal, Lock};
use crate::record::{Record, RecordedFile, RecordedWrite, SCHEMA, State};
use crate::target;

/// One setting as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What is to be written.
    pub write: Write,
    /// What it is now.
    pub now: String,
}

impl Planned {
    /// True if there is nothing to write.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.now == self.write.new
    }
}

/// Reads back all settings of a proposal.
///
/// # Errors
///
/// [`Error::Read`] if one cannot be read, [`Error::Place`] if its namespace is gone or closed,
/// [`Error::Stale`] if one has neither the value that the evidence shows nor the one proposed.
pub fn plan(roots: &Roots, proposal: &Proposal) -> Result<Vec<Planned>, Error> {
    let read = |write: &Write| {
        let now = target::read(roots, &write.netns, &write.target)?;
        match &write.old {
            Some(old) if *old != now && write.new != now => {
                Err(Error::Stale { what: write.target.to_string(), before: old.clone(), now })
            }
            _ => Ok(Planned { write: write.clone(), now }),
        }
    };
    proposal.writes.iter().map(read).collect()
}

/// What has just been done, on disk or in the kernel. Told to whoever watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The journal says what is about to be done.
    Journaled,
    /// The setting with this number was written.
    Written(usize),
    /// All were, and the journal says so.
    Applied,
    /// The journal says what came of it.
    Judged,
    /// The file with this number was written.
    Kept(usize),
    /// The journal says that it is being taken back.
    Undoing,
    /// The setting with this number was restored.
    Restored(usize),
    /// The file with this number was restored.
    Removed(usize),
    /// The journal says that it was taken back.
    Undone,
}

/// The right to change this host: holds the journal's lock until dropped.
#[derive(Debug)]
pub struct Changes {
    pub(crate) journal: Journal,
    pub(crate) roots: Roots,
    pub(crate) boot_id: String,
    _lock: Lock,
}

impl Changes {
    /// Takes the lock.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if another process has it, [`Error::Journal`] if the journal is not to be had.
    pub fn open(journal: &Journal, roots: Roots) -> Result<Self, Error> {
        let path = roots.proc.join("sys/kernel/random/boot_id");
        let boot_id = std::fs::read_to_string(&path);
        let boot_id = boot_id.map_err(|error| Error::file(&path, &error))?.trim_end().to_owned();
        let lock = journal.lock()?;
        Ok(Self { journal: journal.clone(), roots, boot_id, _lock: lock })
    }

    /// The number of a change of this boot that was interrupted and not yet taken back.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`].
    pub fn interrupted(&self) -> Result<Option<u64>, Error> {
        let open = |record: &Record| {
            record.boot_id == self.boot_id
                && matches!(record.state, State::Intended | State::Undoing)
        };
        Ok(self.journal.records()?.iter().find(|record| open(record)).map(|record| record.id))
    }

    /// Changes of this boot that were made and not judged: this process ended while it watched.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`].
    pub fn unjudged(&self) -> Result<Vec<Record>, Error> {
        let mut records = self.journal.records()?;
        records.retain(|one| one.boot_id == self.boot_id && one.state == State::Applied);
        Ok(records)
    }

    /// Makes a change. It is whole when this returns, or not there.
    ///
    /// # Errors
    ///
    /// [`Error::Untouched`] before anything is touched; [`Error::TakenBack`] if a part of it failed;
    /// [`Error::HalfDone`] if that could not be repaired.
    pub fn apply(
        &self,
        cure: &Cure,
        summary: &str,
        planned: &[Planned],
        told: &mut dyn FnMut(Step),
    ) -> Result<Record, Error> {
        let writes = planned.iter().filter(|one| !one.is_done()).map(|one| RecordedWrite {
            netns: one.write.netns.clone(),
            target: one.write.target.clone(),
            old: one.now.clone(),
            new: one.write.new.clone(),
            became: None,
        });
        let mut record = Record {
            schema: SCHEMA.into(),
            id: self.journal.next_id()?,
            boot_id: self.boot_id.clone(),
            at: format!("{:.0}", Timestamp::now()),
            cause: cure.cause.clone(),
            summary: summary.to_owned(),
            writes: writes.collect(),
            files: Vec::new(),
            state: State::Intended,
            effect: None,
            trials: None,
        };
        let untouched = |cause| Error::Untouched { cause: Box::new(cause) };
        self.journal.store(&record).map_err(untouched)?;
        told(Step::Journaled);
        let done = self.write_all(&mut record, told).and_then(|()| {
            record.state = State::Applied;
            self.journal.store(&record)
        });
        if let Err(cause) = done {
            record.state = State::Intended;
            let cause = Box::new(cause);
            return Err(match self.take_back(&mut record, true, told) {
                Ok(_) => Error::TakenBack { cause },
                Err(undo) => Error::HalfDone { cause, undo: Box::new(undo), id: record.id },
            });
        }
        told(Step::Applied);
        Ok(record)
    }

    fn write_all(&self, record: &mut Record, told: &mut dyn FnMut(Step)) -> Result<(), Error> {
        for (number, write) in record.writes.iter_mut().enumerate() {
            target::write(&self.roots, &write.netns, &write.target, &write.new)?;
            told(Step::Written(number));
            let became = target::read(&self.roots, &write.netns, &write.target)?;
            if became == write.old {
                return Err(Error::Write {
                    what: write.target.to_string(),
                    value: write.new.clone(),
                    why: format!("the kernel took it and left {became}"),
                });
            }
            write.became = Some(became);
        }
        Ok(())
    }

    /// Notes what came of a change that is kept.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`].
    pub fn keep(
        &self,
        record: &mut Record,
        judged: Option<(Effect, Trial, Trial)>,
        told: &mut dyn FnMut(Step),
    ) -> Result<(), Error> {
        note(record, judged);
        record.state = State::Kept;
        self.journal.store(record)?;
        told(Step::Judged);
        Ok(())
    }

    /// Takes a change back at once, because of what came of it.
    ///
    /// # Errors
    ///
    /// As [`Changes::undo`].
    pub fn roll_back(
        &self,
        record: &mut Record,
        judged: Option<(Effect, Trial, Trial)>,
        told: &mut dyn FnMut(Step),
    ) -> Result<(), Error> {
        note(record, judged);
        self.take_back(record, true, told).map(|_| ())
    }

    /// Writes the files that keep a change beyond a reboot. The journal knows of them first.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] and [`Error::File`]; files written until then are restored.
    pub fn persist(
        &self,
        record: &mut Record,
        files: Vec<RecordedFile>,
        told: &mut dyn FnMut(Step),
    ) -> Result<(), Error> {
        record.files = files;
        self.journal.store(record)?;
        for (number, file) in record.files.iter().enumerate() {
            if let Err(error) = crate::persist::write(file) {
                for written in &record.files[..number] {
                    crate::persist::restore(written, true)?;
                }
                record.files.clear();
                self.journal.store(record)?;
                return Err(error);
            }
            told(Step::Kept(number));
        }
        Ok(())
    }
}

fn note(record: &mut Record, judged: Option<(Effect, Trial, Trial)>) {
    if let Some((effect, before, after)) = judged {
        record.effect = Some(effect);
        record.trials = Some((before, after));
    }
}
