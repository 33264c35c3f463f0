//! Limits of queueing disciplines, changed in place: what waits in the queue stays there.

use whydrop_collect::netlink::{Attributes, Buffer, push_attribute, u32_at};

use super::link;

const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
/// Bytes of `struct tcmsg` (`include/uapi/linux/rtnetlink.h`).
const TCMSG: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// Attributes that hold a limit (`include/uapi/linux/pkt_sched.h`).
const TCA_FQ_PLIMIT: u16 = 1;
const TCA_FQ_CODEL_LIMIT: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
/// Place of `limit` in `struct tc_tbf_qopt`, behind two rates.
const TBF_LIMIT: usize = 24;

/// Which queue is meant.
pub(super) struct Place<'a> {
    pub(super) device: &'a str,
    pub(super) kind: &'a str,
    /// As `tc` writes them.
    pub(super) handle: &'a str,
    pub(super) parent: &'a str,
}

/// A queue as it is now.
struct Found {
    handle: u32,
    parent: u32,
    options: Vec<u8>,
}

pub(super) fn read(place: &Place<'_>) -> Result<String, String> {
    let found = find(place)?;
    let limit = match place.kind {
        "pfifo" | "bfifo" => u32_at(&found.options, 0),
        "fq" => number(&found.options, TCA_FQ_PLIMIT),
        "fq_codel" => number(&found.options, TCA_FQ_CODEL_LIMIT),
        "tbf" => attribute(&found.options, TCA_TBF_PARMS).and_then(|it| u32_at(it, TBF_LIMIT)),
        other => return Err(unknown(other)),
    };
    limit.map(|limit| limit.to_string()).ok_or_else(|| "the kernel does not tell it".into())
}

pub(super) fn write(place: &Place<'_>, value: &str) -> Result<(), String> {
    let limit: u32 = value.parse().map_err(|_| format!("{value} is no limit"))?;
    let found = find(place)?;
    let mut request = vec![0; TCMSG];
    request[4..8].copy_from_slice(&link::index(place.device)?.to_ne_bytes());
    request[8..12].copy_from_slice(&found.handle.to_ne_bytes());
    request[12..16].copy_from_slice(&found.parent.to_ne_bytes());
    push_attribute(&mut request, TCA_KIND, &[place.kind.as_bytes(), b"\0"].concat());
    let options = options(place.kind, &found.options, limit)?;
    push_attribute(&mut request, TCA_OPTIONS, &options);
    // Without NLM_F_CREATE and NLM_F_REPLACE this changes the queue that is there.
    let done = link::open()?.ask(RTM_NEWQDISC, &request, &mut Buffer::new(), |_| None::<()>);
    done.map(|_| ()).map_err(link::words)
}

/// Options with another limit. Most kinds leave alone what is not told; a token bucket wants all of
/// its parameters again.
fn options(kind: &str, now: &[u8], limit: u32) -> Result<Vec<u8>, String> {
    let bytes = limit.to_ne_bytes();
    let mut options = Vec::new();
    match kind {
        "pfifo" | "bfifo" => options.extend(bytes),
        "fq" => push_attribute(&mut options, TCA_FQ_PLIMIT, &bytes),
        "fq_codel" => push_attribute(&mut options, TCA_FQ_CODEL_LIMIT, &bytes),
        "tbf" => {
            for (kind, value) in Attributes(now) {
                let mut value = value.to_vec();
                if let Some(place) =
                    value.get_mut(TBF_LIMIT..TBF_LIMIT + 4).filter(|_| kind == TCA_TBF_PARMS)
                {
                    place.copy_from_slice(&bytes);
                }
                push_attribute(&mut options, kind, &value);
            }
        }
        other => return Err(unknown(other)),
    }
    Ok(options)
}

fn unknown(kind: &str) -> String {
    format!("whydrop does not know how to set the limit of {kind}")
}

/// True if there is no such queue, for certain.
pub(super) fn is_gone(place: &Place<'_>) -> bool {
    link::is_gone(place.device) || matches!(look(place), Ok(None))
}

fn find(place: &Place<'_>) -> Result<Found, String> {
    look(place)?.ok_or_else(|| "it is there no more".into())
}

fn look(place: &Place<'_>) -> Result<Option<Found>, String> {
    let ifindex = link::index(place.device)?;
    let mut request = vec![0; TCMSG];
    request[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    let wanted = |payload: &[u8]| {
        let (handle, parent) = (u32_at(payload, 8)?, u32_at(payload, 12)?);
        let attributes = payload.get(TCMSG..)?;
        let kind = attribute(attributes, TCA_KIND)?;
        let is_it = u32_at(payload, 4) == Some(ifindex)
            && kind.strip_suffix(b"\0") == Some(place.kind.as_bytes())
            && whydrop_model::TcHandle(handle).to_string() == place.handle
            && whydrop_model::TcHandle(parent).to_string() == place.parent;
        let options = attribute(attributes, TCA_OPTIONS).unwrap_or_default().to_vec();
        is_it.then_some(Found { handle, parent, options })
    };
    let dump = link::open()?.dump(RTM_GETQDISC, &request, &mut Buffer::new(), wanted);
    Ok(dump.map_err(link::words)?.items.into_iter().next())
}

fn attribute(nest: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(nest).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn number(nest: &[u8], wanted: u16) -> Option<u32> {
    attribute(nest, wanted).and_then(|value| u32_at(value, 0))
}
