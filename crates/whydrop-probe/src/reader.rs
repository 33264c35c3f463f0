//! Takes exemplars out of the ring buffer. Copies and decodes; keeps nothing.

use std::iter;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use aya::maps::{Map, MapData, RingBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Error;
use crate::wire::{REST_NS, RawDrop};

/// The reading end of the ring of exemplars.
pub struct Reader {
    ring: RingBuf<MapData>,
    stacks: bool,
}

impl Reader {
    /// Where none was made for so long, the next exemplar ends [`poll`](Self::poll).
    pub const REST: Duration = Duration::from_nanos(REST_NS as u64);

    /// `stacks` says whether the records carry stacks.
    pub(crate) fn new(map: Map, stacks: bool) -> Result<Self, Error> {
        let ring =
            RingBuf::try_from(map).map_err(|error| Error::map("the ring of exemplars", error))?;
        Ok(Self { ring, stacks })
    }

    /// Waits for the first exemplar after a [`REST`](Self::REST), until a good part of the ring is
    /// filled, or for the timeout; then takes all there is and returns how many. A signal ends the
    /// wait early, and so does something to read from `bell`.
    ///
    /// The kernel side does not wake the reader for every drop, which would cost the traffic more
    /// than the drop itself: while they keep coming the timeout is how old an exemplar may get. 50 ms
    /// suits a person.
    pub fn poll(
        &mut self,
        timeout: Duration,
        bell: Option<BorrowedFd<'_>>,
        take: &mut dyn FnMut(RawDrop),
    ) -> Result<usize, Error> {
        let limit = Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let sources = iter::once(self.ring.as_fd()).chain(bell);
        let mut waiting: Vec<PollFd<'_>> =
            sources.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN)).collect();
        match poll(&mut waiting, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                let what = "the ring of exemplars".to_owned();
                return Err(Error::Read { what, source: error.into() });
            }
        }
        let mut taken = 0;
        while let Some(record) = self.ring.next() {
            if let Some(drop) = RawDrop::read(&record, self.stacks) {
                taken += 1;
                take(drop);
            }
        }
        Ok(taken)
    }
}
