//! The command line.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use whydrop_model::Attach;
use whydrop_show::format::{self, Format};

const EXIT_CODES: &str = "\
Exit status:
  0  ran, nothing of class fault found
  1  ran, at least one fault found (or a reproduction of the lab came out wrong)
  2  could not run; standard error says why";

const FIX_EXIT_CODES: &str = "\
Exit status:
  0  no fault, or the fault is cured, or the change was in force already
  1  faults; what was proposed was not made, or was made and is not proven to cure
  2  could not run, or refused; standard error says why, and nothing was changed
  3  the change had no effect or made it worse, and was taken back";

const EXAMPLES: &str = "\
Examples:
  whydrop                            diagnose this host for ten seconds
  whydrop --duration 60 --netns web  one minute, only the namespace `web`
  whydrop record -o now.whydrop      keep the evidence
  whydrop diagnose now.whydrop       the same report again, anywhere
  whydrop fix                        one change for each fault, and why; changes nothing
  whydrop watch --stack              every kind of drop as it happens, with kernel stacks";

const SETTINGS: &str = "\
Settings (TOML): /etc/whydrop/config.toml, then ~/.config/whydrop/config.toml
  [thresholds]                       where the diagnosis draws its lines
  steal = 0.1
  [watch]                            defaults of a command: its long options
  rate = 20";

const WATCH_EXAMPLES: &str = "\
Examples:
  whydrop watch tcp port 443 and host ::1   only these packets; the kernel decides
  whydrop watch --class fault,policy        what this host loses, or was told to
  whydrop watch --reason '!NO_SOCKET'       every reason but one
  whydrop watch --count -d 10 --dev eth0    exact totals of ten seconds
  whydrop watch -w drops.pcapng             for Wireshark, saying why each one died
  whydrop watch -r drops.pcapng port 53     the same again, filtered
  whydrop watch --stack --flame drops.svg   where in the kernel packets die";

const TOP_EXAMPLES: &str = "\
Examples:
  whydrop top                               everything on this host
  whydrop top --netns web --interval 0.5    one namespace, twice a second

h shows the keys; q leaves.";

const SOCKETS_EXAMPLES: &str = "\
Examples:
  whydrop sockets                           two seconds of every queue
  whydrop sockets --duration 60 --netns web one minute of one namespace";

/// Why does this Linux host drop packets, and what makes it stop?
///
/// Without a command: `whydrop diagnose`.
#[derive(Debug, Parser)]
#[command(name = "whydrop", version, args_conflicts_with_subcommands = true)]
#[command(after_help = EXIT_CODES)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{SETTINGS}\n\n{EXIT_CODES}"))]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    pub(crate) diagnose: Diagnose,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Name the causes of packet loss, with proof and cure (the default)
    Diagnose(Diagnose),
    /// Propose one change for each fault; with --apply make one, prove it or take it back
    Fix(Box<Fix>),
    /// List the changes that whydrop made to this host
    Changes(Changes),
    /// Take a change back: the newest, one by its number, or all
    Undo(Undo),
    /// Show drops as they happen, or count them
    Watch(Box<Watch>),
    /// Full screen: layers, causes and kinds of drops, live
    Top(Top),
    /// Show receive queues: how full they are and were, what they lost, what bounds them
    Sockets(Sockets),
    /// Store the evidence of a window in a file, to diagnose it later or elsewhere
    Record(Record),
    /// Say what a drop reason, a cause, a counter or a call site means, and what to do
    Explain(Explain),
    /// List the running kernel's drop reasons and what they mean
    Reasons(Reasons),
    /// Show what this kernel offers for tracing drops, what is missing and what that costs
    Kernel(Kernel),
    /// Reproduce causes of packet loss in throw-away network namespaces
    Lab(Lab),
    /// Print what completes commands and options in a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one per command
    Man {
        /// Folder to write them to
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
    /// One part in a reproduction; started by the lab
    #[command(hide = true)]
    LabActor(LabActor),
}

/// What to observe, and for how long.
#[derive(Debug, Clone, Args)]
pub(crate) struct Observe {
    /// Only this network namespace, by its name in `ip netns` (may be repeated; default: all)
    #[arg(long, value_name = "NAME")]
    pub(crate) netns: Vec<String>,

    /// Read the kernel's BTF from this file
    #[arg(long, value_name = "FILE", default_value = whydrop_probe::VMLINUX_BTF)]
    pub(crate) kernel_btf: PathBuf,

