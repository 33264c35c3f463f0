//! Where the kernel's files are found.
//!
//! Nothing else in this crate names `/proc`, `/sys`, `/run` or `/var`, so that a test can put a folder of
//! recorded files in their place. Holds paths only and opens nothing.

use std::path::PathBuf;

/// The folders that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
    /// `/lib/modules`.
    pub modules: PathBuf,
    /// `/run/netns`: namespaces made by `ip netns add`; its file names are the names that
    /// `ip netns exec` takes.
    pub netns: PathBuf,
    /// `/run/docker/netns`: namespaces made by Docker.
    pub docker_netns: PathBuf,
    /// `/var/log`: the kubelet's links to logs tell the names of pods.
    pub log: PathBuf,
}

impl Roots {
    /// The file of a sysctl. A dot inside a name, as of a VLAN device, is written as a slash, as
    /// sysctl(8) has it: `net.ipv4.conf.eth0/10.rp_filter`.
    #[must_use]
    pub fn sysctl(&self, name: &str) -> PathBuf {
        let swapped: String = name
            .chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect();
        self.proc.join("sys").join(swapped)
    }
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
            modules: "/lib/modules".into(),
            netns: "/run/netns".into(),
            docker_netns: "/run/docker/netns".into(),
            log: "/var/log".into(),
        }
    }
}
