//! Every kind of setting that can be written: made, read back, undone exactly; and what a device does
//! not have.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use whydrop_collect::Roots;
use whydrop_cure::{Changes, plan};
use whydrop_model::{Answer, CardSetting, Cure, LinkAttribute, NetnsRef, Proposal, Target, Write};

use crate::stage::{Stage, cure};

/// What a command prints.
fn printed(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Two devices with four queues each, of which one has a queue of a kind with a limit; false, and said,
/// if this kernel does not have the kind.
fn devices(stage: &Stage, qdisc: &str) -> bool {
    stage.within(|| {
        for line in [
            "ip link add v0 numrxqueues 4 numtxqueues 4 type veth peer name v1",
            "ip link set v0 up",
            "ip link set v1 up",
        ] {
            printed(line);
        }
        let line = format!("qdisc replace dev v0 root handle 1: {qdisc}");
        let output = Command::new("tc").args(line.split(' ')).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() || told.contains("kind is unknown"), "{qdisc}: {told}");
        if !output.status.success() {
            eprintln!("skipped: {qdisc}: {told}");
        }
        output.status.success()
    })
}

/// What tells of all that is changed here.
fn settings(stage: &Stage) -> String {
    let lines = ["ip -details link show dev v0", "tc qdisc show dev v0", "ethtool -l v0"];
    let mut text = stage.within(|| lines.map(printed).concat());
    // Another mount of sysfs than that of the program under test.
    let queues = "mount -t sysfs none /sys && cat /sys/class/net/v0/queues/rx-0/rps_cpus \
                  /sys/class/net/v0/queues/tx-1/xps_cpus";
    text.push_str(&stage.within(|| {
        let output = Command::new("unshare").args(["-m", "sh", "-c", queues]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }));
    text
}

fn proposal(cure: &Cure) -> &Proposal {
    match &cure.answer {
        Answer::Change(proposal) => proposal,
        other => panic!("{other:?}"),
    }
}

fn v0() -> String {
    "v0".into()
}

fn limit_of(qdisc: &str) -> Target {
    let parent = "root".into();
    Target::QdiscLimit { device: v0(), qdisc: qdisc.into(), handle: "1:".into(), parent }
}

#[test]
fn each_kind_of_setting_is_made_and_undone() {
    let Some(stage) = Stage::set() else { return };
    let link = |attribute| Target::Link { device: v0(), attribute };
    let cpus = |queue: &str| Target::QueueCpus { device: v0(), queue: queue.into() };
    let card = |setting| Target::Card { device: v0(), setting };
    let cases = [
        ("pfifo limit 10", link(LinkAttribute::State), "down", "up"),
        ("pfifo limit 10", link(LinkAttribute::Mtu), "1400", "1500"),
        ("pfifo limit 10", link(LinkAttribute::TxQueueLen), "77", "1000"),
        ("pfifo limit 10", card(CardSetting::RxQueues), "2", "4"),
        ("pfifo limit 10", card(CardSetting::TxQueues), "3", "4"),
        ("pfifo limit 10", cpus("rx-0"), "1", "0"),
        ("pfifo limit 10", cpus("tx-1"), "1", "0"),
        ("pfifo limit 10", limit_of("pfifo"), "20", "10"),
        ("bfifo limit 10000", limit_of("bfifo"), "20000", "10000"),
        ("fq limit 10", limit_of("fq"), "20", "10"),
        ("fq_codel limit 10", limit_of("fq_codel"), "20", "10"),
        ("tbf rate 8mbit burst 5000 limit 10000", limit_of("tbf"), "20000", "10000"),
    ];
    let mut number = 0;
    for (qdisc, target, new, old) in cases {
        if !devices(&stage, qdisc) {
            stage.within(|| printed("ip link del v0"));
            continue;
        }
        number += 1;
        let before = settings(&stage);
        let what = target.to_string();
        let write = Write { netns: stage.netns(), target, old: None, new: new.into() };
        let cure = cure(vec![write]);
        let planned = plan(&Roots::default(), proposal(&cure)).unwrap();
        assert_eq!(planned[0].now, old, "{what}");
        let changes = stage.changes();
        let record = changes.apply(&cure, "a change", &planned, &mut |_| {}).unwrap();
        assert_eq!(record.writes[0].became.as_deref(), Some(new), "{what}");
        assert_ne!(settings(&stage), before, "{what}");
        let (_, undone) = changes.undo(number, false, &mut |_| {}).unwrap();
        assert_eq!(undone.restored, [format!("{what} = {old}")]);
        assert_eq!(settings(&stage), before, "{what}");
        stage.within(|| printed("ip link del v0"));
    }
}

#[test]
fn what_a_device_does_not_have_is_refused_in_one_line() {
    let Some(stage) = Stage::set() else { return };
    assert!(devices(&stage, "pfifo limit 10"));
    let refused = |target| {
        let write = Write { netns: stage.netns(), target, old: None, new: "8".into() };
        plan(&Roots::default(), proposal(&cure(vec![write]))).unwrap_err().to_string()
    };
    let ring = Target::Card { device: v0(), setting: CardSetting::RxRing };
    let told = "cannot read receive ring of v0: its driver has no such setting";
    assert_eq!(refused(ring), told);
    let queues = Target::Card { device: v0(), setting: CardSetting::CombinedQueues };
    assert_eq!(refused(queues), "cannot read queues of v0: the driver does not tell it");
    let queue = Target::QueueCpus { device: v0(), queue: "rx-9".into() };
    assert_eq!(
        refused(queue),
        "cannot read CPUs of queue rx-9 of v0: there is no such device or queue"
    );
    // Nine queues are more than the four it was made with.
    let write = Write {
        netns: stage.netns(),
        target: Target::Card { device: v0(), setting: CardSetting::RxQueues },
        old: None,
        new: "9".into(),
    };
    let (before, cure) = (settings(&stage), cure(vec![write]));
    let planned = plan(&Roots::default(), proposal(&cure)).unwrap();
    let failed = stage.changes().apply(&cure, "a change", &planned, &mut |_| {}).unwrap_err();
    let told = "cannot set receive queues of v0 to 9: its driver allows 4 at most; everything is as it \
                was before";
    assert_eq!((failed.to_string().as_str(), settings(&stage)), (told, before));
}

#[test]
fn what_vanished_needs_no_undo() {
    let Some(stage) = Stage::set() else { return };
    assert!(devices(&stage, "pfifo limit 10"));
    let write =
        |target, new: &str| Write { netns: stage.netns(), target, old: None, new: new.into() };
    let cure = cure(vec![
        write(limit_of("pfifo"), "20"),
        write(Target::Link { device: v0(), attribute: LinkAttribute::Mtu }, "1400"),
        write(Target::QueueCpus { device: v0(), queue: "rx-0".into() }, "1"),
        write(Target::Card { device: v0(), setting: CardSetting::RxQueues }, "2"),
        write(Target::Sysctl { name: "net.ipv4.conf.v0.rp_filter".into() }, "2"),
    ]);
    let changes: Changes = stage.changes();
    let planned = plan(&Roots::default(), proposal(&cure)).unwrap();
    let record = changes.apply(&cure, "a change", &planned, &mut |_| {}).unwrap();
    assert_eq!(record.writes.len(), 5);
    stage.within(|| printed("ip link del v0"));
    let (record, undone) = changes.undo(1, false, &mut |_| {}).unwrap();
    assert_eq!((undone.gone.len(), undone.restored.len()), (5, 0), "{undone:?}");
    assert_eq!(record.state, whydrop_cure::State::Undone);
}

/// Settings that the host has once for all, which are not to be changed here: a mount namespace of the
/// test's own shows files in their places.
const GLOBAL: [&str; 6] = [
    "net.netfilter.nf_conntrack_buckets",
    "net.netfilter.nf_conntrack_max",
    "net.ipv4.neigh.default.gc_thresh3",
    "net.ipv4.neigh.default.gc_thresh2",
    "net.ipv4.neigh.default.gc_thresh1",
    "net.core.netdev_max_backlog",
];

#[test]
fn settings_of_the_host_are_made_kept_and_undone() {
    let Some(stage) = Stage::set() else { return };
    let path = |name: &str| format!("/proc/sys/{}", name.replace('.', "/"));
    let value = |name: &&'static str| {
        let text = fs::read_to_string(path(name)).ok()?;
        Some((*name, text.trim().parse::<u64>().unwrap()))
    };
    // What comes with a module may not be there.
    let there: Vec<_> = GLOBAL.iter().filter_map(value).collect();
    assert!(there.len() >= 4, "{there:?}");
    let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
    let netns = NetnsRef { inode: Some(own), name: None };
    let write = |(name, now): &(&str, u64)| Write {
        netns: netns.clone(),
        target: Target::Sysctl { name: (*name).into() },
        old: Some(now.to_string()),
        new: (now * 2).to_string(),
    };
    let cure = cure(there.iter().map(write).collect());
    let folder = stage.folder.path().display().to_string();
    let paths: Vec<_> = there.iter().map(|(name, _)| path(name)).collect();
    let mounts = paths.iter().zip(&there).map(|(path, (name, _))| {
        format!("cat {path} > {folder}/{name}; mount --bind {folder}/{name} {path};")
    });
    let cat = format!("cat {}", paths.join(" "));
    let script = format!(
        "{} {cat} > {folder}/before; \"$@\"; {cat} > {folder}/applied; ls {folder}/tree/etc/sysctl.d > \
         {folder}/kept; WHYDROP_TEST_MODE=undo \"$@\"; {cat} > {folder}/undone",
        mounts.collect::<String>()
    );
    let real = || GLOBAL.map(|name| fs::read_to_string(path(name)).unwrap_or_default());
    let untouched = real();
    let wrapper = ["unshare", "-m", "sh", "-e", "-c", &script, "sh"];
    let output = stage.changes_by(&cure, "keep", usize::MAX, &wrapper);
    assert!(output.status.success(), "{output:?}");
    let told = |name: &str| fs::read_to_string(stage.folder.path().join(name)).unwrap();
    let twice: Vec<_> = there.iter().map(|(_, now)| (now * 2).to_string()).collect();
    assert_eq!(told("applied").split_whitespace().collect::<Vec<_>>(), twice);
    assert_eq!(told("kept").lines().count(), there.len());
    // A file that stands for a sysctl keeps what was behind a shorter value: the end of its line.
    let words = |name| told(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words("undone"), words("before"));
    assert_eq!(stage.files().len(), 0);
    assert_eq!(real(), untouched, "nothing of the host was touched");
}
