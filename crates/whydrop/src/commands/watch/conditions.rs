//! whydrop's own conditions: `--reason`, `--cause` and their like.
//!
//! Each takes a list; one of its words must fit, and none of those that begin with `!`. All options
//! must be met.

use std::path::Path;

use anyhow::bail;
use whydrop_diagnose::{causes, knowledge};
use whydrop_model::{DropTotal, Sighting};
use whydrop_probe::{Reasons, Symbols};

use crate::cli::Only;

const CLASSES: [&str; 5] = ["fault", "policy", "peer", "info", "benign"];

/// A container's id may be shortened to this many letters.
const SHORT_ID: usize = 8;

/// The words of one option.
#[derive(Debug, Clone, Default)]
struct Choice {
    any: Vec<String>,
    none: Vec<String>,
}

impl Choice {
    fn new(words: &[String]) -> Self {
        let (none, any): (Vec<_>, Vec<_>) =
            words.iter().cloned().partition(|word| word.starts_with('!'));
        let none = none.iter().map(|word| word[1..].to_owned()).collect();
        Self { any, none }
    }

    /// All words, for and against.
    fn words(&self) -> impl Iterator<Item = &str> {
        self.any.iter().chain(&self.none).map(String::as_str)
    }

    /// True if a thing with these names is asked for.
    fn admits(&self, names: &[Option<&str>]) -> bool {
        self.admits_by(|word| names.contains(&Some(word)))
    }

    fn admits_by(&self, fits: impl Fn(&str) -> bool) -> bool {
        let fits = |word: &String| fits(word);
        (self.any.is_empty() || self.any.iter().any(fits)) && !self.none.iter().any(fits)
    }

    /// Refuses words that are none of these.
    fn check<'a>(
        &self,
        what: &str,
        known: &(impl Iterator<Item = &'a str> + Clone),
        all: &str,
    ) -> anyhow::Result<()> {
        for word in self.words() {
            if known.clone().any(|one| one == word) {
                continue;
            }
            let near = known.clone().find(|one| one.eq_ignore_ascii_case(word));
            match near.or_else(|| knowledge::nearest(word, known.clone())) {
                Some(near) => bail!("there is no {what} {word:?}; did you mean {near}?"),
                None => bail!("there is no {what} {word:?}: {all}"),
            }
        }
        Ok(())
    }
}

/// All conditions.
#[derive(Debug, Clone)]
pub(super) struct Conditions {
    reason: Choice,
    cause: Choice,
    class: Choice,
    layer: Choice,
    netns: Choice,
    dev: Choice,
    process: Choice,
    container: Choice,
    site: Choice,
}

impl Conditions {
    /// Those of the command line, checked against what does not depend on the host.
    pub(super) fn new(only: &Only) -> anyhow::Result<Self> {
        let conditions = Self {
            reason: Choice::new(&only.reason),
            cause: Choice::new(&only.cause),
            class: Choice::new(&only.class),
            layer: Choice::new(&only.layer),
            netns: Choice::new(&only.netns),
            dev: Choice::new(&only.dev),
            process: Choice::new(&only.process),
            container: Choice::new(&only.container),
            site: Choice::new(&only.site),
        };
        let ids = causes::all().iter().map(|cause| cause.id);
        let list = "`whydrop explain WORDS` finds those that have to do with them";
        conditions.cause.check("cause", &ids, list)?;
        let classes = CLASSES.join(", ");
        conditions.class.check("class", &CLASSES.into_iter(), &format!("there are {classes}"))?;
        let layers = causes::LAYERS.join(", ");
        let known = causes::LAYERS.iter().copied();
        conditions.layer.check("layer", &known, &format!("there are {layers}"))?;
        Ok(conditions)
    }

    /// Refuses drop reasons that this kernel does not have.
    pub(super) fn check_reasons(&self, btf: &Path) -> anyhow::Result<()> {
        if self.reason.words().next().is_none() {
            return Ok(());
        }
        let reasons = Reasons::read(btf)?;
        let names: Vec<_> = reasons.iter().map(|reason| reason.name.as_str()).collect();
        self.reason.check(
            "drop reason in this kernel",
            &names.into_iter(),
            "`whydrop reasons` lists them",
        )
    }

    /// Refuses functions that this kernel does not have. Without a symbol table nothing is known.
    pub(super) fn check_sites(&self) -> anyhow::Result<()> {
        if self.site.words().next().is_none() {
            return Ok(());
        }
        let Ok(symbols) = Symbols::read() else { return Ok(()) };
        let known = symbols.names().collect::<Vec<_>>();
        self.site.check(
            "kernel function",
            &known.into_iter(),
            "lines of `whydrop watch` show those that drop packets",
        )
    }

