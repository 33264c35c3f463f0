//! How a comparison is written: of a loaded field with a value, a range or a set.

use super::statements::verdict_text;
use super::values::{self, Form};
use super::{Element, Set};

/// Elements of a set that are written.
const ELEMENTS: usize = 16;

/// What a register holds.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) name: String,
    pub(super) form: Form,
    pub(super) length: usize,
    /// Bits that were kept.
    pub(super) mask: Option<Vec<u8>>,
    /// Of the beginning of an address: the whole length.
    pub(super) whole: Option<usize>,
}

/// A comparison with one value.
pub(super) fn comparison(loaded: &Loaded, sign: &str, value: &[u8]) -> String {
    let Loaded { name, form, mask, whole, .. } = loaded;
    let written = values::write(*form, value);
    if let Some(whole) = whole {
        let network = values::prefix(value, *whole, value.len() as u32 * 8);
        return format!("{name} {sign}{network}");
    }
    let Some(mask) = mask else { return format!("{name} {sign}{written}") };
    let zero = value.iter().all(|byte| *byte == 0);
    let kept = values::write(*form, mask);
    match (form, sign) {
        (Form::Address, _) if values::mask_length(mask).is_some() => {
            let length = values::mask_length(mask).unwrap_or(0);
            format!("{name} {sign}{}", values::prefix(value, value.len(), length))
        }
        // The lower two bits belong to another field.
        (Form::Dscp, _) if mask[..] == [0xfc] => format!("{name} {sign}{written}"),
        // Any of these bits.
        (Form::CtState | Form::CtStatus | Form::TcpFlags, "!= ") if zero => {
            format!("{name} {kept}")
        }
        (Form::CtState | Form::CtStatus | Form::TcpFlags, "") if zero => format!("{name} ! {kept}"),
        (Form::TcpFlags, _) => format!("{name} {sign}{written} / {kept}"),
        (_, "") => format!("{name} & {kept} == {written}"),
        _ => format!("{name} & {kept} {sign}{written}"),
    }
}

/// A set written in place: `{ 80, 443 }`, of a map with the verdicts.
pub(super) fn written_set(set: &Set, keys: &[Loaded]) -> String {
    let mut elements: Vec<&Element> = set.elements.iter().collect();
    elements.sort_by(|a, b| (&a.key, !a.interval_end).cmp(&(&b.key, !b.interval_end)));
    let mut written = Vec::new();
    let mut left_out = false;
    for (at, element) in elements.iter().enumerate() {
        if element.interval_end {
            continue;
        }
        if written.len() == ELEMENTS {
            left_out = true;
            break;
        }
        let end = match (&element.key_end, elements.get(at + 1)) {
            (Some(end), _) => Some(end.clone()),
            (None, Some(next)) if next.interval_end => Some(one_less(&next.key)),
            _ => None,
        };
        let mut item =
            if element.catch_all { "*".to_owned() } else { written_key(&element.key, keys) };
        if let Some(end) = end.filter(|end| *end != element.key) {
            item = format!("{item}-{}", written_key(&end, keys));
        }
        if set.to_verdicts {
            item = format!("{item} : {}", verdict_text(element.verdict.as_ref()));
        }
        written.push(item);
    }
    if left_out {
        written.push("...".to_owned());
    }
    format!("{{ {} }}", written.join(", "))
}

/// The key before: a range ends with the first key that is outside.
fn one_less(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != 0xff {
            break;
        }
    }
    key
}

/// A key, which may be several values one after another, each rounded up to four bytes.
fn written_key(key: &[u8], keys: &[Loaded]) -> String {
    if keys.len() < 2 {
        return values::write(keys.first().map_or(Form::Number, |key| key.form), key);
    }
    let mut rest = key;
    let mut parts = Vec::new();
    for loaded in keys {
        let length = loaded.length.min(rest.len());
        parts.push(values::write(loaded.form, &rest[..length]));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    parts.join(" . ")
}
