//! Numbers in few columns.

use std::time::Duration;

/// A count with thousands set apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate in at most six columns.
pub(super) fn rate(per_second: f64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    let mut value = per_second;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(value < 9.95 && (unit > 0 || value > 0.0));
    format!("{value:.decimals$}{}", UNITS[unit])
}

/// A stretch of time.
pub(super) fn seconds(length: Duration) -> String {
    let whole = length.as_secs();
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_true() {
        assert_eq!([count(0), count(999), count(1000)], ["0", "999", "1,000"]);
        assert_eq!(count(12_345_678), "12,345,678");
        assert_eq!([rate(0.0), rate(0.5), rate(9.96), rate(999.4)], ["0", "0.5", "10", "999"]);
        assert_eq!([rate(999.6), rate(12_345.0), rate(5e5)], ["1.0k", "12k", "500k"]);
        assert_eq!(rate(2.345e6), "2.3M");
        let texts = [9, 75, 7260].map(|length| seconds(Duration::from_secs(length)));
        assert_eq!(texts, ["9 s", "1 min 15 s", "2 h 01 min"]);
    }
}
