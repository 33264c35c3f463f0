//! The form of `/proc/interrupts` and `/proc/softirqs`: a line that names the CPUs, then rows with a
//! label, a count for each of these CPUs, and perhaps words. Decides nothing.
//!
//! ```text
//!            CPU0       CPU1
//!  38:          0       4307  PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0
//! ```

/// The CPUs that the first line names. Offline ones are missing.
pub(crate) fn cpus(heads: &str) -> Vec<u32> {
    let number = |word: &str| word.strip_prefix("CPU")?.parse().ok();
    heads.split_ascii_whitespace().map_while(number).collect()
}

/// The counts of a row, one for each CPU, and what follows them; `None` if there are fewer.
pub(crate) fn counts(row: &str, cpus: usize) -> Option<(Vec<u64>, &str)> {
    let mut rest = row;
    let mut counts = Vec::with_capacity(cpus);
    for _ in 0..cpus {
        rest = rest.trim_ascii_start();
        let end = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
        counts.push(rest[..end].parse().ok()?);
        rest = &rest[end..];
    }
    Some((counts, rest.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_rows() {
        assert_eq!(cpus("     CPU0    CPU2 "), [0, 2]);
        assert_eq!(cpus("CPU0 noise CPU2"), [0]);
        assert_eq!(cpus(""), [0; 0]);
        assert_eq!(
            counts("  0  4307  IO-APIC 1-edge x", 2),
            Some((vec![0, 4307], "IO-APIC 1-edge x"))
        );
        assert_eq!(counts(" 3 4", 2), Some((vec![3, 4], "")));
        assert_eq!(counts(" 3", 2), None);
        assert_eq!(counts(" 3 x", 2), None);
        assert_eq!(counts("", 0), Some((vec![], "")));
    }
}
