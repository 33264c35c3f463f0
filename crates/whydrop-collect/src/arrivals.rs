//! Whether packets come into this host at all.

use crate::Roots;
use crate::collectors::softnet_stat::{self, Taken};
use crate::kept::Kept;

/// What the CPUs took in, from one question to the next. The loopback's packets are among it; those
/// that are only sent are not.
#[derive(Debug)]
pub struct Arrivals {
    table: Kept,
    before: Vec<Taken>,
}

impl Arrivals {
    /// Nothing is read before the first question.
    #[must_use]
    pub fn new(roots: &Roots) -> Self {
        let table = Kept::new(roots.proc.join("thread-self/net/softnet_stat"));
        Self { table, before: Vec::new() }
    }

    /// True if a packet came in since the question before, or if nobody knows.
    pub fn any(&mut self) -> bool {
        let now: Vec<Taken> = match self.table.read() {
            Ok(Some(text)) => {
                softnet_stat::rows(&text).map(|row| softnet_stat::taken(&row)).collect()
            }
            Ok(None) | Err(_) => Vec::new(),
        };
        let same = !now.is_empty() && now == self.before;
        self.before = now;
        !same
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fixture;

    #[test]
    fn only_a_host_that_tells_so_is_without_packets() {
        let folder = tempfile::tempdir().unwrap();
        let tables = folder.path().join("thread-self/net");
        fs::create_dir_all(&tables).unwrap();
        let roots = Roots { proc: folder.path().into(), ..fixture::roots("linux-6.18") };
        let mut arrivals = Arrivals::new(&roots);
        assert!(arrivals.any() && arrivals.any(), "there is no table");
        let mut any = |text: &str| {
            fs::write(tables.join("softnet_stat"), text).unwrap();
            arrivals.any()
        };
        assert!(any("5 0 0 0 0 0 0 0 0\n"), "the first time");
        assert!(!any("5 0 7 0 0 0 0 0 0\n"));
        assert!(any("6 0 7 0 0 0 0 0 0\n"));
        assert!(any("6 1 7 0 0 0 0 0 0\n"), "one that the backlog dropped came in too");
        assert!(!any("6 1 7 0 0 0 0 0 0\n"));
        assert!(any(""), "not understood");
    }
}
