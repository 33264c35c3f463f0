//! Commands that an operator can paste: complete, and in the right namespace.

use whydrop_model::Namespace;

/// The command as it must be typed in whydrop's own namespace to act in `namespace`; `None` if
/// nothing leads there (no name and no process: it cannot be entered from outside).
#[must_use]
pub(crate) fn within(namespace: &Namespace, command: &str) -> Option<String> {
    if namespace.own {
        return Some(command.into());
    }
    match (&namespace.name, namespace.pid) {
        (Some(name), _) => Some(format!("ip netns exec {} {command}", quoted(name))),
        (None, Some(pid)) => Some(format!("nsenter --net=/proc/{pid}/ns/net {command}")),
        (None, None) => None,
    }
}

/// What confines a command of whydrop's own to the namespace, with a space before it; empty if it has no
/// name.
pub(crate) fn of_netns(namespace: Option<&Namespace>) -> String {
    let name = namespace.and_then(|namespace| namespace.name.as_ref());
    name.map_or(String::new(), |name| format!(" --netns {}", quoted(name)))
}

/// A word for a POSIX shell.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn commands_enter_the_namespace() {
        let mut namespace = sample::evidence().namespaces.remove(0);
        assert_eq!(within(&namespace, "true").as_deref(), Some("ip netns exec b true"));
        namespace.name = Some("it's".into());
        assert_eq!(within(&namespace, "true").as_deref(), Some(r"ip netns exec 'it'\''s' true"));
        namespace.name = None;
        assert_eq!(within(&namespace, "true"), None);
        namespace.pid = Some(7);
        assert_eq!(
            within(&namespace, "true").as_deref(),
            Some("nsenter --net=/proc/7/ns/net true")
        );
        namespace.own = true;
        assert_eq!(within(&namespace, "true").as_deref(), Some("true"));
    }
}
