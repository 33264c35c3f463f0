//! Numbers that are judgement and not kernel constants: where a rule has to draw a line that the
//! kernel does not draw.
//!
//! One list, from which come the fields, their defaults, their names in a configuration file and
//! `docs/thresholds.md`.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A threshold as configuration files and documents know it.
#[derive(Debug, Clone)]
pub struct Threshold {
    /// Its name in a configuration file.
    pub name: &'static str,
    /// What it is for, with the reason for its default.
    pub meaning: &'static str,
    /// Value if nothing is configured.
    pub default: f64,
    /// Values that make sense.
    pub range: RangeInclusive<f64>,
}

/// Why a threshold cannot be set.
#[derive(Debug, Clone, PartialEq)]
pub enum Refused {
    /// There is no threshold of this name; perhaps the other one was meant.
    Unknown(Option<&'static str>),
    /// The value makes no sense; the smallest and the largest that do.
    Range(f64, f64),
}

macro_rules! thresholds {
    ($($(#[doc = $doc:literal])+ $name:ident = $default:literal, $least:literal ..= $most:literal;)+) => {
        /// Where lines are drawn.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct Thresholds {
            $($(#[doc = $doc])+ pub $name: f64,)+
        }

        impl Default for Thresholds {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Thresholds {
            /// Every threshold.
            #[must_use]
            pub fn list() -> Vec<Threshold> {
                vec![$(Threshold {
                    name: stringify!($name),
                    meaning: concat!($($doc),+).trim_ascii(),
                    default: $default,
                    range: $least..=$most,
                },)+]
            }

            /// Sets the threshold of this name.
            pub fn set(&mut self, name: &str, value: f64) -> Result<(), Refused> {
                match name {
                    $(stringify!($name) if ($least..=$most).contains(&value) => self.$name = value,
                    stringify!($name) => return Err(Refused::Range($least, $most)),)+
                    _ => return Err(Refused::Unknown(nearest(name))),
                }
                Ok(())
            }
        }
    };
}

thresholds! {
    /// A queue that stayed full for at least so many seconds is served too slowly; for a shorter
    /// time, it is a burst. A refused client tries again after one second, so a queue that is still
    /// full then refuses it again.
    pinned_seconds = 1.0, 0.0 ..= 3600.0;
    /// Share of SYN cookies that came back as connections from which on the senders are real clients
    /// in a burst; below it they are a flood.
    cookies_answered = 0.5, 0.0 ..= 1.0;
    /// Share of the window for which a CPU was not idle, from which on it has nothing left to give.
    cpu_busy = 0.9, 0.1 ..= 1.0;
    /// Share of the window for which a CPU ran softirqs, from which on packets alone keep it busy.
    /// Lower than `cpu_busy`, because programs take the rest and softirqs go first.
    softirq_busy = 0.7, 0.1 ..= 1.0;
    /// How often per second the receive work of a CPU is cut off at its budget before it is worth
    /// telling; now and then it happens on every busy host.
    squeezes = 1.0, 0.0 ..= 100_000.0;
    /// Tracked connections that nothing came for so many seconds fill the table for nothing: most of
    /// them are dead. Longer than the keepalives of programs that mean it, shorter than the days for
    /// which conntrack waits.
    conntrack_idle_seconds = 3600.0, 60.0 ..= 432_000.0;
    /// Share of a link's speed that was sent in the window, from which on the link itself is full and
    /// not only its queue too short.
    link_busy = 0.9, 0.1 ..= 1.0;
    /// Share of the window that the hypervisor took from a CPU, from which on it explains work that
    /// came too late.
    steal = 0.05, 0.001 ..= 1.0;
    /// One CPU does so many times the mean of the receive work of all CPUs before it counts as
    /// unevenly spread.
    imbalance = 2.0, 1.0 ..= 1024.0;
    /// Share of a device's packets on one queue from which on a single flow must be behind it, if
    /// the device has several.
    queue_share = 0.5, 0.1 ..= 1.0;
    /// Share of a CPU that a proposal plans to use for packets: the rest is for peaks and programs.
    planned_load = 0.6, 0.1 ..= 1.0;
    /// Share of the time for which a queue stayed full, for which its reader was kept from running
    /// by its CPU quota, from which on the quota is the cause.
    throttled = 0.5, 0.01 ..= 1.0;
    /// Share of the window for which the reader of a full queue was ready to run and had no CPU, all
    /// of its threads together, from which on the CPU is the cause.
    starved = 0.2, 0.01 ..= 1024.0;
    /// Packets to the port of a service that is bound elsewhere from which on clients must be behind
    /// them, and below which it may be a scan. A client is refused and tries again, a scanner tries
    /// once or twice.
    bound_elsewhere = 5.0, 1.0 ..= 1e6;
    /// Share of the connections opened that a program aborts by closing too early, from which on it
    /// is told; a client that gives up now and then is normal.
    aborted_share = 0.01, 0.0 ..= 1.0;
    /// Share of the segments sent, or of the connections begun, that were sent again from which on
    /// TCP suffers from it; healthy paths stay far below.
    retransmit_share = 0.01, 0.0001 ..= 1.0;
    /// Segments sent again below which nothing is said: any network loses one now and then.
    retransmits = 3.0, 1.0 ..= 1_000_000.0;
    /// Share of the segments sent again that the peer had already, from which on the path loses
    /// nothing and the retransmissions themselves are the trouble.
    spurious = 0.8, 0.1 ..= 1.0;
    /// Packets forwarded for each one that died of its time to live from which on they may have gone
    /// round: a loop of two routers forwards a packet some thirty times on each, traceroute a few
    /// packets for each that dies.
    loop_forwards = 8.0, 2.0 ..= 1000.0;
    /// Share of its periods in which a control group was throttled from which on its quota is what a
    /// slow program is short of, and no buffer is proposed.
    quota_short = 0.1, 0.01 ..= 1.0;
    /// Longest delay in seconds that a proposed longer queue in front of a rate may add: what takes
    /// longer to drain is a rate that is short.
    queue_delay_seconds = 0.1, 0.001 ..= 10.0;
    /// Evidence that is older than so many seconds says little about how things are now, and `fix`
    /// changes nothing by it.
    evidence_age_seconds = 3600.0, 1.0 ..= 86_400.0;
    /// Losses that the share before a change must predict after it before their absence means
    /// anything: where five are expected at random, none at all is seen once in 150 times.
    trial_losses = 5.0, 1.0 ..= 1e6;
    /// Less than this part of the expected losses is an improvement.
    trial_improved = 0.5, 0.01 ..= 1.0;
    /// More than this multiple of the expected losses is worse.
    trial_worse = 1.5, 1.0 ..= 100.0;
}

impl Thresholds {
    /// [`Thresholds::pinned_seconds`].
    #[must_use]
    pub fn pinned(&self) -> Duration {
        Duration::try_from_secs_f64(self.pinned_seconds).unwrap_or_default()
    }

    /// [`Thresholds::queue_delay_seconds`].
    #[must_use]
    pub fn queue_delay(&self) -> Duration {
        Duration::try_from_secs_f64(self.queue_delay_seconds).unwrap_or_default()
    }

    /// [`Thresholds::evidence_age_seconds`].
    #[must_use]
    pub fn evidence_age(&self) -> Duration {
        Duration::try_from_secs_f64(self.evidence_age_seconds).unwrap_or_default()
    }
}

/// The threshold that was probably meant.
fn nearest(name: &str) -> Option<&'static str> {
    let list = Thresholds::list();
    let near = crate::knowledge::nearest(&name.replace('-', "_"), list.iter().map(|one| one.name))?;
    list.iter().map(|one| one.name).find(|one| *one == near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_their_ranges_and_can_be_set() {
        let mut thresholds = Thresholds::default();
        for one in Thresholds::list() {
            assert!(one.range.contains(&one.default), "{}", one.name);
            assert!(!one.meaning.is_empty() && !one.meaning.contains("  "), "{}", one.meaning);
            assert_eq!(thresholds.set(one.name, *one.range.end()), Ok(()), "{}", one.name);
        }
        assert_ne!(thresholds, Thresholds::default());
        assert_eq!(thresholds.pinned(), Duration::from_secs(3600));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut thresholds = Thresholds::default();
        assert_eq!(thresholds.set("steal", 2.0), Err(Refused::Range(0.001, 1.0)));
        assert_eq!(thresholds.set("steal", f64::NAN), Err(Refused::Range(0.001, 1.0)));
        assert_eq!(thresholds.set("cpu-busy", 0.5), Err(Refused::Unknown(Some("cpu_busy"))));
        assert_eq!(thresholds.set("colour", 0.5), Err(Refused::Unknown(None)));
        assert_eq!(thresholds, Thresholds::default());
    }
}
