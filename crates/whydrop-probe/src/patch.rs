//! Writes into the object what depends on the kernel or the user: a call of `bpf_rdonly_cast`
//! (`bpf/read.h`), and a filter over the room that is kept for it (`bpf/filter.h`).
//!
//! The object's bytes are changed before the loader sees them, because no loader lets its user change
//! a program between relocation and load. The number of instructions stays, and with it all that the
//! object says of their places.

use crate::{Btf, Error};

/// The instruction that marks a call of `bpf_rdonly_cast`: `r0 = 0x5eedca57`.
const CAST_MARK: u64 = 0x5eed_ca57_0000_00b7;
/// A call of a function of the kernel (`BPF_PSEUDO_KFUNC_CALL`), without its number.
const KERNEL_CALL: u64 = 0x2085;
/// The function, and the struct that its result points to: 25 words of 8 bytes on every machine
/// (`include/uapi/linux/if_link.h`).
const CAST: (&str, &str) = ("bpf_rdonly_cast", "rtnl_link_stats64");
/// The instruction that marks the room: `r0 = 0x5eedf117`.
const MARK: u64 = 0x5eed_f117_0000_00b7;
/// `goto +0`.
const NOTHING: u64 = 0x05;
/// `exit`.
const EXIT: u64 = 0x95;
/// `w0 = 0`.
const ZERO: u64 = 0xb4;
/// `if w0 == 0 goto`, without the distance.
const IF_ZERO: u64 = 0x16;

const WORD: usize = 8;

/// Writes the call, if the running kernel has the function. Returns the number of the struct for
/// `words_type`, 0 if it has not: then nothing is changed, and the marks are never reached.
pub(crate) fn with_cast(object: &mut [u8], btf: &Btf) -> u32 {
    let [Some(function), Some(structure)] = btf.ids(CAST.0, CAST.1) else { return 0 };
    let call = KERNEL_CALL | u64::from(function) << 32;
    for word in object.as_chunks_mut::<WORD>().0 {
        if u64::from_le_bytes(*word) == CAST_MARK {
            *word = call.to_le_bytes();
        }
    }
    structure
}

/// The object with the filter in its room. The filter ends at the end of the room; over what it does
/// not need leads one jump that is always taken, so that the verifier removes the rest in one piece.
/// A jump without a condition would leave the rest without any way to it, which the verifier refuses.
pub(crate) fn with_filter(object: &[u8], filter: &[u64]) -> Result<Vec<u8>, Error> {
    let word = |at: usize| {
        let bytes = object.get(at..at + WORD)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    };
    let broken = |why: &str| Error::Object { why: why.to_owned() };
    let mut marks = (0..object.len()).step_by(WORD).filter(|&at| word(at) == Some(MARK));
    let start = marks.next().ok_or_else(|| broken("it has no room for a filter"))?;
    if marks.next().is_some() {
        return Err(broken("it has room for more than one filter"));
    }
    let behind = object[start..].as_chunks::<WORD>().0.iter().skip(1);
    let room = 1 + behind.take_while(|word| u64::from_le_bytes(**word) == NOTHING).count();
    if word(start + room * WORD) != Some(EXIT) {
        return Err(broken("the room for a filter does not end as it should"));
    }
    // Two instructions lead to the filter.
    let Some(unused) = (room - 2).checked_sub(filter.len()) else {
        return Err(Error::FilterTooLong { instructions: filter.len(), most: room - 2 });
    };
    let mut patched = object.to_vec();
    let lead = [ZERO, IF_ZERO | (unused as u64) << 16];
    let unused = std::iter::repeat_n(NOTHING, unused);
    let words = lead.into_iter().chain(unused).chain(filter.iter().copied());
    for (bytes, word) in patched[start..].chunks_exact_mut(WORD).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Ok(patched)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(room: usize) -> Vec<u8> {
        let words = [1, MARK].into_iter().chain(vec![NOTHING; room]).chain([EXIT, 2]);
        words.flat_map(u64::to_le_bytes).collect()
    }

    #[test]
    fn the_running_kernels_function_is_called() {
        let Ok(btf) = Btf::read(crate::VMLINUX_BTF.as_ref()) else { return };
        let mut object = crate::attach::OBJECT.to_vec();
        let marks = |object: &[u8]| words(object).iter().filter(|&&w| w == CAST_MARK).count();
        assert!(marks(&object) > 0);
        let called = with_cast(&mut object, &btf) != 0;
        assert_eq!(marks(&object) == 0, called);
    }

    fn words(object: &[u8]) -> Vec<u64> {
        object.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
    }

    #[test]
    fn the_filter_is_at_the_end_of_its_room() {
        let patched = with_filter(&object(6), &[77, 78]).unwrap();
        let lead = IF_ZERO | 3 << 16;
        assert_eq!(words(&patched), [1, ZERO, lead, NOTHING, NOTHING, NOTHING, 77, 78, EXIT, 2]);
        assert_eq!(with_filter(&object(3), &[7, 8]).unwrap().len(), object(3).len());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(matches!(
            with_filter(&object(3), &[7, 8, 9]),
            Err(Error::FilterTooLong { instructions: 3, most: 2 })
        ));
        assert!(with_filter(&[0; 64], &[7]).is_err());
        let mut broken = object(6);
        broken[8 * 8] = 0;
        assert!(with_filter(&broken, &[7]).is_err());
    }

    #[test]
    fn the_compiled_object_has_room() {
        let room = include_str!("../bpf/filter.h")
            .lines()
            .find_map(|line| line.strip_prefix("#define FILTER_ROOM ")?.parse::<usize>().ok())
            .unwrap();
        let longest = vec![NOTHING; room - 1];
        let patched = with_filter(crate::attach::OBJECT, &longest).unwrap();
        assert_eq!(patched.len(), crate::attach::OBJECT.len());
        assert!(with_filter(crate::attach::OBJECT, &vec![NOTHING; room]).is_err());
    }
}
