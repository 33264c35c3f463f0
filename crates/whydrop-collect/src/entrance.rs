//! Moves a thread from one network namespace to another.
//!
//! Only the thread that owns the [`Entrance`] moves; the rest of the process stays at home. Being
//! refused is remembered, so that an ordinary user asks the kernel once and not a thousand times.

use std::fs::File;
use std::os::fd::AsFd as _;

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::Why;
use crate::namespaces::Own;

/// Where the thread is and how it gets home.
#[derive(Debug)]
pub(crate) struct Entrance {
    own: Own,
    /// Inode of the namespace the thread is in.
    current: u64,
    refused: Option<Why>,
}

impl Entrance {
    pub(crate) fn new(own: Own) -> Self {
        Self { current: own.inode, own, refused: None }
    }

    pub(crate) fn own(&self) -> &Own {
        &self.own
    }

    /// Moves the thread to the namespace `inode`, whose file is `file`. After an error it is where
    /// it was.
    pub(crate) fn enter(&mut self, inode: u64, file: Option<&File>) -> Result<(), Why> {
        if self.current == inode {
            return Ok(());
        }
        if inode == self.own.inode {
            return self.home();
        }
        if let Some(why) = &self.refused {
            return Err(why.clone());
        }
        let file = file.ok_or_else(|| Why::new("it could not be opened"))?;
        let moved = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
        moved.map_err(|error| match error {
            Errno::PERM => {
                let why = Why::new("entering it needs CAP_SYS_ADMIN or root");
                self.refused = Some(why.clone());
                why
            }
            Errno::INVAL => Why::new("it is no network namespace"),
            other => other.into(),
        })?;
        self.current = inode;
        Ok(())
    }

    /// Moves the thread home, so that it keeps no other namespace alive. `enter` never relies on it.
    pub(crate) fn home(&mut self) -> Result<(), Why> {
        if self.current == self.own.inode {
            return Ok(());
        }
        let file =
            self.own.file.as_ref().ok_or_else(|| Why::new("no file of the own namespace"))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        self.current = self.own.inode;
        Ok(())
    }
}
