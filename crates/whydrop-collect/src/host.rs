//! Facts about the host that do not change while it runs.

use std::fs;

use rustix::system::uname;
use whydrop_model::{Host, NotChecked};

use crate::Roots;
use crate::error::{Notes, Why};

/// The host, and what of it could not be told.
pub fn host() -> (Host, Vec<NotChecked>) {
    host_at(&Roots::default())
}

fn host_at(roots: &Roots) -> (Host, Vec<NotChecked>) {
    let mut notes = Notes::default();
    let name = uname();
    let online = roots.sys.join("devices/system/cpu/online");
    let cpus = match fs::read_to_string(&online) {
        Ok(text) => count_cpus(&text).unwrap_or_else(|| {
            notes.add("number of CPUs", "", &Why::new(format!("{} is odd", online.display())));
            1
        }),
        Err(error) => {
            notes.add("number of CPUs", "", &Why::reading(&online, &error));
            1
        }
    };
    let boot_id = roots.proc.join("sys/kernel/random/boot_id");
    let boot_id = match fs::read_to_string(&boot_id) {
        Ok(text) => Some(text.trim().to_owned()),
        Err(error) => {
            notes.add("boot id", "", &Why::reading(&boot_id, &error));
            None
        }
    };
    let host = Host {
        kernel: name.release().to_string_lossy().into_owned(),
        hostname: name.nodename().to_string_lossy().into_owned(),
        machine: name.machine().to_string_lossy().into_owned(),
        cpus,
        boot_id,
    };
    (host, notes.finish())
}

/// How many CPUs a list such as `0-3,8` names.
pub(crate) fn count_cpus(list: &str) -> Option<u32> {
    let mut count = 0_u32;
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(count_cpus("0-3,8\n"), Some(5));
        assert_eq!(count_cpus("0\n"), Some(1));
        for odd in ["", "x", "3-1", "0-4294967295", "1,"] {
            assert_eq!(count_cpus(odd), None, "{odd}");
        }
    }

    #[test]
    fn this_host_is_known() {
        let (host, not_checked) = host();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(host.kernel, release.trim());
        assert!(host.cpus >= 1);
        assert_eq!(host.boot_id.unwrap().len(), 36);
        assert_eq!(not_checked, []);
    }

    #[test]
    fn what_is_missing_is_told() {
        let roots =
            Roots { proc: "/nonexistent".into(), sys: "/nonexistent".into(), ..Roots::default() };
        let (host, not_checked) = host_at(&roots);
        assert_eq!((host.cpus, host.boot_id), (1, None));
        assert_eq!(not_checked.len(), 2);
    }
}
