//! Namespaces that go with this process, however it ends.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Waits for its standard input to end, which it does with this process, and deletes every namespace
/// of the prefix. In a session of its own, so that Ctrl-C does not end it first.
const SCRIPT: &str = "cat > /dev/null; cd /run/netns || exit 0; \
     ls | grep \"^$1\" | sed 's/^/netns delete /' | ip -batch -";

/// Makes namespaces; deletes them when dropped, or killed.
pub(super) struct Janitor {
    prefix: String,
    child: Child,
}

impl Janitor {
    /// `tag` tells its namespaces from those of others in this run.
    pub(super) fn hire(tag: &str) -> Result<Self> {
        let prefix = format!("whydrop-bench-{}-{tag}-", std::process::id());
        let child = Command::new("setsid")
            .args(["sh", "-c", SCRIPT, "sh", &prefix])
            .stdin(Stdio::piped())
            .spawn()
            .context("starting what cleans up")?;
        Ok(Self { prefix, child })
    }

    /// The name of a namespace.
    pub(super) fn name(&self, role: impl std::fmt::Display) -> String {
        format!("{}{role}", self.prefix)
    }

    /// Adds namespaces of these roles, with nothing in them.
    pub(super) fn add(&self, roles: impl Iterator<Item = usize>) -> Result<()> {
        let lines: Vec<String> =
            roles.map(|role| format!("netns add {}\n", self.name(role))).collect();
        let mut ip = Command::new("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .context("starting ip")?;
        let stdin = ip.stdin.take().context("ip reads nothing")?;
        { stdin }.write_all(lines.concat().as_bytes())?;
        let status = ip.wait()?;
        if !status.success() {
            bail!("ip -batch: {status}");
        }
        Ok(())
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // Nothing can be done about a namespace that stays.
        let _ = self.child.wait();
    }
}
