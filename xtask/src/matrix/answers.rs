//! What a kernel answered, taken apart.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::loads::{self, Load};

/// Ways to attach, by the program's names for them.
pub(super) const WAYS: [&str; 3] = ["tp_btf", "raw_tp", "tp"];

/// What a report could not check because it was told to end, as every one here is.
const ENDED: &str = "the whole window";

/// What one kernel said.
pub(super) struct Answers {
    /// `uname -r`.
    pub(super) release: String,
    /// Arguments of the tracepoint.
    pub(super) arguments: Vec<String>,
    pub(super) reasons: Reasons,
    /// By way to attach, in the order of [`WAYS`].
    pub(super) ways: Vec<Way>,
    /// What the collectors read: how many of each kind.
    pub(super) read: BTreeMap<String, usize>,
    /// What could not be examined, and why.
    pub(super) not_checked: BTreeSet<(String, String)>,
    /// Scenarios played with the way that the program chose.
    pub(super) lab: Vec<Played>,
}

/// The kernel's reasons for drops.
pub(super) struct Reasons {
    /// How many have a name.
    pub(super) named: usize,
    /// Those of them that whydrop knows no meaning of.
    pub(super) unknown: Vec<String>,
    /// How many the tracepoint's own description names.
    pub(super) table: usize,
    /// Those of the description that whydrop names otherwise.
    pub(super) differing: Vec<String>,
}

/// One way to attach.
pub(super) struct Way {
    /// The way that was asked for.
    pub(super) asked: &'static str,
    /// The way that the report names.
    pub(super) attached: String,
    pub(super) loads: Vec<Load>,
    pub(super) lab: Vec<Played>,
}

/// One scenario.
#[derive(Debug, PartialEq)]
pub(super) struct Played {
    pub(super) name: String,
    /// What was wrong or why it was not played; nothing if all was right.
    pub(super) wrong: Vec<String>,
}

impl Answers {
    /// From what `questions.sh` printed.
    pub(super) fn read(heard: &str) -> Result<Self> {
        let parts = Parts::read(heard);
        if !parts.0.contains_key("end") {
            bail!("no answer after `{}`", last_question(heard).unwrap_or("nothing at all"));
        }
        let kernel = parts.json("kernel")?;
        let evidence = parts.json("evidence")?;
        let mut not_checked: BTreeSet<_> = missing(&evidence).collect();
        let mut ways = Vec::new();
        for asked in WAYS {
            let report = parts.json(&format!("report {asked}"))?;
            not_checked.extend(missing(&report));
            let part = |name: &str| parts.text(&format!("{name} {asked}"));
            ways.push(Way {
                asked,
                attached: text(&report["tracer"]["attach"]),
                loads: loads::read(part("loads"), part("programs")),
                lab: played(&parts.json(&format!("lab {asked}"))?),
            });
        }
        Ok(Self {
            release: text(&kernel["kernel"]),
            arguments: list(&kernel["arguments"]).map(text).collect(),
            reasons: Reasons::read(&parts.json("reasons")?, parts.text("table")),
            ways,
            read: counted(&evidence),
            not_checked,
            lab: played(&parts.json("lab")?),
        })
    }

    /// What is not right, one line each, without the scenarios that are `explained`.
    pub(super) fn faults(&self, explained: &dyn Fn(&Played) -> bool) -> Vec<String> {
        let mut faults = Vec::new();
        for Way { asked, attached, .. } in self.ways.iter().filter(|way| way.attached != way.asked)
        {
            faults.push(format!("asked to attach by {asked}, it attached by {attached}"));
        }
        let Reasons { unknown, differing, .. } = &self.reasons;
        faults.extend(unknown.iter().map(|name| format!("reason {name} has no meaning")));
        faults.extend(differing.iter().map(|name| format!("reason {name} is named otherwise")));
        for (way, one) in self.played().filter(|(_, one)| !explained(one)) {
            let way = way.map(|way| format!(" with {way}")).unwrap_or_default();
            faults.extend(one.wrong.iter().map(|why| format!("{}{way}: {why}", one.name)));
        }
        faults
    }

    /// All scenarios, those for every way to attach first, with the way.
    pub(super) fn played(&self) -> impl Iterator<Item = (Option<&'static str>, &Played)> {
        let forced =
            self.ways.iter().flat_map(|way| way.lab.iter().map(|played| (Some(way.asked), played)));
        forced.chain(self.lab.iter().map(|played| (None, played)))
    }

    /// How many scenarios were right, of how many.
    pub(super) fn score(&self) -> (usize, usize) {
        let right = self.played().filter(|(_, one)| one.wrong.is_empty()).count();
        (right, self.played().count())
    }

