//! Which crate may see which: `model <- {probe, collect, diagnose, show, lab} <- whydrop`, and
//! `collect <- cure <- whydrop`.

use serde_json::Value;

use super::{Problem, Tree};

/// Every crate of the workspace and those it may depend on, for building, running or testing.
const ARROWS: &[(&str, &[&str])] = &[
    ("whydrop-model", &[]),
    ("whydrop-probe", &["whydrop-model"]),
    ("whydrop-collect", &["whydrop-model"]),
    ("whydrop-diagnose", &["whydrop-model"]),
    ("whydrop-show", &["whydrop-model"]),
    ("whydrop-lab", &["whydrop-model"]),
    ("whydrop-filter", &[]),
    ("whydrop-top", &["whydrop-model", "whydrop-show"]),
    // Whoever changes a host enters its namespaces as those do who read it.
    ("whydrop-cure", &["whydrop-model", "whydrop-collect"]),
    (
        "whydrop",
        &[
            "whydrop-model",
            "whydrop-probe",
            "whydrop-collect",
            "whydrop-diagnose",
            "whydrop-show",
            "whydrop-top",
            "whydrop-lab",
            "whydrop-filter",
            "whydrop-cure",
        ],
    ),
    // The benchmark loads the tracer itself, beside an empty program; the documents tell what the
    // diagnosis knows.
    ("xtask", &["whydrop-probe", "whydrop-diagnose"]),
];

/// Crates that may build on nothing else from outside than these: the nouns stay plain data.
const OUTSIDE: &[(&str, &[&str])] = &[("whydrop-model", &["serde"]), ("whydrop-filter", &[])];

const PLACE: &str = "ARCHITECTURE.md, crates";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    arrows(&tree.metadata)
}

fn arrows(metadata: &Value) -> Vec<Problem> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut problems = Vec::new();
    for (package, name) in packages.iter().zip(&names) {
        let Some((_, allowed)) = ARROWS.iter().find(|(crate_name, _)| crate_name == name) else {
            let what = format!("{name} has no place yet: add it to xtask/src/tidy/arrows.rs");
            problems.push(Problem::new(PLACE, what));
            continue;
        };
        let outside = OUTSIDE.iter().find(|(crate_name, _)| crate_name == name);
        let dependencies = package["dependencies"].as_array().map(Vec::as_slice);
        for dependency in dependencies.unwrap_or_default() {
            let Some(seen) = dependency["name"].as_str() else { continue };
            if names.contains(&seen) {
                if !allowed.contains(&seen) {
                    problems.push(Problem::new(PLACE, format!("{name} must not depend on {seen}")));
                }
            } else if let Some((_, allowed)) = outside
                && dependency["kind"].is_null()
                && !allowed.contains(&seen)
            {
                let what =
                    format!("{name} may depend on {} only, not on {seen}", allowed.join(", "));
                problems.push(Problem::new(PLACE, what));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::arrows;

    fn metadata(packages: &[(&str, &[&str])]) -> Value {
        let packages: Vec<Value> = packages
            .iter()
            .map(|(name, dependencies)| {
                let dependencies: Vec<Value> =
                    dependencies.iter().map(|name| json!({ "name": name, "kind": null })).collect();
                json!({ "name": name, "dependencies": dependencies })
            })
            .collect();
        json!({ "packages": packages })
    }

    #[test]
    fn downward_arrows_and_outside_crates_pass() {
        let good = metadata(&[
            ("whydrop-model", &["serde"]),
            ("whydrop-diagnose", &["whydrop-model"]),
            ("whydrop-probe", &["whydrop-model", "aya"]),
            ("whydrop", &["whydrop-probe", "whydrop-diagnose", "clap"]),
        ]);
        assert_eq!(arrows(&good), []);
    }

    #[test]
    fn other_arrows_and_unknown_crates_do_not() {
        let bad = metadata(&[
            ("whydrop-model", &["serde", "rustix", "whydrop-show"]),
            ("whydrop-diagnose", &["whydrop-model", "whydrop-probe"]),
            ("whydrop-lab", &["whydrop-diagnose"]),
            ("whydrop-probe", &[]),
            ("whydrop-show", &[]),
            ("whydrop-utils", &[]),
        ]);
        let problems: Vec<_> = arrows(&bad).into_iter().map(|problem| problem.what).collect();
        assert_eq!(
            problems,
            [
                "whydrop-model may depend on serde only, not on rustix",
                "whydrop-model must not depend on whydrop-show",
                "whydrop-diagnose must not depend on whydrop-probe",
                "whydrop-lab must not depend on whydrop-diagnose",
                "whydrop-utils has no place yet: add it to xtask/src/tidy/arrows.rs",
            ]
        );
    }
}
