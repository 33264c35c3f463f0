//! Scenarios and rules prove each other: a scenario names causes that exist, and no rule goes
//! without a scenario that makes it fire, or a reason why there is none.

use toml::{Table, Value};

use super::{Problem, Tree, knowledge};

/// Where the scenarios are.
const SCENARIOS: &str = "crates/whydrop-lab/scenarios";

/// Where the rules are.
const RULES: &str = "crates/whydrop-diagnose/src/rules";

/// Rules that no scenario has to expect, each with the reason.
const UNPROVEN: &[(&str, &str)] = &[
    ("socket-closed-with-data", NOISE),
    ("tcp-routine-discard", NOISE),
    (
        "listen-drop-other",
        "takes what is left of ListenDrops: memory or a route lost in mid-handshake",
    ),
];

const NOISE: &str =
    "benign: booked in the ledger, where every scenario checks that nothing is left";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let causes = knowledge::causes(tree);
    let mut problems = Vec::new();
    let mut expected = Vec::new();
    for file in tree.in_folder(SCENARIOS, "toml") {
        let mut bad = |what: String| problems.push(Problem::new(&file.path, what));
        if !knowledge::is_kebab(file.stem()) {
            bad(format!("{} is not kebab-case", file.stem()));
        }
        let Some(scenario) = file.text().and_then(|text| text.parse::<Table>().ok()) else {
            bad("not TOML".into());
            continue;
        };
        let firing = expectations(&scenario);
        for cause in firing.iter().chain(&quiet(&scenario)) {
            if !causes.contains(&cause.as_str()) {
                bad(format!("{cause} is not in {}", knowledge::CAUSES));
            }
        }
        expected.extend(firing);
    }
    problems.extend(unproven(tree, &causes, &expected));
    problems
}

/// Rules without a scenario, and exceptions that are none any more.
fn unproven(tree: &Tree, causes: &[&str], expected: &[String]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut rules = Vec::new();
    for file in tree.in_folder(RULES, "rs") {
        let rule = file.stem().replace('_', "-");
        if !causes.contains(&rule.as_str()) {
            let what = format!("a rule is called after its cause, and there is no cause {rule}");
            problems.push(Problem::new(&file.path, what));
        }
        let excepted = UNPROVEN.iter().any(|(name, _)| *name == rule);
        if !excepted && !expected.contains(&rule) {
            let what = format!("no scenario in {SCENARIOS} expects {rule}");
            problems.push(Problem::new(&file.path, what));
        }
        rules.push(rule);
    }
    for (rule, _) in UNPROVEN.iter().filter(|_| !rules.is_empty()) {
        let what = if !rules.iter().any(|name| name == rule) {
            "is no rule"
        } else if expected.iter().any(|name| name == rule) {
            "has a scenario now"
        } else {
            continue;
        };
        let what = format!("{rule} {what}: take it out of UNPROVEN");
        problems.push(Problem::new("xtask/src/tidy/scenarios.rs", what));
    }
    problems
}

/// Causes that a scenario says must be found.
fn expectations(scenario: &Table) -> Vec<String> {
    array(scenario, "expect")
        .iter()
        .filter_map(|it| Some(it.get("cause")?.as_str()?.into()))
        .collect()
}

/// Causes that it says must not be found.
fn quiet(scenario: &Table) -> Vec<String> {
    array(scenario, "quiet").iter().filter_map(|it| Some(it.as_str()?.into())).collect()
}

fn array<'a>(scenario: &'a Table, key: &str) -> &'a [Value] {
    scenario.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{UNPROVEN, check};
    use crate::tidy::{knowledge::CAUSES, problems};

    const SCENARIO: &str = "crates/whydrop-lab/scenarios/slow-accept.toml";
    const RULE: &str = "crates/whydrop-diagnose/src/rules/accept_queue_full.rs";

    fn tables() -> String {
        let rules = UNPROVEN.iter().map(|(rule, _)| *rule).chain(["accept-queue-full"]);
        let rows = rules.map(|rule| format!("{rule}\tnic\tbenign\t"));
        let lines: Vec<_> =
            std::iter::once("id\tlayer\tclass\tvariants".into()).chain(rows).collect();
        lines.join("\n")
    }

    /// The rules that need no scenario, so that a test sees only what it is about.
    fn exceptions() -> Vec<String> {
        let path = |rule: &str| format!("{}/{}.rs", super::RULES, rule.replace('-', "_"));
        UNPROVEN.iter().map(|(rule, _)| path(rule)).collect()
    }

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let causes = tables();
        let exceptions = exceptions();
        let mut all: Vec<(&str, &str)> =
            exceptions.iter().map(|path| (path.as_str(), "")).collect();
        all.push((CAUSES, &causes));
        all.extend(files);
        problems(check, &all)
    }

    #[test]
    fn a_rule_with_a_scenario_passes() {
        let (quiet, _) = UNPROVEN[0];
        let expect = "[[expect]]\ncause = \"accept-queue-full\"\n";
        let scenario = format!("quiet = [\"{quiet}\"]\n{expect}");
        assert_eq!(found(&[(SCENARIO, &scenario), (RULE, "")]), [""; 0]);
    }

    #[test]
    fn a_rule_without_one_does_not() {
        let quiet = "quiet = [\"accept-queue-full\"]\n";
        let found = found(&[(SCENARIO, quiet), (RULE, "")]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains("expects accept-queue-full"), "{found:#?}");
    }

    #[test]
    fn names_must_exist_and_be_kebab_case() {
        let scenario = "quiet = [\"quiet-one\"]\n[[expect]]\ncause = \"loud-one\"\n";
        let path = SCENARIO.replace('-', "_");
        let broken = SCENARIO.replace("slow", "broken");
        let rule = RULE.replace("queue", "queues");
        let found = found(&[
            (&path.replace("whydrop_lab", "whydrop-lab"), scenario),
            (&broken, "a ="),
            (&rule, ""),
        ]);
        for what in [
            "loud-one is not in",
            "quiet-one is not in",
            "slow_accept is not kebab-case",
            "broken-accept.toml: not TOML",
            "there is no cause accept-queues-full",
        ] {
            assert!(found.iter().any(|line| line.contains(what)), "{what}: {found:#?}");
        }
    }

    #[test]
    fn an_exception_must_still_be_one() {
        let (rule, _) = UNPROVEN[0];
        let found = found(&[(SCENARIO, &format!("[[expect]]\ncause = \"{rule}\"\n"))]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains("has a scenario now"), "{found:#?}");
        let causes = tables();
        let gone = problems(check, &[(CAUSES, &causes), (&exceptions()[0], "")]);
        assert_eq!(gone.len(), UNPROVEN.len() - 1, "{gone:#?}");
    }
}
