//! What proves that a cause is recognised: the lab's scenarios that expect it, and the diagnosis'
//! fixtures for what the lab cannot provoke.

use toml::{Table, Value};

use crate::tidy::{File, Tree};

/// Where the scenarios are.
pub(crate) const SCENARIOS: &str = "crates/whydrop-lab/scenarios";

/// Where the fixtures are, in a folder for each cause.
pub(crate) const FIXTURES: &str = "crates/whydrop-diagnose/fixtures/causes";

/// One case that names causes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// Path of its file.
    pub(crate) path: String,
    /// `cause/case` of a fixture, or the name of a scenario.
    pub(crate) name: String,
    /// It is a fixture.
    pub(crate) fixture: bool,
    /// Why a fixture is no scenario; `None` for scenarios, and for fixtures beside one.
    pub(crate) no_scenario: Option<String>,
    /// Causes that must be found or booked.
    pub(crate) causes: Vec<String>,
    /// It says how the program cures what it loses, or why it does not.
    pub(crate) answered: bool,
    /// Causes that it says must not be found.
    pub(crate) quiet: Vec<String>,
}

impl Proof {
    /// True if it shows by itself that a rule for this cause is right.
    pub(crate) fn proves(&self, cause: &str) -> bool {
        (!self.fixture || self.no_scenario.is_some()) && self.causes.iter().any(|it| it == cause)
    }
}

/// All scenarios and fixtures by path, those that are TOML; and the paths of those that are not.
pub(crate) fn all(tree: &Tree) -> (Vec<Proof>, Vec<String>) {
    let mut proofs = Vec::new();
    let mut unreadable = Vec::new();
    for file in &tree.files {
        let Some(fixture) = place(file) else { continue };
        match table(file) {
            Some(table) => proofs.push(proof(tree, file, fixture, &table)),
            None => unreadable.push(file.path.clone()),
        }
    }
    (proofs, unreadable)
}

/// Whether the file is a fixture; `None` if it is neither that nor a scenario.
fn place(file: &File) -> Option<bool> {
    let depth = |folder: &str| {
        let below = file.path.strip_prefix(folder)?.strip_prefix('/')?;
        (file.ending() == "toml").then(|| below.matches('/').count())
    };
    match (depth(SCENARIOS), depth(FIXTURES)) {
        (Some(0), _) => Some(false),
        (_, Some(1)) => Some(true),
        _ => None,
    }
}

fn table(file: &File) -> Option<Table> {
    file.text()?.parse().ok()
}

fn proof(tree: &Tree, file: &File, fixture: bool, own: &Table) -> Proof {
    // A scenario leaves what it does not say to the one it is like.
    let like = own.get("like").and_then(Value::as_str);
    let like = like.and_then(|name| table(tree.find(&format!("{SCENARIOS}/{name}.toml"))?));
    let value = |key: &str| own.get(key).or_else(|| like.as_ref()?.get(key));
    let has = |key: &str| value(key).is_some();
    let array = |key: &str| value(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let cause = |it: &Value| it.get("cause")?.as_str().map(Into::into);
    let mut causes: Vec<String> = ["expect", "booked"]
        .iter()
        .flat_map(|key| array(key))
        .filter_map(|it| cause(&it))
        .collect();
    causes.sort();
    causes.dedup();
    let folder = file.path.rsplit('/').nth(1).unwrap_or_default();
    let name = if fixture { format!("{folder}/{}", file.stem()) } else { file.stem().into() };
    Proof {
        path: file.path.clone(),
        name,
        fixture,
        no_scenario: own.get("no-scenario").and_then(Value::as_str).map(Into::into),
        causes,
        answered: ["fix", "no-fix"].into_iter().any(has),
        quiet: array("quiet").iter().filter_map(|it| it.as_str().map(Into::into)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::all;
    use crate::tidy::Tree;

    #[test]
    fn scenarios_and_fixtures_name_what_they_prove() {
        let tree = Tree::of(&[
            (
                "crates/whydrop-lab/scenarios/a.toml",
                "quiet = ['q']\n[[expect]]\ncause = 'x'\n[fix]",
            ),
            ("crates/whydrop-lab/scenarios/a-ipv6.toml", "like = 'a'\nquiet = []"),
            ("crates/whydrop-lab/scenarios/planned/b.toml", "[[expect]]\ncause = 'y'"),
            (
                "crates/whydrop-diagnose/fixtures/causes/z/ena.toml",
                "no-scenario = 'hardware'\n[[booked]]\ncause = 'z'",
            ),
            ("crates/whydrop-diagnose/fixtures/causes/z/like.toml", "expect = [{ cause = 'w' }]"),
            ("crates/whydrop-diagnose/fixtures/causes/z/no.toml", "expect ="),
        ]);
        let (proofs, unreadable) = all(&tree);
        assert_eq!(unreadable, ["crates/whydrop-diagnose/fixtures/causes/z/no.toml"]);
        let names: Vec<_> = proofs.iter().map(|proof| proof.name.as_str()).collect();
        assert_eq!(names, ["a", "a-ipv6", "z/ena", "z/like"]);
        assert_eq!((&proofs[0].quiet[..], proofs[1].quiet.len()), (&["q".to_owned()][..], 0));
        assert!(proofs[0].proves("x") && proofs[1].proves("x") && proofs[2].proves("z"));
        assert!(proofs[1].answered && !proofs[2].answered);
        assert!(!proofs[3].proves("w"), "a look-alike proves nothing by itself");
    }
}
