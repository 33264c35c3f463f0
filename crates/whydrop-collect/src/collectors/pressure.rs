//! `/proc/pressure`: how long tasks waited for a CPU or for memory (`kernel/sched/psi.c`). Once for
//! the host. Absent without `CONFIG_PSI`, and where it is off.

use crate::collector::{Collector, Facts, Place, Read};
use crate::error::Why;

pub(crate) const COLLECTOR: Collector =
    Collector { name: "pressure", what: "pressure on CPU and memory", read: Read::Host(read) };

/// What tasks wait for.
const RESOURCES: [&str; 2] = ["cpu", "memory"];

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    for resource in RESOURCES {
        let Some(text) = place.proc(&format!("pressure/{resource}"))? else { continue };
        facts.pressure.extend(text.lines().filter_map(|line| parse(resource, line)));
    }
    Ok(())
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=1234`, with microseconds since boot.
pub(crate) fn parse(resource: &str, line: &str) -> Option<(String, u64)> {
    let mut words = line.split_ascii_whitespace();
    let share = words.next()?;
    let total = words.find_map(|word| word.strip_prefix("total="))?.parse().ok()?;
    Some((format!("{resource}.{share}"), total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn totals_by_resource() {
        let pressure = fixture::read("linux-6.18", read).unwrap().pressure;
        let names: Vec<&str> = pressure.iter().map(|it| it.0.as_str()).collect();
        assert_eq!(names, ["cpu.some", "cpu.full", "memory.some", "memory.full"]);
        assert!(pressure[0].1 > 0);
        assert!(fixture::read("empty", read).unwrap().pressure.is_empty(), "a kernel without it");
    }

    #[test]
    fn other_lines_are_skipped() {
        assert_eq!(parse("cpu", "some total=7 new=1"), Some(("cpu.some".into(), 7)));
        for line in ["", "some", "some avg10=1", "some total=x", "some total=-1"] {
            assert_eq!(parse("cpu", line), None, "{line}");
        }
    }
}
