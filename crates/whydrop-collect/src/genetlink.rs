//! Generic netlink: families that have a name and get their number when they register.
//!
//! Framing only; what a message of a family means is the business of the collector that asked.

use rustix::io::Errno;

use crate::error::Why;
use crate::netlink::{Attributes, Buffer, Failure, Socket, push_attribute, u16_at};

/// Bytes of `struct genlmsghdr` (`include/uapi/linux/genetlink.h`), which begins every payload.
const HEADER: usize = 4;
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// The number of a family; `None` if this kernel does not have it.
///
/// # Errors
///
/// As [`Socket::ask`].
pub fn family(
    socket: &mut Socket,
    buffer: &mut Buffer,
    name: &str,
) -> Result<Option<u16>, Failure> {
    let mut request = header(CTRL_CMD_GETFAMILY);
    push_attribute(&mut request, CTRL_ATTR_FAMILY_NAME, &[name.as_bytes(), b"\0"].concat());
    match socket.ask(GENL_ID_CTRL, &request, buffer, family_id) {
        Err(Failure::Refused(Errno::NOENT)) => Ok(None),
        answer => answer,
    }
}

pub(crate) fn family_id(payload: &[u8]) -> Option<u16> {
    let (_, value) = attributes(payload).find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID)?;
    u16_at(value, 0)
}

/// Dumps what `command` lists. Empty if this kernel, or all of its drivers, have nothing of the kind.
pub(crate) fn dump<T>(
    socket: &mut Socket,
    buffer: &mut Buffer,
    family: u16,
    command: u8,
    attributes: &[u8],
    parse: impl FnMut(&[u8]) -> Option<T>,
) -> Result<Vec<T>, Why> {
    let request = [&header(command)[..], attributes].concat();
    match socket.dump(family, &request, buffer, parse) {
        // A device that came or went meanwhile is missing or not; that is for others to tell.
        Ok(dump) => Ok(dump.items),
        Err(Failure::Refused(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOENT)) => Ok(Vec::new()),
        Err(failure) => Err(failure.into()),
    }
}

/// The attributes of a message of a family.
#[must_use]
pub fn attributes(payload: &[u8]) -> Attributes<'_> {
    Attributes(payload.get(HEADER..).unwrap_or_default())
}

/// The beginning of a request to a family.
#[must_use]
pub fn header(command: u8) -> Vec<u8> {
    // The version is 1 for all families there are; then two bytes that are reserved.
    vec![command, 1, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Protocol;

    #[test]
    fn a_family_is_found_by_name() {
        let (mut buffer, mut socket) = (Buffer::new(), Socket::open(Protocol::Generic).unwrap());
        let mut family = |name| family(&mut socket, &mut buffer, name).unwrap();
        assert_eq!(family("nlctrl"), Some(GENL_ID_CTRL));
        assert_eq!(family("no such family"), None);
    }

    #[test]
    fn an_answer_that_is_cut_has_no_number() {
        let mut answer = header(1);
        push_attribute(&mut answer, CTRL_ATTR_FAMILY_ID, &28_u16.to_ne_bytes());
        assert_eq!(family_id(&answer), Some(28));
        for length in 0..HEADER + 6 {
            assert_eq!(family_id(&answer[..length]), None);
        }
    }
}
