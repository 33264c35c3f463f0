//! Bytes changed at random are rarely a document: most changes are made to the values of one.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use serde_json::{Map, Value};

fuzz_target!(|data: &[u8]| whydrop::fuzz::evidence(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut chance = Chance(u64::from(seed) | 1 << 40);
    let changed = match serde_json::from_slice(&data[..size]) {
        Ok(document) if chance.of(8) > 0 => change(document, &mut chance),
        _ => None,
    };
    match changed {
        Some(text) if text.len() <= max_size => {
            data[..text.len()].copy_from_slice(&text);
            text.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
});

/// Numbers that follow from libFuzzer's one.
struct Chance(u64);

impl Chance {
    fn of(&mut self, many: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % many.max(1)
    }
}

fn change(mut document: Value, chance: &mut Chance) -> Option<Vec<u8>> {
    for _ in 0..=chance.of(4) {
        let mut count = 0;
        at(&mut document, &mut count, usize::MAX, &mut |_| {});
        let wanted = chance.of(count);
        at(&mut document, &mut 0, wanted, &mut |value| change_value(value, chance));
    }
    serde_json::to_vec(&document).ok()
}

/// Walks all values, and calls `act` with that of a number.
fn at(value: &mut Value, count: &mut usize, wanted: usize, act: &mut dyn FnMut(&mut Value)) {
    if *count == wanted {
        act(value);
    }
    *count += 1;
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| at(item, count, wanted, act)),
        Value::Object(fields) => {
            fields.values_mut().for_each(|field| at(field, count, wanted, act))
        }
        _ => {}
    }
}

fn change_value(value: &mut Value, chance: &mut Chance) {
    const NUMBERS: [u64; 9] = [0, 1, 2, 255, 65_535, u32::MAX as u64, 1 << 40, 1 << 53, u64::MAX];
    const TEXTS: [&str; 6] = ["", "eth0", "::1", "0.0.0.0", "a\u{1b}[2J\r\n\u{202e}", "NO_SOCKET"];
    match value {
        Value::Number(number) => {
            let old = number.as_u64().unwrap_or(7);
            *value = match chance.of(5) {
                0 => old.wrapping_add(1).into(),
                1 => old.saturating_mul(1000).into(),
                2 => (chance.of(1000) as f64 / 8.0).into(),
                _ => NUMBERS[chance.of(NUMBERS.len())].into(),
            };
        }
        Value::String(_) => *value = TEXTS[chance.of(TEXTS.len())].into(),
        Value::Bool(said) => *said = !*said,
        Value::Null => *value = chance.of(100).into(),
        Value::Array(items) => {
            let one = chance.of(items.len());
            match (items.get(one).cloned(), chance.of(2)) {
                (Some(item), 0) => items.push(item),
                (Some(_), _) => drop(items.remove(one)),
                (None, _) => items.push(Value::Object(Map::new())),
            }
        }
        Value::Object(fields) => {
            let name = fields.keys().nth(chance.of(fields.len())).cloned();
            if let Some(name) = name.filter(|_| chance.of(3) == 0) {
                fields.remove(&name);
            }
        }
    }
}
