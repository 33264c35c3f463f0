//! The clock by which the programs in the kernel tell the time. Knows nothing of the time of day.

use std::fs;
use std::sync::LazyLock;

use rustix::time::{ClockId, clock_gettime};

/// How far the own `CLOCK_MONOTONIC` is ahead of the host's, in nanoseconds: not at all, unless this
/// process is in a time namespace.
static AHEAD: LazyLock<i128> = LazyLock::new(|| {
    let offsets = fs::read_to_string("/proc/self/timens_offsets");
    offsets.ok().and_then(|text| ahead(&text)).unwrap_or(0)
});

/// Now, in nanoseconds of the host's `CLOCK_MONOTONIC`, which is that of `bpf_ktime_get_ns()` in
/// whatever time namespace this process is (`kernel/bpf/helpers.c`, 6.18).
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let own = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    u64::try_from(own - *AHEAD).unwrap_or(0)
}

/// The offset in lines such as `monotonic   -60   0`: seconds and nanoseconds, as
/// `proc_timens_show_offsets()` writes them (`kernel/time/namespace.c`, 6.18).
fn ahead(offsets: &str) -> Option<i128> {
    let line = offsets.lines().find_map(|line| line.strip_prefix("monotonic"))?;
    let mut numbers = line.split_whitespace().map(str::parse::<i128>);
    let (seconds, nanos) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(seconds * 1_000_000_000 + nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_a_time_namespace() {
        let text = "monotonic           -60         5\nboottime              0         0\n";
        assert_eq!(ahead(text), Some(-59_999_999_995));
        assert_eq!(ahead("monotonic 0 0\nboottime 9 9\n"), Some(0));
        for odd in ["", "boottime 1 1", "monotonic", "monotonic x y", "monotonic 1"] {
            assert_eq!(ahead(odd), None, "{odd}");
        }
    }

    #[test]
    fn it_goes_forwards() {
        let earlier = monotonic_ns();
        assert!(monotonic_ns() >= earlier && earlier > 0);
    }
}
