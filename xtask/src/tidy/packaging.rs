//! What crates.io shows of a crate must be there: who finds one there should learn what it is for.

use serde_json::Value;

use super::{Problem, Tree};

/// Fields of the manifest, each with what crates.io does with it.
const FIELDS: &[(&str, &str)] = &[
    ("description", "shown in every list"),
    ("license", "publishing is refused without it"),
    ("readme", "the page of the crate"),
    ("documentation", "where its reference is"),
    ("keywords", "how it is found"),
    ("categories", "where it is listed"),
    ("rust_version", "what cargo chooses a version by"),
];

/// crates.io takes no more.
const MOST: usize = 5;

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let packages = tree.metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut problems = Vec::new();
    // `publish = false` is an empty list of registries.
    for package in packages.iter().filter(|package| package["publish"] != Value::Array(vec![])) {
        let name = package["name"].as_str().unwrap_or_default();
        let place = format!("crates/{name}/Cargo.toml");
        for (field, why) in FIELDS {
            if is_empty(&package[*field]) {
                let field = field.replace('_', "-");
                problems.push(Problem::new(&place, format!("no {field}: {why}")));
            }
        }
        for field in ["keywords", "categories"] {
            if package[field].as_array().is_some_and(|list| list.len() > MOST) {
                problems.push(Problem::new(&place, format!("more than {MOST} {field}")));
            }
        }
        let page = format!("crates/{name}/README.md");
        let says = tree.find(&page).and_then(|file| file.text()).unwrap_or_default();
        if !says.starts_with(&format!("# {name}\n")) {
            problems.push(Problem::new(page, format!("must exist and begin with `# {name}`")));
        }
    }
    problems
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::check;
    use crate::tidy::Tree;

    #[test]
    fn a_published_crate_says_what_it_is() {
        let complete = json!({
            "name": "a", "publish": null, "description": "It", "license": "MIT",
            "readme": "README.md", "documentation": "https://docs.rs/a", "keywords": ["k"],
            "categories": ["c"], "rust_version": "1.88",
        });
        let mut bare = complete.clone();
        bare["name"] = "b".into();
        bare["description"] = " ".into();
        bare["keywords"] = json!(["1", "2", "3", "4", "5", "6"]);
        bare["license"] = json!(null);
        let task = json!({ "name": "c", "publish": [] });
        let mut tree = Tree::of(&[("crates/a/README.md", "# a\n\nIt.\n")]);
        tree.metadata = json!({ "packages": [complete, bare, task] });
        let problems: Vec<_> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "crates/b/Cargo.toml: no description: shown in every list",
                "crates/b/Cargo.toml: no license: publishing is refused without it",
                "crates/b/Cargo.toml: more than 5 keywords",
                "crates/b/README.md: must exist and begin with `# b`",
            ]
        );
    }
}
