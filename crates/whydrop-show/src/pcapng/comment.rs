//! What the comment of a packet says, line by line, and back again.

use std::fmt::Write as _;

use whydrop_model::Sighting;

use crate::drops;
use crate::safe::Safe;

/// A comment, taken apart. Words are as they are shown, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comment {
    /// Drop reason.
    pub reason: String,
    /// Call site.
    pub site: String,
    /// Id of the cause, with its variant behind a stroke; empty if none was recognised.
    pub cause: String,
    /// Class and layer of the cause, with a comma between; empty without one.
    pub kind: String,
    /// What dropped it; empty if that is not known.
    pub by: String,
    /// Whose socket it was; empty if that is not known.
    pub owner: String,
    /// Container of the namespace; empty if that is not known.
    pub container: String,
}

impl Comment {
    /// Of a drop.
    #[must_use]
    pub fn of(sighting: &Sighting) -> Self {
        let safe = |text: &str| Safe(text).to_string();
        let verdict = sighting.verdict.as_ref();
        Self {
            reason: safe(&sighting.drop.reason),
            site: safe(&sighting.drop.site.to_string()),
            cause: verdict.map(|verdict| safe(&drops::cause(verdict))).unwrap_or_default(),
            kind: verdict
                .map(|verdict| format!("{}, {}", verdict.class.name(), safe(&verdict.layer)))
                .unwrap_or_default(),
            by: verdict.and_then(|it| it.object.as_deref()).map(safe).unwrap_or_default(),
            owner: sighting.owner.as_ref().map(|it| safe(&drops::owner(it))).unwrap_or_default(),
            container: sighting.container.as_deref().map(safe).unwrap_or_default(),
        }
    }

    /// From the text of a comment; `None` if it is not one of these.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (reason, site) = lines.next()?.strip_prefix("dropped: ")?.split_once(" at ")?;
        let mut comment = Self { reason: reason.into(), site: site.into(), ..Self::default() };
        for line in lines {
            let Some((name, value)) = line.split_once(": ") else { continue };
            match name {
                "cause" => {
                    let (cause, kind) = value.split_once(" (").unwrap_or((value, ""));
                    comment.cause = cause.into();
                    comment.kind = kind.trim_end_matches(')').into();
                }
                "by" => comment.by = value.into(),
                "owner" => comment.owner = value.into(),
                "container" => comment.container = value.into(),
                _ => {}
            }
        }
        Some(comment)
    }
}

/// The comment of a drop: a line for the reason and the call site, and one each for the cause, what
/// dropped it, the owner of the socket and the container, as far as they are known.
#[must_use]
pub fn comment(sighting: &Sighting) -> String {
    let Comment { reason, site, cause, kind, by, owner, container } = Comment::of(sighting);
    let mut text = format!("dropped: {reason} at {site}");
    let cause = if cause.is_empty() { cause } else { format!("{cause} ({kind})") };
    for (name, value) in [("cause", cause), ("by", by), ("owner", owner), ("container", container)]
    {
        if !value.is_empty() {
            let _ = write!(text, "\n{name}: {value}");
        }
    }
    text
}