    /// Take settings from this file alone, and not from the usual ones (see `whydrop --help`)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Count the polls of network devices that use up their budget, too; that costs the traffic one to
    /// two percent
    #[arg(long)]
    pub(crate) polls: bool,

    /// Create this file once the tracer is attached and the first counters are read
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) ready_file: Option<PathBuf>,

    /// Attach the tracer in this way and in no other, to see that it works
    #[arg(long, value_name = "KIND", value_parser = attach, hide = true)]
    pub(crate) attach: Option<Attach>,
}

#[derive(Debug, Args)]
pub(crate) struct Diagnose {
    /// A recorded evidence file; without it, this host is observed
    #[arg(value_name = "FILE", conflicts_with_all = ["duration", "netns", "ready_file"])]
    pub(crate) file: Option<PathBuf>,

    /// How long to observe, in seconds
    #[arg(long, short, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) duration: Duration,

    /// Also store the evidence in this file; replaced if it exists
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    pub(crate) save: Option<PathBuf>,

    /// How to write the report
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = format_parser())]
    pub(crate) format: &'static dyn Format,

    #[command(flatten)]
    pub(crate) observe: Observe,
}

#[derive(Debug, Args)]
#[command(after_help = FIX_EXIT_CODES)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the command line")]
pub(crate) struct Fix {
    /// A recorded evidence file of this host and boot; without it, this host is observed
    #[arg(value_name = "FILE", conflicts_with_all = ["duration", "netns"])]
    pub(crate) file: Option<PathBuf>,

    /// How long to observe, in seconds
    #[arg(long, short, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) duration: Duration,

    /// Make the first change that the other options allow, one only, and watch what comes of it
    #[arg(long)]
    pub(crate) apply: bool,

    /// Show exactly what would be written, and write nothing
    #[arg(long, conflicts_with = "apply")]
    pub(crate) dry_run: bool,

    /// How long to watch after the change, in seconds; Ctrl-C ends it early
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) verify: Duration,

    /// Keep a change that has no effect or makes it worse
    #[arg(long, requires = "apply")]
    pub(crate) keep: bool,

    /// Make a change that helped survive a reboot
    #[arg(long, requires = "apply")]
    pub(crate) persist: bool,

    /// Allow changes to sockets of running programs, without restarting them
    #[arg(long)]
    pub(crate) live: bool,

    /// Allow changes that open the host to packets it refuses by its settings
    #[arg(long)]
    pub(crate) allow_weaker_security: bool,

    /// Allow changes for which a network card is reset: traffic stops for a moment
    #[arg(long)]
    pub(crate) allow_link_reset: bool,

    /// Only faults of this cause
    #[arg(long, value_name = "CAUSE")]
    pub(crate) cause: Option<String>,

    /// `text` or `json`
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Plain,

    /// The system whose /etc keeps changes; for tests
    #[arg(long, value_name = "FOLDER", default_value = "/", hide = true)]
    pub(crate) root: PathBuf,

    #[command(flatten)]
    pub(crate) journal: JournalPlace,

    #[command(flatten)]
    pub(crate) observe: Observe,
}

/// Where the journal is.
#[derive(Debug, Args)]
pub(crate) struct JournalPlace {
    /// Folder of the journal of changes
    #[arg(long, value_name = "FOLDER", default_value = whydrop_cure::DEFAULT_JOURNAL)]
    pub(crate) journal: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Changes {
    /// `text` or `json`
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Plain,

    #[command(flatten)]
    pub(crate) journal: JournalPlace,
}

#[derive(Debug, Args)]
pub(crate) struct Undo {
    /// Number of the change, as `whydrop changes` shows it (default: the newest in force)
    #[arg(value_name = "ID")]
    pub(crate) id: Option<u64>,

    /// All changes, the newest first
    #[arg(long, conflicts_with = "id")]
    pub(crate) all: bool,

    /// Restore also what somebody else has changed since
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) journal: JournalPlace,
}

#[derive(Debug, Args)]
#[command(after_help = WATCH_EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the command line")]
pub(crate) struct Watch {
    /// Only packets that this filter accepts, in tcpdump's language (docs/filters.md); evaluated in the
    /// kernel
    #[arg(value_name = "FILTER", trailing_var_arg = true)]
    pub(crate) filter: Vec<String>,

    /// Stop after this many seconds (default: until interrupted)
    #[arg(long, short, value_name = "SECONDS", value_parser = seconds, conflicts_with = "read")]
    pub(crate) duration: Option<Duration>,

