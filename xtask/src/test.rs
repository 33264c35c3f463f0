//! `cargo xtask test`: everything that the tests need, then all of them.
//!
//! Tests that need root or a kernel feature skip themselves and say so; nothing is filtered here.

use std::path::Path;

use anyhow::Result;

use crate::command::{self, cargo};
use crate::debian::{self, Tool};

/// What the tests need beyond the Rust toolchain.
const TOOLS: &[Tool] = &[
    Tool {
        program: "ip",
        package: "iproute2",
        purpose: "the network namespaces of the real-kernel tests",
    },
    Tool {
        program: "bpftool",
        package: "bpftool",
        purpose: "a second opinion on the kernel's types and programs",
    },
    Tool { program: "ethtool", package: "ethtool", purpose: "a second opinion on network cards" },
    Tool { program: "ping", package: "iputils-ping", purpose: "echo requests in tests" },
    Tool { program: "conntrack", package: "conntrack", purpose: "a second opinion on conntrack" },
    Tool { program: "nft", package: "nftables", purpose: "rules that drop packets in tests" },
    Tool {
        program: "iptables-legacy",
        package: "iptables",
        purpose: "rules of the older packet filter",
    },
    Tool { program: "tcpdump", package: "tcpdump", purpose: "a second opinion on filters" },
    Tool { program: "tmux", package: "tmux", purpose: "a terminal for `whydrop top`" },
    Tool { program: "bpftrace", package: "bpftrace", purpose: "a second opinion on drops" },
    Tool { program: "perf", package: "linux-perf", purpose: "a third opinion on drops" },
    Tool { program: "tshark", package: "tshark", purpose: "a second opinion on capture files" },
    Tool { program: "sysctl", package: "procps", purpose: "settings of test namespaces" },
];

/// Runs the task.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    crate::no_arguments("test", arguments)?;
    for tool in debian::ensure(TOOLS)? {
        println!("going on without {}: tests that need it fail or skip themselves", tool.program);
    }
    if !debian::is_root() {
        println!("not root: the real-kernel tests skip themselves and say so");
    }
    // The real-kernel tests drive the program itself.
    command::run(cargo().current_dir(root).args(["build", "--package", "whydrop"]))?;
    // One test at a time: the real-kernel tests share one kernel and two of its global resources,
    // the drop tracepoint and the CPUs whose queues they overflow. Cargo runs the test binaries one
    // after another anyway, and the tests that could run together take less than a second in all.
    // Not captured, so that a test that skips itself is seen to say so.
    command::run(cargo().current_dir(root).args([
        "test",
        "--workspace",
        "--no-fail-fast",
        "--",
        "--test-threads=1",
        "--nocapture",
    ]))
}
