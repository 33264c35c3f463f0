//! What a collector is, what it is handed and what it fills.
//!
//! A collector reads one source at one moment into [`Facts`]. It keeps nothing between two moments:
//! the two readings of a window are put together in `merge`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use whydrop_model::{Driver, Link, QueueSteering};

use crate::Roots;
use crate::error::{Notes, Why};
use crate::netlink::{Buffer, Protocol, Socket};
use crate::settings::Settings;
use crate::stack::StackFacts;

/// One source of counters, queues or settings. May read files and netlink; may not run programs,
/// compute rates or judge. If it fails, its own facts are missing and the reason is told; nothing
/// else is affected.
#[derive(Debug)]
pub(crate) struct Collector {
    /// Name of its file in `collectors/`.
    pub(crate) name: &'static str,
    /// What is missing when it fails, in words for the operator.
    pub(crate) what: &'static str,
    /// How it reads.
    pub(crate) read: Read,
}

/// How and when a collector reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Read {
    /// At both ends of the window, once for the host.
    Host(fn(&mut Place<'_>, &mut Facts) -> Result<(), Why>),
    /// At both ends of the window, in each network namespace.
    Namespace(fn(&mut Place<'_>, &mut Facts) -> Result<(), Why>),
    /// When the window closes, in each network namespace: what is told as it is then. Reading it twice
    /// would double the price of a host with very many namespaces and tell nothing.
    Closing(fn(&mut Place<'_>, &mut Facts) -> Result<(), Why>),
    /// In each network namespace again and again while the window is open, by `look`.
    Looks,
    /// At both ends of the window, in each network namespace: hands over one socket after the other,
    /// so that very many need no room.
    Sockets(ListSockets),
}

/// Hands every socket of a kind to the last argument.
pub(crate) type ListSockets = fn(
    &mut Place<'_>,
    &mut crate::netlink::Socket,
    &mut dyn FnMut(whydrop_model::Socket),
) -> Result<(), Why>;

/// The network namespace that is being read.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) roots: &'a Roots,
    /// Folder with the tables of this namespace.
    tables: PathBuf,
    /// Whether the calling thread is in this namespace; if not, why.
    entered: Result<(), Why>,
    pub(crate) buffer: &'a mut Buffer,
    /// It is the one in which whydrop was started.
    pub(crate) own: bool,
    /// The window opens: settings are not wanted yet.
    opening: bool,
    settings: Settings,
}

impl<'a> Place<'a> {
    /// The namespace in which the calling thread is.
    pub(crate) fn here(roots: &'a Roots, buffer: &'a mut Buffer) -> Self {
        // Not `self`: that is the process's first thread, which stays at home.
        Self {
            roots,
            tables: roots.proc.join("thread-self/net"),
            entered: Ok(()),
            buffer,
            own: false,
            opening: false,
            settings: Settings::default(),
        }
    }

    /// Lets settings be read as a [`Source`](crate::settings::Source) has it.
    pub(crate) fn with_settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// Tells whether it is the own one.
    pub(crate) fn of_own(self, own: bool) -> Self {
        Self { own, ..self }
    }

    /// Tells whether this is the reading that opens the window.
    pub(crate) fn at_opening(self, opening: bool) -> Self {
        Self { opening, ..self }
    }

    /// The namespace of a process, seen from outside because it cannot be entered.
    pub(crate) fn of_process(roots: &'a Roots, buffer: &'a mut Buffer, pid: u32, why: Why) -> Self {
        let tables = roots.proc.join(pid.to_string()).join("net");
        let entered = Err(why);
        Self { tables, entered, ..Self::here(roots, buffer) }
    }

    /// Why the calling thread is not in this namespace, if it is not.
    pub(crate) fn entered(&self) -> Result<(), Why> {
        self.entered.clone()
    }

    /// The text of a table in `/proc/net`; `None` if this kernel or namespace does not have it.
    pub(crate) fn table(&self, name: &str) -> Result<Option<String>, Why> {
        let path = self.tables.join(name);
        read(File::open(&path), &path)
    }

    /// The text of a file in `/proc` that is one for the host; `None` if this kernel does not have it.
    pub(crate) fn proc(&self, name: &str) -> Result<Option<String>, Why> {
        let path = self.roots.proc.join(name);
        read(File::open(&path), &path)
    }

    /// The value of a sysctl of this namespace; `None` if it does not have it (some exist in the
    /// initial namespace only). The name is written as [`Roots::sysctl`] takes it.
    pub(crate) fn sysctl(&mut self, name: &str) -> Result<Option<String>, Why> {
        self.entered.clone()?;
        let path = self.roots.sysctl(name);
        let opened = self.settings.open(&self.roots.proc, &path);
        Ok(read(opened, &path)?.map(|text| text.trim_end().to_owned()))
    }

    /// Reads those of the sysctls that exist. They are told as they are when the window closes, so
    /// none is read when it opens.
    pub(crate) fn sysctls(&mut self, names: &[&str], facts: &mut Facts) -> Result<(), Why> {
        if self.opening {
            return Ok(());
        }
        for &name in names {
            if let Some(value) = self.sysctl(name)? {
                facts.sysctls.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    /// A netlink socket of this namespace.
    pub(crate) fn netlink(&self, protocol: Protocol) -> Result<Socket, Why> {
        self.entered.clone()?;
        Ok(Socket::open(protocol)?)
    }
}

/// Reads a file of `/proc` whole. Such files tell no size, so it is not asked for; most fit into one
/// read.
fn read(opened: io::Result<File>, path: &Path) -> Result<Option<String>, Why> {
    let mut bytes = Vec::with_capacity(8192);
    match opened.and_then(|file| file.take(u64::MAX).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        // A feature that is built in and switched off looks like the latter.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported) =>
        {
            Ok(None)
        }
        Err(error) => Err(Why::reading(path, &error)),
    }
}

/// What was read at one moment.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Counters as `Group.Name`.
    pub(crate) counters: Vec<(String, u64)>,
    /// Settings by sysctl name.
    pub(crate) sysctls: BTreeMap<String, String>,
    /// Network devices.
    pub(crate) links: Vec<LinkFacts>,
    /// Why some of the devices may be missing from `links`.
    pub(crate) links_partial: Option<Why>,
    /// Why some of what the collector reads is missing.
    pub(crate) partial: Vec<Why>,
    /// Addresses with the index of their device.
    pub(crate) addresses: Vec<(u32, IpAddr)>,
    /// What drivers told of devices.
    pub(crate) ethtool: Vec<EthtoolFacts>,
    /// Standardised statistics: index of the device, name and value.
    pub(crate) standard_stats: Vec<(u32, String, u64)>,
    /// Queues with steering, by index of their device.
    pub(crate) steering: Vec<(u32, Vec<QueueSteering>)>,
    /// CPUs of `softnet_stat`.
    pub(crate) softnet: Vec<SoftnetFacts>,
    /// Milliseconds of each CPU by what it did.
    pub(crate) cpu_times: Vec<CpuCounts>,
    /// Softirqs of each CPU.
    pub(crate) softirqs: Vec<CpuCounts>,
    /// Interrupts of network devices.
    pub(crate) interrupts: Vec<InterruptFacts>,
    /// Microseconds of pressure, as `cpu.some`.
    pub(crate) pressure: Vec<(String, u64)>,
    /// What lies between devices and sockets.
    pub(crate) stack: StackFacts,
}

/// A network device at one moment.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct LinkFacts {
    /// All of it that does not count.
    pub(crate) about: Link,
    pub(crate) carrier_changes: Option<u32>,
    pub(crate) stats: Vec<(&'static str, u64)>,
}

/// What the driver of a device told at one moment; the fields are those of [`Link`].
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct EthtoolFacts {
    pub(crate) ifindex: u32,
    pub(crate) driver: Option<Driver>,
    pub(crate) statistics: Vec<(String, u64)>,
    pub(crate) ring: BTreeMap<String, u32>,
    pub(crate) channels: BTreeMap<String, u32>,
    pub(crate) coalesce: BTreeMap<String, u32>,
    pub(crate) pause: BTreeMap<String, u32>,
    pub(crate) features: Vec<String>,
    pub(crate) speed: Option<u32>,
    pub(crate) full_duplex: Option<bool>,
}

/// A CPU at one moment; the fields are those of [`whydrop_model::SoftnetCpu`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SoftnetFacts {
    pub(crate) cpu: u32,
    pub(crate) processed: u64,
    pub(crate) dropped: u64,
    pub(crate) time_squeeze: u64,
    pub(crate) flow_limit: Option<u64>,
    pub(crate) received_rps: Option<u64>,
    pub(crate) backlog_len: Option<u32>,
}

/// What a CPU counted by one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CpuCounts {
    pub(crate) cpu: u32,
    pub(crate) counts: Vec<(&'static str, u64)>,
}

/// An interrupt line at one moment; the fields are those of [`whydrop_model::Interrupt`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InterruptFacts {
    pub(crate) irq: u32,
    pub(crate) name: String,
    pub(crate) device: Option<String>,
    pub(crate) per_cpu: BTreeMap<u32, u64>,
    pub(crate) affinity: Option<String>,
}

/// Facts, and who contributed to them.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) facts: Facts,
    /// Names of the collectors that succeeded.
    succeeded: Vec<&'static str>,
}

impl Reading {
    /// Lets each of `collectors` read that did not fail in `earlier`: a counter known at one end of
    /// the window only says nothing about the window.
    pub(crate) fn take(
        collectors: &[Collector],
        host: bool,
        earlier: Option<&Self>,
        place: &mut Place<'_>,
        label: &str,
        notes: &mut Notes,
    ) -> Self {
        let mut reading = Self::default();
        for collector in collectors {
            let read = match collector.read {
                Read::Host(read) if host => read,
                Read::Namespace(read) if !host => read,
                Read::Closing(read) if !host && !place.opening => read,
                _ => continue,
            };
            let compared = !matches!(collector.read, Read::Closing(_));
            if compared && earlier.is_some_and(|earlier| !earlier.succeeded(collector)) {
                continue;
            }
            // Into facts of its own, so that what a failing collector has read so far is dropped.
            let mut facts = Facts::default();
            match read(place, &mut facts) {
                Ok(()) => {
                    if let Some(why) = &facts.links_partial {
                        notes.add(collector.what, label, why);
                    }
                    for (what, why) in facts.stack.missing.drain(..) {
                        notes.add(what, label, &why);
                    }
                    for why in facts.partial.drain(..) {
                        notes.add(collector.what, label, &why);
                    }
                    reading.facts.absorb(facts);
                    reading.succeeded.push(collector.name);
                }
                Err(why) => notes.add(collector.what, label, &why),
            }
        }
        reading
    }

    /// Whether this collector's facts are in.
    pub(crate) fn succeeded(&self, collector: &Collector) -> bool {
        self.succeeded.contains(&collector.name)
    }
}

impl Facts {
    fn absorb(&mut self, mut other: Self) {
        self.counters.append(&mut other.counters);
        self.sysctls.append(&mut other.sysctls);
        self.links.append(&mut other.links);
        self.links_partial = self.links_partial.take().or(other.links_partial);
        self.addresses.append(&mut other.addresses);
        self.ethtool.append(&mut other.ethtool);
        self.standard_stats.append(&mut other.standard_stats);
        self.steering.append(&mut other.steering);
        self.softnet.append(&mut other.softnet);
        self.cpu_times.append(&mut other.cpu_times);
        self.softirqs.append(&mut other.softirqs);
        self.interrupts.append(&mut other.interrupts);
        self.pressure.append(&mut other.pressure);
        self.stack.absorb(other.stack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn works(place: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
        place.table("no such table")?;
        facts.counters.push(("A.x".into(), 1));
        Ok(())
    }

    fn fails_late(_: &mut Place<'_>, facts: &mut Facts) -> Result<(), Why> {
        facts.counters.push(("B.y".into(), 1));
        Err(Why::new("broken"))
    }

    #[test]
    fn a_failing_collector_costs_its_own_facts_only() {
        let collectors = [
            Collector { name: "b", what: "the Bs", read: Read::Namespace(fails_late) },
            Collector { name: "a", what: "the As", read: Read::Namespace(works) },
        ];
        let (roots, mut buffer, mut notes) = (Roots::default(), Buffer::new(), Notes::default());
        let mut place = Place::here(&roots, &mut buffer);
        let first = Reading::take(&collectors, false, None, &mut place, "web", &mut notes);
        assert_eq!(first.facts.counters, [("A.x".to_owned(), 1)]);
        assert!(first.succeeded(&collectors[1]) && !first.succeeded(&collectors[0]));
        let second = Reading::take(&collectors, false, Some(&first), &mut place, "web", &mut notes);
        assert_eq!(second.succeeded, ["a"]);
        let lines = notes.finish();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].what, "the Bs in network namespace web");
        assert_eq!(lines[0].why, "broken");
    }

    #[test]
    fn sysctls_and_netlink_of_a_namespace_seen_from_outside_are_refused() {
        let (roots, mut buffer) = (Roots::default(), Buffer::new());
        let mut place = Place::of_process(&roots, &mut buffer, 1, Why::new("outside"));
        assert_eq!(place.sysctl("net.core.somaxconn"), Err(Why::new("outside")));
        assert_eq!(place.netlink(Protocol::Route).unwrap_err(), Why::new("outside"));
    }
}
