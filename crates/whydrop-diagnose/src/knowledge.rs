//! The pages of `knowledge/`: one per drop reason, per call site that changes what a reason means,
//! and per cause.
//!
//! Pages are data, embedded at build time (`build.rs`). This module finds them: by name, by words,
//! by what was probably meant. It judges no evidence.

/// What a page is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A drop reason (`NO_SOCKET`), or a reason at one call site (`NO_SOCKET@cookie_v4_check`).
    Reason,
    /// A cause that a report may name (`accept-queue-full`).
    Cause,
}

/// One page.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// What it is about.
    pub kind: Kind,
    /// Name of the reason as in the kernel's enum without `SKB_DROP_REASON_`, followed by `@` and
    /// the function that freed the packet where the page is about one call site; or id of the cause.
    pub name: &'static str,
    /// One of [`crate::causes::LAYERS`].
    pub layer: &'static str,
    /// `fault`, `policy`, `peer`, `benign`, `info`, or `depends` where the reason alone does not
    /// decide.
    pub class: &'static str,
    /// First kernel release that has the reason, under any of its names.
    pub since: Option<&'static str>,
    /// Last kernel release that has it; `None` if current ones do.
    pub until: Option<&'static str>,
    /// Other names: those of other kernels, other functions of the same call site.
    pub aliases: &'static [&'static str],
    /// Variants of a cause.
    pub variants: &'static [&'static str],
    /// One line.
    pub meaning: &'static str,
    /// Names of related pages.
    pub see: &'static [&'static str],
    /// The text below the head, in Markdown: sections with headings of the second level, paragraphs,
    /// lists, indented lines of code.
    pub body: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// Headings of a reason's page, in order.
pub const REASON_HEADINGS: &[&str] = &[
    "What happened",
    "Usual causes",
    "How to confirm",
    "How to cure",
    "What not to do",
    "Kernel source",
];

/// Headings of a cause's page, in order.
pub const CAUSE_HEADINGS: &[&str] =
    &["What it is", "Evidence", "What it is not", "How to cure", "What not to do", "Kernel source"];

impl Page {
    /// Sections as heading and text, in order.
    pub fn sections(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let sections = self.body.strip_prefix("## ").unwrap_or(self.body).split("\n## ");
        sections.map(|section| {
            let (heading, text) = section.split_once('\n').unwrap_or((section, ""));
            (heading.trim(), text.trim_matches('\n'))
        })
    }

    /// The function that freed the packet, on a page about one call site.
    #[must_use]
    pub fn call_site(&self) -> Option<&'static str> {
        self.name.split_once('@').map(|(_, symbol)| symbol)
    }

    /// Its name and its aliases.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

/// The page of this name or alias. Case does not count, `-` and `_` are the same, and a prefix
/// `SKB_DROP_REASON_` is ignored.
#[must_use]
pub fn find(name: &str) -> Option<&'static Page> {
    let wanted = plain(name);
    let is = |page: &&Page| page.names().any(|one| plain(one) == wanted);
    PAGES.iter().find(|page| plain(page.name) == wanted).or_else(|| PAGES.iter().find(is))
}

/// Pages about drops in this function, whatever the reason. An offset (`+0x1f/0x2a0`), the module
/// and what the compiler appends (`.isra.0`) do not count.
pub fn at_call_site(symbol: &str) -> impl Iterator<Item = &'static Page> {
    let wanted = plain(function(symbol));
    PAGES.iter().filter(move |page| {
        let mut sites = page.names().filter_map(|name| name.split_once('@'));
        sites.any(|(_, symbol)| plain(symbol) == wanted)
    })
}

/// Pages of reasons that name this function as their source, other than those about it as a call site.
pub fn from_source(symbol: &str) -> impl Iterator<Item = &'static Page> {
    let quoted = format!("`{}`", function(symbol));
    PAGES.iter().filter(move |page| {
        let mut sections = page.sections();
        let source = sections.find(|(heading, _)| *heading == "Kernel source");
        page.kind == Kind::Reason
            && page.call_site().is_none()
            && source.is_some_and(|(_, text)| text.contains(&quoted))
    })
}

