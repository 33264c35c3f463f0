//! Work inside another network namespace, for those who act there.
//!
//! The work gets a thread of its own, and only that thread moves: it ends with the work, so nothing
//! has to find its way home and no namespace is kept alive.

use std::os::fd::AsFd as _;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::collectors::listeners;
use crate::error::{Error, Why};
use crate::namespaces::{namespaces, open};
use crate::netlink::{Buffer, Protocol, Socket};
use crate::{Roots, process};

/// Runs `work` in the network namespace whose file has this inode.
///
/// # Errors
///
/// [`Error::NamespaceGone`] if there is no such namespace any more, [`Error::Closed`] if it cannot be
/// entered.
pub fn within<T: Send>(
    roots: &Roots,
    inode: u64,
    work: impl FnOnce() -> T + Send,
) -> Result<T, Error> {
    let (all, _) = namespaces(roots)?;
    let found = all.into_iter().find(|namespace| namespace.inode == inode);
    let found = found.ok_or(Error::NamespaceGone { inode })?;
    let closed = |why: Why| Error::Closed {
        what: format!("network namespace net:[{inode}] cannot be entered"),
        why: why.0,
    };
    let path = found.file.or_else(|| Some(process::namespace_link(roots, found.pid?)));
    let file = match path.filter(|_| !found.own) {
        Some(path) => Some(open(&path, inode).map_err(closed)?),
        None => None,
    };
    let enter_and_work = move || {
        if let Some(file) = file {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(file.as_fd(), network).map_err(Why::from)?;
        }
        Ok(work())
    };
    thread::scope(|scope| match scope.spawn(enter_and_work).join() {
        Ok(done) => done.map_err(closed),
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The backlog of the listening TCP socket with this inode, in the namespace of the calling thread;
/// `None` if none of its listeners has it.
///
/// # Errors
///
/// [`Error::Closed`] if the kernel does not tell.
pub fn listen_backlog(inode: u64) -> Result<Option<u32>, Error> {
    let closed = |why: Why| Error::Closed { what: "listening sockets".into(), why: why.0 };
    let mut socket = Socket::open(Protocol::SockDiag).map_err(|error| closed(error.into()))?;
    let listeners = listeners::dump(&mut socket, &mut Buffer::new()).map_err(closed)?;
    Ok(listeners.into_iter().find(|one| one.inode == inode).map(|one| one.backlog))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn the_own_namespace_is_entered_without_privilege() {
        let roots = Roots::default();
        let own = crate::namespaces::inode_of_link(&roots.proc.join("self/ns/net")).unwrap();
        assert_eq!(within(&roots, own, || 7).unwrap(), 7);
        let gone = within(&roots, 1, || ()).unwrap_err();
        assert_eq!(gone.to_string(), "network namespace net:[1] is gone");
    }

    #[test]
    fn a_backlog_is_told_by_the_inode_of_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 5).unwrap();
        let inode = rustix::fs::fstat(listener.as_fd()).unwrap().st_ino;
        assert_eq!(listen_backlog(inode).unwrap(), Some(5));
        assert_eq!(listen_backlog(1).unwrap(), None);
    }
}
