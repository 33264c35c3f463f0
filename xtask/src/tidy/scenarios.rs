//! Cases and rules prove each other: scenarios and fixtures name causes that exist, and no rule goes
//! without a scenario that makes it fire, or a fixture that says why there can be none. No cause goes
//! without either. A scenario of a cause that the program may cure says that it does, or why not.

use super::{Problem, Tree, knowledge};
use crate::proofs::{self, FIXTURES, Proof, SCENARIOS};

/// Where the rules are.
const RULES: &str = "crates/whydrop-diagnose/src/rules";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let causes = knowledge::causes(tree);
    let (proofs, unreadable) = proofs::all(tree);
    let not_toml = unreadable.iter().map(|path| Problem::new(path, "not TOML"));
    let mut problems: Vec<_> = not_toml.collect();
    for proof in &proofs {
        let mut bad = |what: String| problems.push(Problem::new(&proof.path, what));
        if let Some(part) = proof.name.split('/').find(|part| !knowledge::is_kebab(part)) {
            bad(format!("{part} is not kebab-case"));
        }
        let folder = proof.name.split_once('/').map(|(folder, _)| folder);
        let named = proof.causes.iter().chain(&proof.quiet).map(String::as_str);
        for cause in named.chain(folder).filter(|cause| !causes.contains(cause)) {
            bad(format!("{cause} has no page in {}", knowledge::CAUSES));
        }
        let curable = |cause: &&String| whydrop_diagnose::cure::causes().any(|one| one == *cause);
        if let Some(cause) = proof.causes.iter().find(curable)
            && !proof.fixture
            && !proof.answered
        {
            bad(format!("there may be a change against {cause}: `[fix]`, or `[no-fix]` and why"));
        }
    }
    problems.extend(unproven(tree, &causes, &proofs));
    problems.extend(nothing_yet(&causes, &proofs));
    problems
}

/// Causes that no scenario and no fixture expects.
fn nothing_yet(causes: &[&str], proofs: &[Proof]) -> Vec<Problem> {
    let expected =
        |cause: &str| proofs.iter().any(|proof| proof.causes.iter().any(|it| it == cause));
    let without = causes.iter().filter(|cause| !expected(cause));
    without
        .map(|cause| {
            let what = format!("nothing proves {cause}: no scenario and no fixture expects it");
            Problem::new(format!("{}/{cause}.md", knowledge::CAUSES), what)
        })
        .collect()
}

/// Rules that nothing proves.
fn unproven(tree: &Tree, causes: &[&str], proofs: &[Proof]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in tree.in_folder(RULES, "rs") {
        let rule = file.stem().replace('_', "-");
        if !causes.contains(&rule.as_str()) {
            let what = format!("a rule is called after its cause, and there is no cause {rule}");
            problems.push(Problem::new(&file.path, what));
        }
        if !proofs.iter().any(|proof| proof.proves(&rule)) {
            let what = format!(
                "no scenario in {SCENARIOS} expects {rule}, and no fixture in {FIXTURES} does that \
                 says why (`no-scenario`)"
            );
            problems.push(Problem::new(&file.path, what));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::problems;

    const SCENARIO: &str = "crates/whydrop-lab/scenarios/slow-accept.toml";
    const FIXTURE: &str = "crates/whydrop-diagnose/fixtures/causes/accept-queue-full/one.toml";
    const RULE: &str = "crates/whydrop-diagnose/src/rules/accept_queue_full.rs";
    const CAUSES: [(&str, &str); 2] = [
        ("crates/whydrop-diagnose/knowledge/causes/accept-queue-full.md", ""),
        ("crates/whydrop-diagnose/knowledge/causes/lan-chatter.md", ""),
    ];
    const CHATTER: &str = "crates/whydrop-lab/scenarios/chatter.toml";
    const EXPECT: &str = "[[expect]]\ncause = \"accept-queue-full\"\n[fix]\n";

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let chatter = "[[expect]]\ncause = \"lan-chatter\"\n";
        let mut all = vec![CAUSES[0], CAUSES[1], (CHATTER, chatter)];
        all.extend(files);
        problems(check, &all)
    }

    #[test]
    fn a_rule_with_a_scenario_passes() {
        let scenario = format!("quiet = [\"lan-chatter\"]\n{EXPECT}");
        assert_eq!(found(&[(SCENARIO, &scenario), (RULE, "")]), [""; 0]);
    }

    #[test]
    fn a_rule_without_one_needs_a_fixture_with_a_reason() {
        let quiet = "quiet = [\"accept-queue-full\"]\n";
        for files in [&[(SCENARIO, quiet), (RULE, "")][..], &[(FIXTURE, EXPECT), (RULE, "")]] {
            let found = found(files);
            let of_rule = |line: &&String| line.contains("expects accept-queue-full");
            assert_eq!(found.iter().filter(of_rule).count(), 1, "{found:#?}");
        }
        let fixture = format!("no-scenario = \"needs hardware\"\n{EXPECT}");
        assert_eq!(found(&[(FIXTURE, &fixture), (RULE, "")]), [""; 0]);
    }

    #[test]
    fn what_may_be_cured_says_whether_it_is() {
        let bare = EXPECT.replace("[fix]", "");
        let told = found(&[(SCENARIO, &bare)]);
        assert!(told[0].contains("a change against accept-queue-full"), "{told:?}");
        let why = format!("{bare}[no-fix]\n");
        assert_eq!(found(&[(SCENARIO, &why)]), [""; 0]);
        assert_eq!(found(&[(FIXTURE, &bare)]), [""; 0]);
    }

    #[test]
    fn a_cause_needs_no_rule_but_a_proof() {
        assert_eq!(found(&[(SCENARIO, EXPECT)]), [""; 0]);
        assert_eq!(found(&[(FIXTURE, EXPECT)]), [""; 0]);
        let found = found(&[(SCENARIO, "quiet = [\"accept-queue-full\"]\n")]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains("nothing proves accept-queue-full"), "{found:#?}");
    }

    #[test]
    fn names_must_exist_and_be_kebab_case() {
        let scenario = "quiet = [\"quiet-one\"]\n[[expect]]\ncause = \"loud-one\"\n";
        let found = found(&[
            (&SCENARIO.replace("slow-", "slow_"), scenario),
            (&SCENARIO.replace("slow", "broken"), "a ="),
            (&RULE.replace("queue", "queues"), ""),
            (&FIXTURE.replace("queue", "queues"), EXPECT),
        ]);
        for what in [
            "loud-one has no page in",
            "quiet-one has no page in",
            "slow_accept is not kebab-case",
            "broken-accept.toml: not TOML",
            "there is no cause accept-queues-full",
            "accept-queues-full has no page in",
        ] {
            assert!(found.iter().any(|line| line.contains(what)), "{what}: {found:#?}");
        }
    }
}
