//! Settings of network cards: a udev rule for each in `/etc/udev/rules.d`.
//!
//! Not a `.link` file of systemd: of those only the first that matches a device counts (systemd.link(5)),
//! so one of ours would take the device's name away, or be ignored. A rule only adds to what is there. It
//! names the card by its address, since names may change at boot, and wants a driver, since VLANs of the
//! card have the same address.

use std::path::{Path, PathBuf};

use whydrop_model::{CardSetting, LinkAttribute, Target};

use super::{Persistent, contents, read};
use crate::error::Error;
use crate::record::{RecordedFile, RecordedWrite};

const FOLDER: &str = "etc/udev/rules.d";
const ETHTOOL: [&str; 2] = ["usr/sbin/ethtool", "sbin/ethtool"];

/// Adds the rule that keeps a setting, or says why there is none. What is no setting of a card is left
/// alone.
pub(super) fn keep(
    root: &Path,
    write: &RecordedWrite,
    why: &[String],
    persistent: &mut Persistent,
) -> Result<(), Error> {
    let value = write.became.as_ref().unwrap_or(&write.new);
    let Some((device, setting, action)) = action(root, &write.target, value) else { return Ok(()) };
    let card = root.join("sys/class/net").join(device);
    let mut not_kept = |why: &str| {
        persistent.notes.push(format!("{} is not kept beyond a reboot: {why}", write.target));
    };
    let address = read(&card.join("address"))?.map(|text| text.trim().to_owned());
    let Some(address) = address.filter(|_| card.join("device").exists()) else {
        not_kept("the device is no hardware, so whatever makes it has to set it");
        return Ok(());
    };
    let Some(action) = action else {
        not_kept("ethtool is not installed, which would have to set it at boot");
        return Ok(());
    };
    let rule = format!(
        "ACTION==\"add\", SUBSYSTEM==\"net\", DRIVERS==\"?*\", ATTR{{address}}==\"{address}\", {action}"
    );
    let path = root.join(FOLDER).join(format!("90-whydrop-{device}-{setting}.rules"));
    let before = read(&path)?;
    if !before.as_ref().is_some_and(|text| text.lines().any(|line| line == rule)) {
        persistent.files.push(RecordedFile { path, before, after: contents(&rule, why) });
    }
    Ok(())
}

/// The device, a name for the setting, and what a rule does to set it; that is `None` for want of the
/// program that does it.
fn action<'t>(
    root: &Path,
    target: &'t Target,
    value: &str,
) -> Option<(&'t str, String, Option<String>)> {
    let attribute = |name: &str| Some(format!("ATTR{{{name}}}=\"{value}\""));
    match target {
        Target::Card { device, setting } => {
            let (name, option, which) = match setting {
                CardSetting::RxRing => ("rx-ring", "-G", "rx"),
                CardSetting::TxRing => ("tx-ring", "-G", "tx"),
                CardSetting::RxQueues => ("rx-queues", "-L", "rx"),
                CardSetting::TxQueues => ("tx-queues", "-L", "tx"),
                CardSetting::CombinedQueues => ("queues", "-L", "combined"),
            };
            let program = ETHTOOL.into_iter().find(|path| root.join(path).exists());
            let program = program.map(|path| PathBuf::from("/").join(path));
            // `$name` is the name that the card has got by then.
            let run = program
                .map(|path| format!("RUN+=\"{} {option} $name {which} {value}\"", path.display()));
            Some((device, name.into(), run))
        }
        Target::QueueCpus { device, queue } => {
            let file = if queue.starts_with("rx-") { "rps_cpus" } else { "xps_cpus" };
            let attribute = attribute(&format!("queues/{queue}/{file}"));
            Some((device, format!("{queue}-cpus"), attribute))
        }
        Target::Link { device, attribute: LinkAttribute::Mtu } => {
            Some((device, "mtu".into(), attribute("mtu")))
        }
        Target::Link { device, attribute: LinkAttribute::TxQueueLen } => {
            Some((device, "txqueuelen".into(), attribute("tx_queue_len")))
        }
        Target::Link { attribute: LinkAttribute::State, .. }
        | Target::Sysctl { .. }
        | Target::Backlog(_)
        | Target::ReceiveBuffer(_)
        | Target::QdiscLimit { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use whydrop_model::NetnsRef;

    use super::*;
    use crate::persist::{persistent, restore, write};

    fn recorded(target: Target, new: &str) -> Vec<RecordedWrite> {
        vec![RecordedWrite {
            netns: NetnsRef { inode: None, name: None },
            target,
            old: "256".into(),
            new: new.into(),
            became: None,
        }]
    }

    fn root(with: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let card = root.path().join("sys/class/net/eth0");
        fs::create_dir_all(&card).unwrap();
        fs::write(card.join("address"), "02:00:00:00:00:01\n").unwrap();
        for path in with {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    #[test]
    fn each_setting_has_a_rule_that_finds_the_card_by_its_address() {
        let root = root(&["sys/class/net/eth0/device", "usr/sbin/ethtool"]);
        let device = || "eth0".to_owned();
        let card = |setting| Target::Card { device: device(), setting };
        let link = |attribute| Target::Link { device: device(), attribute };
        for (target, new, name, action) in [
            (
                card(CardSetting::RxRing),
                "1024",
                "rx-ring",
                "RUN+=\"/usr/sbin/ethtool -G $name rx 1024\"",
            ),
            (
                card(CardSetting::CombinedQueues),
                "4",
                "queues",
                "RUN+=\"/usr/sbin/ethtool -L $name combined 4\"",
            ),
            (
                Target::QueueCpus { device: device(), queue: "rx-0".into() },
                "d",
                "rx-0-cpus",
                "ATTR{queues/rx-0/rps_cpus}=\"d\"",
            ),
            (link(LinkAttribute::TxQueueLen), "2000", "txqueuelen", "ATTR{tx_queue_len}=\"2000\""),
        ] {
            let found = persistent(root.path(), &recorded(target.clone(), new), &["why".into()]);
            let found = found.unwrap();
            let [file] = &found.files[..] else { panic!("{found:?}") };
            let path = root.path().join(format!("{FOLDER}/90-whydrop-eth0-{name}.rules"));
            assert_eq!((&file.path, &file.before), (&path, &None));
            let rule = "ACTION==\"add\", SUBSYSTEM==\"net\", DRIVERS==\"?*\", \
                        ATTR{address}==\"02:00:00:00:00:01\", ";
            assert!(file.after.ends_with(&format!("# why\n{rule}{action}\n")), "{}", file.after);
            write(file).unwrap();
            let again = persistent(root.path(), &recorded(target, new), &[]).unwrap();
            assert_eq!(again, Persistent::default(), "nothing the second time");
            assert!(restore(file, false).unwrap() && !path.exists());
        }
    }

    #[test]
    fn what_cannot_be_kept_is_told() {
        let target = Target::Card { device: "eth0".into(), setting: CardSetting::RxRing };
        let told = |root: tempfile::TempDir| {
            let found = persistent(root.path(), &recorded(target.clone(), "1"), &[]).unwrap();
            assert!(found.files.is_empty());
            found.notes.join("")
        };
        assert!(told(root(&["usr/sbin/ethtool"])).contains("no hardware"));
        assert!(told(root(&["sys/class/net/eth0/device"])).contains("ethtool is not installed"));
    }
}