    /// In one line.
    pub(super) fn summary(&self) -> String {
        let attached: Vec<_> = self.ways.iter().map(|way| way.attached.as_str()).collect();
        let (right, all) = self.score();
        format!(
            "{}; attached {}; {} reasons; {} not checked; {right} of {all} scenarios right",
            self.release,
            attached.join(", "),
            self.reasons.named,
            self.not_checked.len(),
        )
    }
}

impl Reasons {
    /// From `whydrop reasons` and the tracepoint's `format`, which shares nothing with BTF. The latter
    /// has the reasons of the core only.
    fn read(reasons: &Value, format: &str) -> Self {
        let named: BTreeMap<u64, String> = list(reasons)
            .filter_map(|one| Some((one["value"].as_u64()?, text(&one["name"]))))
            .collect();
        let unknown = list(reasons).filter(|one| one["meaning"].is_null());
        let table = symbols(format);
        // The end of the enum is no reason.
        let table: Vec<_> = table.into_iter().filter(|(_, name)| name != "MAX").collect();
        let differing = table.iter().filter(|(value, name)| named.get(value) != Some(name));
        Self {
            named: list(reasons).count(),
            unknown: unknown.map(|one| text(&one["name"])).collect(),
            differing: differing.map(|(_, name)| name.clone()).collect(),
            table: table.len(),
        }
    }
}

/// The pairs `{ 2, "NOT_SPECIFIED" }` of a tracepoint's format.
fn symbols(format: &str) -> Vec<(u64, String)> {
    let pairs = format.split('{').skip(1).filter_map(|pair| pair.split('}').next());
    pairs
        .filter_map(|pair| {
            let (value, name) = pair.split_once(',')?;
            let name = name.trim().strip_prefix('"')?.strip_suffix('"')?;
            Some((value.trim().parse().ok()?, name.to_owned()))
        })
        .collect()
}

/// Answers by question, each with what was complained of.
struct Parts<'h>(BTreeMap<&'h str, (&'h str, &'h str)>);

impl<'h> Parts<'h> {
    fn read(heard: &'h str) -> Self {
        let mut parts: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        let mut latest = "";
        for part in questions(heard) {
            let (name, text) = part.split_once('\n').unwrap_or((part, ""));
            if name == "complaint" {
                parts.entry(latest).or_default().1 = text.trim();
            } else {
                parts.insert(name, (text.trim(), ""));
                latest = name;
            }
        }
        Self(parts)
    }

    fn text(&self, name: &str) -> &'h str {
        self.0.get(name).map_or("", |(text, _)| text)
    }

    fn json(&self, name: &str) -> Result<Value> {
        let (text, complaint) =
            self.0.get(name).with_context(|| format!("no answer to `{name}`"))?;
        let last = complaint.lines().last().unwrap_or("without a word");
        serde_json::from_str(text).with_context(|| format!("no answer to `{name}`: {last}"))
    }
}

/// What follows each mark, its name first. A mark is at the start of a line.
fn questions(heard: &str) -> impl Iterator<Item = &str> {
    heard
        .strip_prefix("@@ ")
        .into_iter()
        .chain(heard.split("\n@@ ").skip(1))
        .map(|part| part.split_once("\n@@ ").map_or(part, |(own, _)| own))
}