    /// Count by reason, call site, protocol, device and namespace instead, and print at the end
    #[arg(long, conflicts_with_all = ["read", "write", "process", "container"])]
    pub(crate) count: bool,

    /// Show benign drops too, instead of counting them
    #[arg(long)]
    pub(crate) benign: bool,

    /// Show each drop at once, without cause and owner
    #[arg(long, conflicts_with_all = ["read", "cause", "class", "layer", "process", "container"])]
    pub(crate) quick: bool,

    /// Print kernel stacks; equal ones once, and at the end how many drops had each
    #[arg(long, conflicts_with = "count")]
    pub(crate) stack: bool,

    /// Draw the kernel stacks of the drops shown as a flame graph
    #[arg(long, value_name = "FILE.svg", conflicts_with = "count")]
    pub(crate) flame: Option<PathBuf>,

    /// Drops shown per second of each kind: reason, call site, namespace, device, protocol; per CPU
    #[arg(long, value_name = "N", default_value = "10", conflicts_with_all = ["count", "all"])]
    pub(crate) rate: u32,

    /// Show every drop, and say at the end how many that was too much for
    #[arg(long, conflicts_with = "count")]
    pub(crate) all: bool,

    /// `text`, or `ndjson` for one JSON object per line (docs/watch.md)
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Lines,

    /// Write the packets into this pcapng file, with why they died as comments; `-` for standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,

    /// Bytes of each packet in that file, its Ethernet header included
    #[arg(long, short, value_name = "BYTES", default_value = "256", requires = "write")]
    #[arg(value_parser = clap::value_parser!(u32).range(64..=8192))]
    pub(crate) snaplen: u32,

    /// Show the drops of this evidence file, or pcapng file of whydrop, instead of this host's
    #[arg(long, short, value_name = "FILE")]
    pub(crate) read: Option<PathBuf>,

    /// Read the kernel's BTF from this file
    #[arg(long, value_name = "FILE", default_value = whydrop_probe::VMLINUX_BTF)]
    pub(crate) kernel_btf: PathBuf,

    /// Create this file once drops are shown
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) ready_file: Option<PathBuf>,

    // The heading of these would go on over what came behind them.
    #[command(flatten)]
    pub(crate) only: Only,
}

/// Conditions on drops. Each may be repeated and takes a list; `!` before a word rules it out.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Only drops (lists with commas; `!` before a word rules it out)")]
pub(crate) struct Only {
    /// For this reason; `whydrop reasons` lists them
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) reason: Vec<String>,

    /// Because of this cause, as in reports
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(crate) cause: Vec<String>,

    /// Of this class: fault, policy, peer, info, benign
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    pub(crate) class: Vec<String>,

    /// In this layer, as in reports
    #[arg(long, value_name = "LAYER", value_delimiter = ',')]
    pub(crate) layer: Vec<String>,

    /// In this network namespace, by name as in `ip netns`, or inode
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) netns: Vec<String>,

    /// On this device
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) dev: Vec<String>,

    /// For, or from, a socket of this process, by name or pid
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) process: Vec<String>,

    /// In this container or pod, by name or id
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(crate) container: Vec<String>,

    /// Freed by this kernel function
    #[arg(long, value_name = "SYMBOL", value_delimiter = ',')]
    pub(crate) site: Vec<String>,
}

/// Formats of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Lines {
    /// For people
    Text,
    /// One JSON object per line
    #[value(alias = "json")]
    Ndjson,
}

#[derive(Debug, Args)]
#[command(after_help = TOP_EXAMPLES)]
pub(crate) struct Top {
    /// Look again after so many seconds
    #[arg(long, short, value_name = "SECONDS", default_value = "2", value_parser = interval)]
    pub(crate) interval: Duration,

    #[command(flatten)]
    pub(crate) observe: Observe,
}

#[derive(Debug, Args)]
#[command(after_help = SOCKETS_EXAMPLES)]
pub(crate) struct Sockets {
    /// How long to look, in seconds; peaks and drops are those of this time
    #[arg(long, short, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub(crate) duration: Duration,

    /// Only this network namespace, by its name in `ip netns` (may be repeated; default: all)
    #[arg(long, value_name = "NAME")]
    pub(crate) netns: Vec<String>,