/// Pages about single call sites of this reason.
pub fn call_sites_of(reason: &str) -> impl Iterator<Item = &'static Page> {
    let wanted = plain(reason);
    PAGES.iter().filter(move |page| {
        page.name.split_once('@').is_some_and(|(reason, _)| plain(reason) == wanted)
    })
}

/// The bare name of a kernel function as tracers print it: `nft_do_chain+0x123/0x5e0 [nf_tables]`.
#[must_use]
pub fn function(symbol: &str) -> &str {
    symbol.split(['+', '.', ' ', '/', '[']).next().unwrap_or(symbol)
}

/// Pages that hold the most of these words, the best first. Words in names count most, then those
/// in the meaning. A page that has less than half of the words is none.
#[must_use]
pub fn search(words: &[&str]) -> Vec<&'static Page> {
    let words = lower_case(words);
    let mut found: Vec<_> = PAGES
        .iter()
        .filter_map(|page| {
            let scores: Vec<usize> =
                words.iter().map(|word| score(page, word)).filter(|score| *score > 0).collect();
            let enough = !scores.is_empty() && scores.len() * 2 >= words.len();
            enough.then(|| (scores.len(), scores.iter().sum::<usize>(), page))
        })
        .collect();
    let most = found.iter().map(|(hits, ..)| *hits).max();
    found.retain(|(hits, ..)| Some(*hits) == most);
    found.sort_by_key(|(_, score, page)| (std::cmp::Reverse(*score), page.name));
    found.into_iter().map(|(.., page)| page).collect()
}

/// Words to search for; a single letter or sign is on every page and finds nothing.
pub(crate) fn lower_case(words: &[&str]) -> Vec<String> {
    let tells = |word: &&&str| word.chars().filter(|c| c.is_alphanumeric()).count() >= 2;
    words.iter().filter(tells).map(|word| word.to_lowercase()).collect()
}

fn score(page: &Page, word: &str) -> usize {
    let holds = |text: &str| text.to_lowercase().contains(word);
    if page.names().any(holds) {
        8
    } else if holds(page.meaning) {
        4
    } else if holds(page.layer) || page.variants.iter().any(|variant| holds(variant)) {
        2
    } else {
        usize::from(holds(page.body))
    }
}

/// Names that were probably meant: those with few letters different and those that begin alike,
/// the nearest first.
#[must_use]
pub fn near(name: &str) -> Vec<&'static Page> {
    let wanted = plain(name);
    let limit = (wanted.len() / 4).clamp(1, 4);
    let mut found: Vec<_> = PAGES
        .iter()
        .filter_map(|page| {
            let names = page.names().map(plain);
            let distance = names.map(|one| distance(&wanted, &one, limit)).min()?;
            (distance <= limit).then_some((distance, page.name, page))
        })
        .collect();
    found.sort_by_key(|(distance, name, _)| (*distance, *name));
    found.truncate(NEAR);
    found.into_iter().map(|(.., page)| page).collect()
}

/// More names than this are no help.
const NEAR: usize = 6;

/// A name without what does not count.
pub(crate) fn plain(name: &str) -> String {
    let name = name.trim().to_uppercase().replace('-', "_");
    name.strip_prefix("SKB_DROP_REASON_").map(str::to_owned).unwrap_or(name)
}

/// The one of these names that was probably meant.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.len() / 3).clamp(1, 4);
    known
        .map(|one| (!one.starts_with(name), distance(name, one, limit), one))
        .filter(|(_, distance, _)| *distance <= limit)
        .min()
        .map(|(_, _, one)| one)
}

/// Letters to insert, remove, change or swap with their neighbour to get from one to the other; any
/// number above the limit if it is more than that. One that begins the other is within the limit.
pub(crate) fn distance(a: &str, b: &str, limit: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let begins = a.len() >= 4 && b.starts_with(&a);
    if begins || a.len().abs_diff(b.len()) > limit {
        return if begins { limit } else { limit + 1 };
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let changed = rows[i][j] + usize::from(from != to);
            let mut least = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *to && b[j - 1] == *from {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests;