/// The question that is being answered.
pub(super) fn last_question(heard: &str) -> Option<&str> {
    let last = questions(heard).filter_map(|part| part.split_once('\n')).map(|(name, _)| name);
    last.filter(|name| *name != "complaint").last()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn missing(document: &Value) -> impl Iterator<Item = (String, String)> {
    let one = |missing: &Value| (text(&missing["what"]), text(&missing["why"]));
    list(&document["not_checked"]).map(one).filter(|(what, _)| what != ENDED)
}

/// How many of each kind the evidence holds, of the host and of the namespace that was asked for.
fn counted(evidence: &Value) -> BTreeMap<String, usize> {
    let mut read = BTreeMap::new();
    let named = |namespace: &&Value| {
        namespace["name"].as_str().is_some_and(|it| it.starts_with("whydrop-matrix"))
    };
    let namespace = list(&evidence["namespaces"]).find(named);
    let own = ["host", "window", "scope", "tracer", "events", "namespaces", "not_checked"];
    for part in [Some(evidence), namespace].into_iter().flatten() {
        for (key, value) in part.as_object().into_iter().flatten() {
            let count = match value {
                Value::Array(all) => all.len(),
                Value::Object(all) => {
                    all.values().map(|one| one.as_array().map_or(1, Vec::len)).sum()
                }
                _ => continue,
            };
            if !own.contains(&key.as_str()) {
                read.insert(key.clone(), count);
            }
        }
    }
    read
}

fn played(lab: &Value) -> Vec<Played> {
    let one = |outcome: &Value| {
        let mut wrong: Vec<_> = list(&outcome["failures"]).map(text).collect();
        wrong.extend(outcome["skipped"].as_str().map(|why| format!("skipped: {why}")));
        if wrong.is_empty() && outcome["pass"] != true {
            wrong.push(format!("expected {}, got {}", outcome["expected"], outcome["got"]));
        }
        Played { name: text(&outcome["name"]), wrong }
    };
    list(&lab["outcomes"]).map(one).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::fmt::Write as _;

    use super::{Answers, last_question};

    /// What a kernel might print; `pass` is what becomes of each scenario.
    pub(in super::super) fn heard(pass: bool) -> String {
        let lab = format!(
            r#"{{"outcomes": [{{"name": "x", "pass": {pass}, "failures": [], "expected": "a", "got": "b"}}]}}"#
        );
        let mut text = r#"@@ kernel
{"kernel": "6.1.0", "arguments": ["skbaddr"]}
@@ complaint
@@ reasons
[{"name": "A", "value": 2, "meaning": "a"}, {"name": "B", "value": 65538, "meaning": "b"}]
@@ complaint
@@ table
print fmt: "reason: %s", __print_symbolic(REC->reason, { 2, "A" })
@@ evidence
{"namespaces": [{"name": "whydrop-matrix-1", "counters": {"Tcp.x": {}}}], "softnet": [{}, {}],
 "not_checked": [{"what": "queues", "why": "no module"}]}
@@ complaint
"#
        .to_owned();
        for way in super::WAYS {
            let _ = write!(
                text,
                "@@ programs {way}\nfd: 4\nprog_type:\t26\nverified_insns:\t31\n@@ report {way}\n\
                 {{\"tracer\": {{\"attach\": \"{way}\"}},\n \"not_checked\": [{{\"what\": \"the whole window\", \
                 \"why\": \"signal\"}}]}}\n@@ complaint\n@@ loads {way}\n1 bpf(BPF_PROG_LOAD, {{insn_cnt=7, \
                 prog_name=\"drop\"}}, 1) = 4 <0.5>\n@@ lab {way}\n{lab}\n@@ complaint\n"
            );
        }
        text + &format!("@@ lab\n{lab}\n@@ complaint\n@@ end\n")
    }

    #[test]
    fn every_answer_is_found() {
        let answers = Answers::read(&heard(true)).unwrap();
        assert_eq!(answers.faults(&|_| false), Vec::<String>::new());
        assert_eq!((answers.reasons.named, answers.reasons.table), (2, 1));
        assert_eq!(answers.ways[2].loads[0].verified, Some(31));
        assert_eq!(answers.read.get("softnet"), Some(&2));
        assert_eq!(answers.read.get("counters"), Some(&1));
        assert_eq!(
            answers.summary(),
            "6.1.0; attached tp_btf, raw_tp, tp; 2 reasons; 1 not checked; 4 of 4 scenarios right"
        );
    }

    #[test]
    fn whatever_is_not_as_it_should_be_is_a_fault() {
        let faults = |heard: &str| Answers::read(heard).unwrap().faults(&|_| false);
        assert_eq!(faults(&heard(false)).len(), 4);
        let otherwise = [
            (
                r#""attach": "tp""#,
                r#""attach": "none""#,
                "asked to attach by tp, it attached by none",
            ),
            (r#""meaning": "b""#, r#""meaning": null"#, "reason B has no meaning"),
            (r#"{ 2, "A" }"#, r#"{ 2, "C" }"#, "reason C is named otherwise"),
        ];
        for (right, wrong, told) in otherwise {
            assert_eq!(faults(&heard(true).replace(right, wrong)), [told]);
        }
    }

    #[test]
    fn a_guest_that_died_gave_no_answers() {
        let whole = heard(true);
        let (cut, _) = whole.split_once("@@ lab raw_tp").unwrap();
        assert_eq!(last_question(cut), Some("loads raw_tp"));
        let why = Answers::read(cut).err().unwrap().to_string();
        assert_eq!(why, "no answer after `loads raw_tp`");
        let mute = whole.replace(
            "{\"kernel\": \"6.1.0\", \"arguments\": [\"skbaddr\"]}\n@@ complaint",
            "@@ complaint\nnot found",
        );
        let why = format!("{:#}", Answers::read(&mute).err().unwrap());
        assert!(why.starts_with("no answer to `kernel`: not found"), "{why}");
    }
}
