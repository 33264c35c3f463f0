//! An ordinary user sees less, is told what, and nothing fails.

use std::fs;
use std::net::TcpListener;
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use whydrop_collect::{Options, Watch};

use crate::netns::{Netns, Running, find, wait_for};
use crate::root;

const NAME: &str = "unprivileged::an_ordinary_user_sees_less_and_is_told_what";

/// As root this makes a namespace to be refused at, and runs itself again as `nobody`.
#[test]
fn an_ordinary_user_sees_less_and_is_told_what() {
    if !rustix::process::geteuid().is_root() {
        look_as_ordinary_user();
        return;
    }
    let Some(_turn) = root() else { return };
    let netns = Netns::new("closed");
    let _resident = Command::new("ip")
        .args(["netns", "exec", &netns.0, "sleep", "600"])
        .spawn()
        .map(Running)
        .unwrap();
    // The build's folder need not be open to others.
    let folder = std::env::temp_dir().join(&netns.0);
    fs::create_dir(&folder).unwrap();
    let program = folder.join("kernel");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [&folder, &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args([program.as_os_str(), NAME.as_ref(), "--exact".as_ref(), "--nocapture".as_ref()])
        .env("WDCOL_CLOSED", &netns.0)
        .current_dir("/")
        .output()
        .unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}{error}");
    assert!(printed.contains("1 passed"), "{printed}");
}

fn look_as_ordinary_user() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sleeper =
        Command::new("unshare").args(["-r", "-n", "sleep", "600"]).spawn().map(Running).unwrap();
    let inode = |pid: u32| fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|it| it.st_ino());
    let own = inode(std::process::id());
    wait_for("the process to leave", Duration::from_secs(5), || {
        inode(sleeper.pid()).is_some_and(|inode| Some(inode) != own)
    });

    let observation = Watch::open(Options::default()).unwrap().close();
    let here = &observation.namespaces[0];
    assert!(here.own);
    assert!(here.counters.contains_key("TcpExt.ListenOverflows"));
    assert!(here.sysctl("net.core.somaxconn").is_some());
    assert!(here.links.iter().any(|link| link.name == "lo"));
    let mine = here.listeners.iter().find(|listener| listener.port == port).unwrap();
    assert_eq!(mine.owners[0].pid, std::process::id());
    assert!(!observation.softnet.is_empty());

    // The own child's namespace may be seen from outside, not entered.
    let child = find(&observation, inode(sleeper.pid()).unwrap());
    assert!(child.counters.contains_key("Tcp.InSegs"));
    assert!(child.links.is_empty() && child.sysctls.is_empty());

    let told = |what: &str, why: &str| {
        observation.not_checked.iter().any(|it| it.what.contains(what) && it.why.contains(why))
    };
    let all = &observation.not_checked;
    assert!(told("network devices", "needs CAP_SYS_ADMIN or root"), "{all:?}");
    if let Ok(closed) = std::env::var("WDCOL_CLOSED") {
        assert!(told("network namespaces without a name", "needs root"), "{all:?}");
        assert!(told("everything in network namespace", "needs CAP_SYS_ADMIN or root"), "{all:?}");
        let options = Options { netns: vec![closed.clone()], ..Options::default() };
        let observation = Watch::open(options).unwrap().close();
        assert_eq!(observation.namespaces, []);
        assert_eq!(observation.not_checked.len(), 1, "{:?}", observation.not_checked);
    }
}
