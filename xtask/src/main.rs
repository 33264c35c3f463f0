//! Build, check and test tasks of this repository: `cargo xtask help`.
//!
//! A task is one file with a `run` function and one row in [`TASKS`]. Tasks run other programs and
//! look at files; what the product does is never decided here.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a task talks to its terminal")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

mod bench;
mod bpf;
mod churn;
mod ci;
mod command;
mod debian;
mod deny;
mod dist;
mod docs;
mod fuzz;
mod guide;
mod matrix;
mod proofs;
mod reference;
mod scenario_keys;
mod scratch;
mod soak;
mod test;
mod tidy;

/// One task.
struct Task {
    name: &'static str,
    /// What may follow the name.
    arguments: &'static str,
    about: &'static str,
    /// Gets the root of the repository and what followed the name.
    run: fn(&Path, &[String]) -> Result<()>,
}

/// All tasks, as `cargo xtask help` lists them.
const TASKS: &[Task] = &[
    Task {
        name: "ci",
        arguments: "",
        about: "all that must pass before a merge, step by step",
        run: ci::run,
    },
    Task {
        name: "test",
        arguments: "",
        about: "install what the tests need from Debian, then run all of them",
        run: test::run,
    },
    Task {
        name: "tidy",
        arguments: "",
        about: "check the invariants of ARCHITECTURE.md that a program can check",
        run: tidy::run,
    },
    Task {
        name: "docs",
        arguments: "[--check]",
        about: "write the documents that are made from the sources and the program, or compare them",
        run: docs::run,
    },
    Task {
        name: "bpf",
        arguments: "[--check]",
        about: "rebuild the BPF objects, or check that they match their sources",
        run: bpf::run,
    },
    Task {
        name: "bench",
        arguments: "[--check | PART...]",
        about: "measure what whydrop costs and write docs/benchmarks.md, or check ratios, or print a part",
        run: bench::run,
    },
    Task {
        name: "deny",
        arguments: "",
        about: "hold licences, sources and advisories of dependencies against deny.toml",
        run: deny::run,
    },
    Task {
        name: "dist",
        arguments: "[--check]",
        about: "build a static binary and a Debian package, or also try it in a fresh Debian tree",
        run: dist::run,
    },
    Task {
        name: "matrix",
        arguments: "[KERNEL...]",
        about: "boot Debian's kernels, prove whydrop on each, and write docs/compatibility.md",
        run: matrix::run,
    },
    Task {
        name: "fuzz",
        arguments: "[TARGET...] [--seconds N] [--minimise]",
        about: "let libFuzzer look for inputs that break a reader, 600 s for each target",
        run: fuzz::run,
    },
    Task {
        name: "dist-inside",
        arguments: "PACKAGE",
        about: "try a package in a fresh Debian tree; `dist --check` runs this in namespaces of its own",
        run: dist::inside,
    },
    Task {
        name: "soak",
        arguments: "[--minutes N]",
        about: "run top and diagnose under mixed traffic: nothing may grow, every packet must be counted",
        run: soak::run,
    },
    Task {
        name: "churn",
        arguments: "[--minutes N]",
        about: "make and delete 200 namespaces a minute under an open window: no packet may be lost to it",
        run: churn::run,
    },
    Task {
        name: "traffic",
        arguments: "PART",
        about: "play a part of the traffic of `soak` and `churn`, which run this in their namespaces",
        run: soak::traffic,
    },
    Task {
        name: "flood",
        arguments: "MS [RATE]",
        about: "send the benchmark's datagrams; `bench` runs this in a namespace of its own",
        run: bench::flood,
    },
    Task {
        name: "connections",
        arguments: "NUMBER HOST",
        about: "hold the benchmark's connections; `bench` runs this in a namespace of its own",
        run: bench::connections,
    },
];

/// The arguments do not name a task or do not fit it. Exit code 2, as for any tool.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Err(error) = dispatch(&arguments) else { return ExitCode::SUCCESS };
    eprintln!("xtask: {error:#}");
    if error.is::<Usage>() {
        eprintln!("\n{}", help());
        return ExitCode::from(2);
    }
    ExitCode::FAILURE
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else {
        return Err(Usage("no task named".into()).into());
    };
    if ["help", "--help", "-h"].contains(&name.as_str()) {
        println!("{}", help());
        return Ok(());
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        return Err(Usage(format!("no task is called `{name}`")).into());
    };
    (task.run)(&repository(), rest)
}

fn help() -> String {
    let tasks = TASKS.iter().map(|Task { name, arguments, about, .. }| {
        let call = format!("{name} {arguments}");
        format!("  {call:<15} {about}")
    });
    let lines: Vec<String> = ["usage: cargo xtask TASK", "", "tasks:"]
        .map(String::from)
        .into_iter()
        .chain(tasks)
        .collect();
    lines.join("\n")
}

/// Fails with a usage error unless nothing follows the task's name.
fn no_arguments(task: &str, arguments: &[String]) -> Result<()> {
    match arguments {
        [] => Ok(()),
        [first, ..] => Err(Usage(format!("`{task}` takes no arguments, got `{first}`")).into()),
    }
}

/// The root of the repository that this program was built from.
fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::{TASKS, Usage, dispatch, help, no_arguments};

    #[test]
    fn wrong_calls_are_usage_errors() {
        for call in [&[][..], &["tset"], &["tidy", "now"], &["bpf", "--dry"]] {
            let call: Vec<String> = call.iter().map(ToString::to_string).collect();
            let error = dispatch(&call).unwrap_err();
            assert!(error.is::<Usage>(), "{call:?}: {error:#}");
        }
        assert!(no_arguments("tidy", &[]).is_ok());
    }

    #[test]
    fn help_names_every_task() {
        for task in TASKS {
            assert!(help().contains(task.about), "{}", task.name);
        }
    }
}