    /// Create this file once every queue was looked at for the first time
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) ready_file: Option<PathBuf>,

    /// `text` or `json`
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct Record {
    /// Where to store the evidence; replaced if it exists
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// Replace IP and MAC addresses and the host's name, each always by the same stand-in
    #[arg(long)]
    pub(crate) redact: bool,

    /// How long to observe, in seconds
    #[arg(long, short, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) duration: Duration,

    #[command(flatten)]
    pub(crate) observe: Observe,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// `NO_SOCKET`, `accept-queue-full`, `TcpExt.ListenDrops`, `nft_do_chain+0x12`; or words to find
    #[arg(value_name = "NAME", required = true)]
    pub(crate) words: Vec<String>,

    /// `text` or `json`
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct Reasons {
    /// `text` or `json`
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Plain,

    /// Read the kernel's BTF from this file
    #[arg(long, value_name = "FILE", default_value = whydrop_probe::VMLINUX_BTF)]
    pub(crate) kernel_btf: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Kernel {
    /// `text` or `json`
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Plain,

    /// Read the kernel's BTF from this file
    #[arg(long, value_name = "FILE", default_value = whydrop_probe::VMLINUX_BTF)]
    pub(crate) kernel_btf: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Lab {
    #[command(subcommand)]
    pub(crate) command: LabCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// List the scenarios
    List {
        /// `text` or `json`
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: Plain,
    },
    /// Reproduce, diagnose and compare; needs root and iproute2
    Run(LabRun),
    /// Play a scenario again and again while you look at it from a shell
    Shell {
        /// Name of the scenario
        #[arg(value_name = "NAME")]
        name: String,
        /// Run this instead of a shell; `$LAB_A`, `$LAB_B`... are the namespaces, `$LAB` is `--netns` for
        /// each
        #[arg(value_name = "COMMAND", last = true)]
        command: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the command line")]
pub(crate) struct LabRun {
    /// Names of scenarios; that of a cause stands for all that reproduce it
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub(crate) names: Vec<String>,
    /// Every scenario
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
    /// Also run the same traffic with the scenario's remedy: it must come out clean
    #[arg(long)]
    pub(crate) remedy: bool,
    /// Also let `whydrop fix` cure what it can: the same traffic must come out clean, and be lost
    /// again once the change is undone
    #[arg(long)]
    pub(crate) fix: bool,
    /// All at once under one diagnosis, which must tell them apart
    #[arg(long, conflicts_with_all = ["all", "remedy", "fix"])]
    pub(crate) together: bool,
    /// How often to play each
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) repeat: NonZeroUsize,
    /// How many scenarios to play side by side (default: three for every CPU)
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Have every diagnosis attach the tracer in this way and in no other
    #[arg(long, value_name = "KIND", value_parser = attach, hide = true)]
    pub(crate) attach: Option<Attach>,
    /// `text` or `json`
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct LabActor {
    /// What to play
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    pub(crate) arguments: Vec<OsString>,
}

/// Formats of everything that is not a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Plain {
    /// For people
    Text,
    /// For programs
    Json,
}

/// More than a week is a slip of the finger; an agent is another program.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_string())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() && duration <= LONGEST => Ok(duration),
        _ => Err("must be more than 0 and at most 604800 seconds (a week)".into()),
    }
}

fn attach(text: &str) -> Result<Attach, String> {
    let kinds = [Attach::TpBtf, Attach::RawTp, Attach::Tp];
    let named = kinds.into_iter().find(|kind| kind.name() == text);
    named.ok_or_else(|| format!("must be one of {}", kinds.map(Attach::name).join(", ")))
}

/// Shorter laps tell nothing that a queue does between two looks.
const SHORTEST_LAP: Duration = Duration::from_millis(500);

fn interval(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        short if short < SHORTEST_LAP => Err("must be at least 0.5 seconds".into()),
        length => Ok(length),
    }
}

/// `--format` of reports: names and help come from the list of formats itself.
fn format_parser() -> impl TypedValueParser<Value = &'static dyn Format> {
    let values = format::FORMATS.iter().map(|one| PossibleValue::new(one.name()).help(one.help()));
    PossibleValuesParser::new(values)
        .try_map(|name| format::find(&name).ok_or_else(|| format!("no format {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn diagnose_is_the_default() {
        let arguments = Arguments::parse_from(["whydrop", "--duration", "0.5"]);
        assert!(arguments.command.is_none());
        assert_eq!(arguments.diagnose.duration, Duration::from_millis(500));
        assert_eq!(arguments.diagnose.format.name(), "text");
    }

    #[test]
    fn durations_that_make_no_sense_are_refused() {
        for text in ["0", "-1", "NaN", "inf", "1e9", "ten", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
    }
}
