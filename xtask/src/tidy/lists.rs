//! Code units are named in one visible list each: a file that is not listed would silently not run.

use super::{Problem, Tree, rust_text};

/// Folders of units and the file with their list.
const LISTS: &[(&str, &str)] = &[
    ("crates/whydrop-diagnose/src/rules", "crates/whydrop-diagnose/src/rules.rs"),
    ("crates/whydrop-collect/src/collectors", "crates/whydrop-collect/src/collectors.rs"),
    ("crates/whydrop-show/src/format", "crates/whydrop-show/src/format.rs"),
];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (folder, list) in LISTS {
        let code = tree.find(list).and_then(|file| file.text()).map(rust_text::code);
        for unit in tree.in_folder(folder, "rs") {
            let Some(code) = &code else {
                problems.push(Problem::new(&unit.path, format!("its list {list} does not exist")));
                continue;
            };
            let name = unit.stem();
            let declared = rust_text::words(code, name)
                .any(|at| code[..at].trim_end_matches(' ').ends_with("mod"));
            let listed =
                rust_text::words(code, name).any(|at| code[at + name.len()..].starts_with("::"));
            if !declared {
                problems.push(Problem::new(*list, format!("`mod {name};` is missing")));
            }
            if declared && !listed {
                problems.push(Problem::new(*list, format!("{name} is not in the list")));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::problems;

    const LIST: &str = "crates/whydrop-diagnose/src/rules.rs";
    const LAN: &str = "crates/whydrop-diagnose/src/rules/lan.rs";
    const SYN: &str = "crates/whydrop-diagnose/src/rules/syn.rs";

    #[test]
    fn units_in_their_list_pass() {
        let list =
            "mod lan;\npub(crate) mod syn;\nconst RULES: &[&dyn Rule] = &[&lan::Lan, &syn::Syn];";
        let parts = "crates/whydrop-diagnose/src/rules/lan/words.rs";
        assert_eq!(problems(check, &[(LIST, list), (LAN, ""), (SYN, ""), (parts, "")]), [""; 0]);
    }

    #[test]
    fn forgotten_units_do_not() {
        let list = "mod lan;\n// mod syn; &syn::Syn, &lan::Lan\nconst RULES: &[&dyn Rule] = &[];";
        assert_eq!(
            problems(check, &[(LIST, list), (LAN, ""), (SYN, "")]),
            [format!("{LIST}: `mod syn;` is missing"), format!("{LIST}: lan is not in the list")]
        );
        assert_eq!(
            problems(check, &[(LAN, "")]),
            [format!("{LAN}: its list {LIST} does not exist")]
        );
    }
}
