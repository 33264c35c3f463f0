//! Which CPUs take over received packets (RPS, RFS) and which queue a CPU sends through (XPS), from
//! `/sys/class/net/DEVICE/queues` (`net/core/net-sysfs.c`).
//!
//! sysfs shows the devices of the namespace in which it was mounted. That is the own one as a rule,
//! and is checked by the hardware addresses; for other namespaces nothing is read, and nothing told.

use std::fs;
use std::path::Path;

use whydrop_model::QueueSteering;

use crate::collector::{Collector, Facts, Place, Read};
use crate::collectors::links;
use crate::error::Why;

pub(crate) const COLLECTOR: Collector = Collector {
    name: "queue_steering",
    what: "steering of packets to CPUs (RPS, XPS)",
    read: Read::Closing(read),
};

/// Queues that are read, those of hardware first. A host may have thousands of them on virtual
/// devices, which are rarely set up.
const MOST_QUEUES: usize = 1024;

fn read(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
    if !place.own {
        return Ok(());
    }
    let folder = place.roots.sys.join("class/net");
    let mut devices = links::named(place)?;
    devices.retain(|device| is_shown(&folder, device));
    devices
        .sort_by_key(|device| (!folder.join(&device.name).join("device").exists(), device.ifindex));
    let mut left = MOST_QUEUES;
    for device in devices {
        let queues = folder.join(&device.name).join("queues");
        let names: Vec<String> = fs::read_dir(&queues)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        let Some(now_left) = left.checked_sub(names.len()) else { break };
        left = now_left;
        let mut set: Vec<QueueSteering> =
            names.into_iter().filter_map(|name| queue(&queues, name)).collect();
        set.sort_by(|a, b| order(&a.queue).cmp(&order(&b.queue)));
        facts.steering.push((device.ifindex, set));
    }
    Ok(())
}

/// Whether the device of this name in sysfs is the same.
fn is_shown(folder: &Path, device: &links::Named) -> bool {
    let file = |name: &str| {
        let text = fs::read_to_string(folder.join(&device.name).join(name)).unwrap_or_default();
        text.trim().to_owned()
    };
    file("ifindex") == device.ifindex.to_string() && device.mac.as_deref() == Some(&file("address"))
}

/// A queue of which something is set.
fn queue(folder: &Path, name: String) -> Option<QueueSteering> {
    let file = |setting: &str| {
        // The file of a queue that cannot be set up is not there or not readable.
        let text = fs::read_to_string(folder.join(&name).join(setting)).unwrap_or_default();
        text.trim().to_owned()
    };
    let (cpus, flows) = if name.starts_with("rx-") {
        (file("rps_cpus"), file("rps_flow_cnt"))
    } else {
        (file("xps_cpus"), String::new())
    };
    let is_set = cpus.chars().any(|digit| !matches!(digit, '0' | ','));
    let cpus = if is_set { cpus } else { String::new() };
    let flow_count = flows.parse().unwrap_or(0);
    (is_set || flow_count > 0).then_some(QueueSteering { queue: name, cpus, flow_count })
}

/// `rx-2` before `rx-10`.
fn order(name: &str) -> (&str, u32) {
    let (kind, number) = name.split_once('-').unwrap_or((name, ""));
    (kind, number.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A folder that stands for `/sys/class/net` and is removed afterwards.
    struct Sysfs(PathBuf);

    impl Sysfs {
        fn new(test: &str) -> Self {
            Self(std::env::temp_dir().join(format!("wdcol-sys-{}-{test}", std::process::id())))
        }

        fn file(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for Sysfs {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn only_what_is_set_is_told() {
        let sysfs = Sysfs::new("queues");
        sysfs.file("rx-0/rps_cpus", "00000000,00000000\n");
        sysfs.file("rx-0/rps_flow_cnt", "0\n");
        sysfs.file("rx-1/rps_cpus", "00000000,0000000c\n");
        sysfs.file("rx-1/rps_flow_cnt", "4096\n");
        sysfs.file("rx-2/rps_cpus", "0\n");
        sysfs.file("rx-2/rps_flow_cnt", "512\n");
        sysfs.file("tx-0/xps_cpus", "1\n");
        sysfs.file("tx-1/tx_timeout", "0\n");
        let told = |name: &str| {
            queue(&sysfs.0, name.to_owned()).map(|queue| (queue.cpus, queue.flow_count))
        };
        assert_eq!(told("rx-0"), None);
        assert_eq!(told("rx-1"), Some(("00000000,0000000c".into(), 4096)));
        assert_eq!(told("rx-2"), Some((String::new(), 512)));
        assert_eq!(told("tx-0"), Some(("1".into(), 0)));
        assert_eq!(told("tx-1"), None, "a device of one queue has no XPS");
        assert_eq!(told("tx-2"), None);
    }

    #[test]
    fn a_device_of_the_same_name_elsewhere_is_another() {
        let sysfs = Sysfs::new("shown");
        sysfs.file("eth0/ifindex", "2\n");
        sysfs.file("eth0/address", "02:fc:00:00:00:01\n");
        let named = |ifindex, mac: Option<&str>| links::Named {
            ifindex,
            name: "eth0".into(),
            mac: mac.map(str::to_owned),
        };
        assert!(is_shown(&sysfs.0, &named(2, Some("02:fc:00:00:00:01"))));
        assert!(!is_shown(&sysfs.0, &named(2, Some("02:fc:00:00:00:02"))));
        assert!(!is_shown(&sysfs.0, &named(3, Some("02:fc:00:00:00:01"))));
        assert!(!is_shown(&sysfs.0, &named(2, None)));
    }

    #[test]
    fn queues_in_the_order_of_their_numbers() {
        let mut names = ["tx-0", "rx-10", "rx-2", "odd"];
        names.sort_by_key(|name| order(name));
        assert_eq!(names, ["odd", "rx-2", "rx-10", "tx-0"]);
    }
}