    /// The only namespaces that are asked for, by name; empty if any may be, or if one of them is
    /// told by its inode.
    pub(super) fn namespaces(&self) -> Vec<String> {
        let by_inode = self.netns.any.iter().any(|word| word.parse::<u64>().is_ok());
        if by_inode { Vec::new() } else { self.netns.any.clone() }
    }

    /// All namespaces named.
    pub(super) fn named_namespaces(&self) -> impl Iterator<Item = &str> {
        self.netns.words()
    }

    /// True if noise is asked for by name.
    pub(super) fn names_noise(&self) -> bool {
        let benign = |id: &String| {
            let cause = causes::find(id);
            cause.is_some_and(|cause| cause.class == whydrop_model::Class::Benign)
        };
        self.class.any.iter().any(|class| class == "benign") || self.cause.any.iter().any(benign)
    }

    /// True if this drop is asked for.
    pub(super) fn admit(&self, sighting: &Sighting) -> bool {
        let drop = &sighting.drop;
        let verdict = sighting.verdict.as_ref();
        let owner = sighting.owner.as_ref();
        let pid = owner.map(|owner| owner.pid.to_string());
        let inode = drop.netns.map(|inode| inode.to_string());
        let pod = owner.and_then(|owner| owner.pod.as_ref()?.name.as_deref());
        let containers = [
            sighting.container.as_deref(),
            owner.and_then(|owner| owner.container.as_deref()),
            pod,
        ];
        let in_container = |word: &str| {
            containers
                .into_iter()
                .flatten()
                .any(|id| id == word || (word.len() >= SHORT_ID && id.starts_with(word)))
        };
        self.reason.admits(&[Some(&drop.reason)])
            && self.site.admits(&[Some(&drop.site.symbol)])
            && self.dev.admits(&[drop.device.as_deref()])
            && self.netns.admits(&[sighting.netns_name.as_deref(), inode.as_deref()])
            && self.cause.admits(&[verdict.map(|it| it.cause.as_str())])
            && self.class.admits(&[verdict.map(|it| it.class.name())])
            && self.layer.admits(&[verdict.map(|it| it.layer.as_str())])
            && self.process.admits(&[owner.map(|it| it.comm.as_str()), pid.as_deref()])
            && self.container.admits_by(in_container)
    }

    /// True if there are any, and totals tell which drops meet them.
    pub(super) fn are_of_totals(&self) -> bool {
        let of_totals = [
            &self.reason,
            &self.cause,
            &self.class,
            &self.layer,
            &self.netns,
            &self.dev,
            &self.site,
        ];
        let any = |choice: &Choice| choice.words().next().is_some();
        of_totals.into_iter().any(any) && !any(&self.process) && !any(&self.container)
    }

    /// True if drops of this total are asked for; those that only single drops can meet do not
    /// count.
    pub(super) fn admit_total(
        &self,
        total: &DropTotal,
        netns: Option<&str>,
        verdict: Option<&whydrop_model::Attribution>,
    ) -> bool {
        let inode = total.netns.map(|inode| inode.to_string());
        let site = total.site.as_ref().map(|site| site.symbol.as_str());
        self.reason.admits(&[Some(&total.reason)])
            && self.site.admits(&[site])
            && self.dev.admits(&[total.device.as_deref()])
            && self.netns.admits(&[netns, inode.as_deref()])
            && self.cause.admits(&[verdict.map(|it| it.cause.as_str())])
            && self.class.admits(&[verdict.map(|it| it.class.name())])
            && self.layer.admits(&[verdict.map(|it| it.layer.as_str())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(words: &[&str]) -> Choice {
        Choice::new(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn one_must_fit_and_none_of_the_others() {
        let names = |name| [Some(name)];
        assert!(choice(&[]).admits(&names("a")) && choice(&[]).admits(&[None]));
        assert!(choice(&["a", "b"]).admits(&names("b")));
        assert!(!choice(&["a", "b"]).admits(&names("c")));
        assert!(!choice(&["a"]).admits(&[None]));
        assert!(choice(&["!a"]).admits(&[None]) && choice(&["!a"]).admits(&names("b")));
        assert!(!choice(&["!a"]).admits(&names("a")));
        assert!(!choice(&["a", "!a"]).admits(&names("a")));
    }

    #[test]
    fn unknown_names_are_refused_with_what_was_meant() {
        let refused = |only: Only| Conditions::new(&only).expect_err("refused").to_string();
        let words = |word: &str| vec![word.to_owned()];
        let cause = refused(Only { cause: words("!udp-port-close"), ..Only::default() });
        assert!(cause.contains("did you mean udp-port-closed?"), "{cause}");
        let class = refused(Only { class: words("noise"), ..Only::default() });
        assert!(class.contains("fault, policy, peer, info, benign"), "{class}");
        let layer = refused(Only { layer: words("sockets"), ..Only::default() });
        assert!(layer.contains("did you mean socket?"), "{layer}");
    }
}
