//! Options and counters of the kinds of queueing disciplines, as in
//! `include/uapi/linux/pkt_sched.h`. A kind that is not here keeps the counters that all have.
//!
//! Structures grow at their end, so what an older kernel does not send is absent and what a newer
//! one adds is not looked at.

use std::collections::BTreeMap;

use whydrop_model::Counters;

use crate::netlink::{Attributes, u32_at, u64_at};
use crate::stack::at_this_moment;

/// Nanoseconds of one tick in which bursts are told (`PSCHED_SHIFT`, since 2.6.31).
const NANOSECONDS_PER_TICK: u64 = 64;

/// Options that bind, by name with unit.
#[derive(Debug, Default)]
struct Options(BTreeMap<String, u64>);

impl Options {
    fn add(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// Adds attributes that hold a number each.
    fn add_each(&mut self, nest: &[u8], names: &[(u16, &str)]) {
        for (kind, value) in Attributes(nest) {
            if let Some((_, name)) = names.iter().find(|(wanted, _)| *wanted == kind) {
                // All ones stand for "no limit".
                self.add(name, number(value).filter(|value| *value != u64::from(u32::MAX)));
            }
        }
    }
}

/// A number of four or eight bytes.
fn number(value: &[u8]) -> Option<u64> {
    if value.len() >= 8 { u64_at(value, 0) } else { u32_at(value, 0).map(u64::from) }
}

fn u32_as_u64(bytes: &[u8], at: usize) -> Option<u64> {
    u32_at(bytes, at).map(u64::from)
}

fn attribute(nest: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(nest).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// The options of a qdisc (or of a class, if `class`).
pub(crate) fn options(kind: &str, class: bool, nest: &[u8]) -> BTreeMap<String, u64> {
    let mut options = Options::default();
    match kind {
        "htb" if class => htb_class(nest, &mut options),
        _ if class => {}
        "pfifo" | "pfifo_head_drop" => options.add("limit_packets", u32_as_u64(nest, 0)),
        "bfifo" => options.add("limit_bytes", u32_as_u64(nest, 0)),
        "tbf" => tbf(nest, &mut options),
        "fq" => options.add_each(nest, &FQ),
        "fq_codel" => options.add_each(nest, &FQ_CODEL),
        "fq_pie" => options.add_each(nest, &[(1, "limit_packets"), (8, "memory_limit_bytes")]),
        "codel" | "pie" => options.add_each(nest, &[(1, "target_us"), (2, "limit_packets")]),
        "red" => {
            options.add("limit_bytes", attribute(nest, 1).and_then(|it| u32_as_u64(it, 0)));
        }
        // `struct tc_sfq_qopt` itself, not attributes.
        "sfq" => options.add("limit_packets", u32_as_u64(nest, 8)),
        "cake" => options.add_each(nest, &[(2, "rate_bytes"), (10, "memory_limit_bytes")]),
        // `struct tc_netem_qopt`, then attributes.
        "netem" => {
            options.add("limit_packets", u32_as_u64(nest, 4));
            let loss = u32_as_u64(nest, 8).map(|share| (share * 1_000_000) >> 32);
            options.add("loss_ppm", loss.filter(|ppm| *ppm > 0));
        }
        _ => {}
    }
    options.0
}

const FQ: [(u16, &str); 4] = [
    (1, "limit_packets"),
    (2, "flow_limit_packets"),
    (7, "flow_max_rate_bytes"),
    (14, "horizon_us"),
];
const FQ_CODEL: [(u16, &str); 3] =
    [(1, "target_us"), (2, "limit_packets"), (9, "memory_limit_bytes")];

/// Rate in `struct tc_ratespec`: bytes per second, all ones if it does not fit.
const RATE: usize = 8;
/// Bytes of `struct tc_ratespec`.
const RATESPEC: usize = 12;

/// `TCA_TBF_PARMS` is two rates, limit, burst; rates that do not fit follow as `TCA_TBF_RATE64` and
/// `TCA_TBF_PRATE64`, the exact burst as `TCA_TBF_BURST` (4.9+ sends it only when it is set).
fn tbf(nest: &[u8], options: &mut Options) {
    let Some(parms) = attribute(nest, 1) else { return };
    let wide = |kind| attribute(nest, kind).and_then(|value| u64_at(value, 0));
    let rate = wide(4).or_else(|| u32_as_u64(parms, RATE));
    let peak = wide(5).or_else(|| u32_as_u64(parms, RATESPEC + RATE));
    options.add("rate_bytes", rate);
    options.add("peak_rate_bytes", peak.filter(|rate| *rate > 0));
    options.add("limit_bytes", u32_as_u64(parms, 2 * RATESPEC));
    options.add("burst_bytes", burst(rate, u32_at(parms, 2 * RATESPEC + 4)));
}

/// `TCA_HTB_PARMS` is rate, ceiling, and their bursts.
fn htb_class(nest: &[u8], options: &mut Options) {
    let Some(parms) = attribute(nest, 1) else { return };
    let wide = |kind| attribute(nest, kind).and_then(|value| u64_at(value, 0));
    let rate = wide(6).or_else(|| u32_as_u64(parms, RATE));
    let ceil = wide(7).or_else(|| u32_as_u64(parms, RATESPEC + RATE));
    options.add("rate_bytes", rate);
    options.add("ceil_bytes", ceil);
    options.add("burst_bytes", burst(rate, u32_at(parms, 2 * RATESPEC)));
    options.add("ceil_burst_bytes", burst(ceil, u32_at(parms, 2 * RATESPEC + 4)));
}

/// A burst, which the kernel keeps as the time that it takes at the full rate.
fn burst(rate: Option<u64>, ticks: Option<u32>) -> Option<u64> {
    let nanoseconds = u128::from(u64::from(ticks?) * NANOSECONDS_PER_TICK);
    // Rounded up, because the kernel's time was rounded down.
    Some((u128::from(rate?) * nanoseconds).div_ceil(1_000_000_000) as u64)
}

/// The rate and the burst of a policer (`TCA_POLICE_TBF`, `TCA_POLICE_RATE64`, packets per second).
pub(crate) fn police(nest: &[u8]) -> BTreeMap<String, u64> {
    let mut options = Options::default();
    let wide = |kind| attribute(nest, kind).and_then(|value| u64_at(value, 0));
    if let Some(parms) = attribute(nest, 1) {
        // index, action, limit, burst, mtu, rate, peak rate
        let rate = wide(8).or_else(|| u32_as_u64(parms, 20 + RATE)).filter(|rate| *rate > 0);
        options.add("rate_bytes", rate);
        options.add("burst_bytes", rate.and(burst(rate, u32_at(parms, 12))));
    }
    options.add("rate_packets", wide(10));
    let per_second = wide(10);
    let ticks = wide(11);
    let packets = per_second.zip(ticks).map(|(rate, ticks)| {
        let nanoseconds = u128::from(ticks) * u128::from(NANOSECONDS_PER_TICK);
        (u128::from(rate) * nanoseconds).div_ceil(1_000_000_000) as u64
    });
    options.add("burst_packets", packets);
    options.0
}

/// Adds the kind's own counters. `options`: the nest of the options, in which htb keeps one.
pub(crate) fn counters(
    kind: &str,
    class: bool,
    own: &[u8],
    options: &[u8],
    counters: &mut Counters,
) {
    let mut add = |name: &str, value: Option<u64>| {
        if let Some(value) = value {
            counters.insert(name.to_owned(), at_this_moment(value));
        }
    };
    match kind {
        "fq" if !class => {
            for (at, name) in FQ_STATS {
                add(name, u64_at(own, at));
            }
            // Three bands, since 6.8.
            for band in 0..3 {
                add(&format!("band{band}_drops"), u64_at(own, 112 + 8 * band));
            }
        }
        // The type 0 stands for the qdisc, 1 for a flow as a class.
        "fq_codel" if !class && u32_at(own, 0) == Some(0) => {
            for (at, name) in FQ_CODEL_STATS {
                add(name, u32_as_u64(own, at));
            }
        }
        "codel" => {
            for (at, name) in [(20, "drop_overlimit"), (24, "ecn_mark"), (32, "ce_mark")] {
                add(name, u32_as_u64(own, at));
            }
        }
        "red" | "sfb" if !class => {
            let names = if kind == "red" { &RED_STATS[..] } else { &SFB_STATS[..] };
            for (at, name) in names.iter().enumerate() {
                add(name, u32_as_u64(own, at * 4));
            }
        }
        "pie" | "fq_pie" | "choke" | "hhf" if !class => {
            let (_, fields) = PLAIN.iter().find(|it| it.0 == kind).unwrap_or(&PLAIN[0]);
            for (at, name) in *fields {
                add(name, u32_as_u64(own, *at));
            }
        }
        "gred" if !class => gred(options, &mut add),
        "htb" if !class => {
            let glob = attribute(options, 2);
            add("direct_pkts", glob.and_then(|glob| u32_as_u64(glob, 16)));
        }
        "cake" if !class => cake(own, &mut add),
        _ => {}
    }
}

/// Offsets in `struct tc_fq_qd_stats`.
const FQ_STATS: [(usize, &str); 9] = [
    (0, "gc_flows"),
    (8, "highprio_packets"),
    (24, "throttled"),
    (32, "flows_plimit"),
    (40, "pkts_too_long"),
    (48, "allocation_errors"),
    (80, "ce_mark"),
    (88, "horizon_drops"),
    (96, "horizon_caps"),
];

/// Offsets in `struct tc_fq_codel_xstats`; of 32 bits.
const FQ_CODEL_STATS: [(usize, &str); 5] = [
    (8, "drop_overlimit"),
    (12, "ecn_mark"),
    (16, "new_flow_count"),
    (28, "ce_mark"),
    (36, "drop_overmemory"),
];

/// `struct tc_red_xstats`.
const RED_STATS: [&str; 4] = ["early", "pdrop", "other", "marked"];

/// `struct tc_sfb_xstats`.
const SFB_STATS: [&str; 6] =
    ["earlydrop", "penaltydrop", "bucketdrop", "queuedrop", "childdrop", "marked"];

/// Kinds of which nothing but the name decides what is where: offsets in `struct tc_pie_xstats` (from
/// 4.20 on), `tc_fq_pie_xstats`, `tc_choke_xstats` and `tc_hhf_xstats`; of 32 bits.
const PLAIN: [(&str, &[(usize, &str)]); 4] = [
    ("pie", &[(24, "dropped"), (28, "overlimit"), (36, "ecn_mark")]),
    ("fq_pie", &[(4, "dropped"), (8, "overlimit"), (12, "overmemory"), (16, "ecn_mark")]),
    ("choke", &[(0, "early"), (4, "pdrop"), (8, "other"), (12, "marked"), (16, "matched")]),
    ("hhf", &[(0, "drop_overlimit"), (4, "hh_overlimit")]),
];

/// The virtual queues of gred, added up (`TCA_GRED_VQ_LIST`, 4.20).
fn gred(options: &[u8], add: &mut impl FnMut(&str, Option<u64>)) {
    let Some(queues) = attribute(options, 6) else { return };
    for (kind, name) in
        [(6, "prob_drop"), (8, "forced_drop"), (10, "pdrop"), (11, "other"), (7, "prob_mark")]
    {
        let counts = Attributes(queues).filter_map(|(_, queue)| attribute(queue, kind));
        add(name, Some(counts.filter_map(number).fold(0, u64::wrapping_add)));
    }
}

/// The tins of cake, added up (`TCA_CAKE_STATS_TIN_STATS`).
fn cake(own: &[u8], add: &mut impl FnMut(&str, Option<u64>)) {
    let Some(tins) = attribute(own, 10) else { return };
    for (kind, name) in
        [(4, "tin_dropped_packets"), (6, "tin_ack_drops"), (8, "tin_ecn_marked_packets")]
    {
        let sum = Attributes(tins)
            .filter_map(|(_, tin)| attribute(tin, kind).and_then(number))
            .fold(0_u64, u64::wrapping_add);
        add(name, Some(sum));
    }
}

/// Verdicts of `include/uapi/linux/pkt_cls.h`, as `tc` writes them.
pub(crate) fn verdict(code: i32) -> String {
    let name = match code {
        -1 => "continue",
        0 => "ok",
        1 => "reclassify",
        2 => "shot",
        3 => "pipe",
        4 => "stolen",
        5 => "queued",
        6 => "repeat",
        7 => "redirect",
        8 => "trap",
        other => {
            return match other >> 28 {
                1 => format!("jump {}", other & 0x0fff_ffff),
                2 => format!("goto chain {}", other & 0x0fff_ffff),
                _ => format!("{other}"),
            };
        }
    };
    name.to_owned()
}

/// The name of what `mirred` does (`include/uapi/linux/tc_act/tc_mirred.h`).
pub(crate) fn mirred(code: u16) -> &'static str {
    match code {
        1 => "egress_redir",
        2 => "egress_mirror",
        3 => "ingress_redir",
        4 => "ingress_mirror",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::push_attribute;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn long_words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn nest(attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, value) in attributes {
            push_attribute(&mut bytes, *kind, value);
        }
        bytes
    }

    fn own(kind: &str, bytes: &[u8], options: &[u8]) -> BTreeMap<String, u64> {
        let mut all = Counters::new();
        counters(kind, false, bytes, options, &mut all);
        all.into_iter().map(|(name, pair)| (name, pair.after)).collect()
    }

    fn pairs(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
        of.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn fq_of_three_ages() {
        let all: Vec<u64> = (1..=19).collect();
        let stats = own("fq", &long_words(&all), &[]);
        assert_eq!((stats["flows_plimit"], stats["horizon_drops"]), (5, 12));
        assert_eq!((stats["band0_drops"], stats["band2_drops"]), (15, 17));
        // Linux 5.10 ends after horizon_caps, 4.4 after the packed word of two flow counts.
        let stats = own("fq", &long_words(&all[..13]), &[]);
        assert_eq!(stats["horizon_caps"], 13);
        assert!(!stats.contains_key("band0_drops"));
        let stats = own("fq", &long_words(&all[..10]), &[]);
        assert_eq!(stats["flows_plimit"], 5);
        assert!(!stats.contains_key("ce_mark"));
        let options = options(
            "fq",
            false,
            &nest(&[
                (1, words(&[10_000])),
                (2, words(&[100])),
                (3, words(&[3028])),
                (7, words(&[u32::MAX])),
                (14, words(&[10_000_000])),
                (99, vec![1, 2]),
            ]),
        );
        let expected =
            [("limit_packets", 10_000), ("flow_limit_packets", 100), ("horizon_us", 10_000_000)];
        assert_eq!(options, pairs(&expected));
    }

    #[test]
    fn fq_codel_and_codel() {
        let bytes = words(&[0, 1514, 7, 8, 9, 1, 2, 10, 4096, 11]);
        let expected = [
            ("drop_overlimit", 7),
            ("ecn_mark", 8),
            ("new_flow_count", 9),
            ("ce_mark", 10),
            ("drop_overmemory", 11),
        ];
        assert_eq!(own("fq_codel", &bytes, &[]), pairs(&expected));
        assert!(!own("fq_codel", &bytes[..36], &[]).contains_key("drop_overmemory"), "before 4.7");
        assert_eq!(own("fq_codel", &words(&[1, 2, 3, 4, 5, 6]), &[]), pairs(&[]), "of a class");
        let bytes = words(&[1514, 1, 2, 3, 4, 55, 66, 0, 77]);
        let expected = [("drop_overlimit", 55), ("ecn_mark", 66), ("ce_mark", 77)];
        assert_eq!(own("codel", &bytes, &[]), pairs(&expected));
        let attributes =
            nest(&[(1, words(&[4999])), (2, words(&[10_240])), (9, words(&[1 << 25]))]);
        let expected =
            [("target_us", 4999), ("limit_packets", 10_240), ("memory_limit_bytes", 1 << 25)];
        assert_eq!(options("fq_codel", false, &attributes), pairs(&expected));
        assert_eq!(options("codel", false, &attributes), pairs(&expected[..2]));
    }

    #[test]
    fn red_sfq_netem_and_cake() {
        let expected = [("early", 1), ("pdrop", 2), ("other", 3), ("marked", 4)];
        assert_eq!(own("red", &words(&[1, 2, 3, 4]), &[]), pairs(&expected));
        let red = nest(&[(1, words(&[60_000, 1, 2, 3])), (3, words(&[5]))]);
        assert_eq!(options("red", false, &red), pairs(&[("limit_bytes", 60_000)]));
        let sfq = words(&[1514, 10, 127, 1024, 128]);
        assert_eq!(options("sfq", false, &sfq), pairs(&[("limit_packets", 127)]));
        let netem = words(&[0, 1000, 1 << 31, 0, 0, 0]);
        let expected = [("limit_packets", 1000), ("loss_ppm", 500_000)];
        assert_eq!(options("netem", false, &netem), pairs(&expected));
        let tin = |drops: u32, marks: u32| nest(&[(4, words(&[drops])), (8, words(&[marks]))]);
        let cake = nest(&[(4, words(&[99])), (10, nest(&[(1, tin(3, 1)), (2, tin(4, 0))]))]);
        let expected =
            [("tin_dropped_packets", 7), ("tin_ack_drops", 0), ("tin_ecn_marked_packets", 1)];
        assert_eq!(own("cake", &cake, &[]), pairs(&expected));
        assert_eq!(own("cake", &[], &[]), pairs(&[]));
    }

    #[test]
    fn rates_that_do_not_fit_thirty_two_bits() {
        // 125 kB/s with a burst of 2000 bytes is 16 ms, told as 250,000 ticks.
        let ratespec = |rate| [0, 0, rate];
        let mut parms = Vec::from(ratespec(125_000));
        parms.extend(ratespec(0));
        parms.extend([10_000, 250_000, 0]);
        let expected = [("rate_bytes", 125_000), ("limit_bytes", 10_000), ("burst_bytes", 2000)];
        assert_eq!(options("tbf", false, &nest(&[(1, words(&parms))])), pairs(&expected));
        let fast = 12_500_000_000_u64;
        let wide = nest(&[(1, words(&parms)), (4, long_words(&[fast]))]);
        assert_eq!(options("tbf", false, &wide)["rate_bytes"], fast);
        let mut parms = Vec::from(ratespec(u32::MAX));
        parms.extend(ratespec(u32::MAX));
        parms.extend([16, 16, 0, 0, 0]);
        let class =
            nest(&[(1, words(&parms)), (6, long_words(&[fast])), (7, long_words(&[2 * fast]))]);
        let class = options("htb", true, &class);
        assert_eq!((class["rate_bytes"], class["ceil_bytes"]), (fast, 2 * fast));
        assert_eq!(class["burst_bytes"], 12_800, "1024 ns at this rate");
        assert_eq!(options("htb", false, &nest(&[(1, words(&parms))])), pairs(&[]));
        let glob = nest(&[(2, words(&[3, 10, 0x10, 0, 42]))]);
        assert_eq!(own("htb", &[], &glob), pairs(&[("direct_pkts", 42)]));
    }

    #[test]
    fn policers_by_bytes_and_by_packets() {
        let mut parms = vec![1, 2, 0, 156_250, 0];
        parms.extend([0, 0, 125_000]);
        parms.extend([0, 0, 0, 1, 1, 0]);
        let bytes = police(&nest(&[(1, words(&parms))]));
        assert_eq!(bytes, pairs(&[("rate_bytes", 125_000), ("burst_bytes", 1250)]));
        parms[7] = 0;
        let rates =
            nest(&[(1, words(&parms)), (10, long_words(&[1000])), (11, long_words(&[1_562_500]))]);
        assert_eq!(police(&rates), pairs(&[("rate_packets", 1000), ("burst_packets", 100)]));
        let verdicts = [2, -1, 0x1000_0003, 0x2000_0007, 77].map(verdict);
        assert_eq!(verdicts, ["shot", "continue", "jump 3", "goto chain 7", "77"]);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            kind in "fq|fq_codel|codel|red|sfb|sfq|tbf|htb|cake|netem|pfifo|bfifo|fq_pie|new",
            class: bool,
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            options(&kind, class, &bytes);
            counters(&kind, class, &bytes, &bytes, &mut Counters::new());
            police(&bytes);
        }
    }
}
