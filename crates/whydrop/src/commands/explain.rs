//! `whydrop explain`: what a drop reason, a cause, a counter or a call site means.

mod text;

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};
use whydrop_diagnose::counters::{self, Counter};
use whydrop_diagnose::knowledge::{self, Kind, Page};
use whydrop_diagnose::nic::Statistic;

use crate::cli::{Explain, Plain};
use crate::{failure, output};

/// Pages that a search lists; who gets more needs another word.
const LISTED: usize = 20;

/// What is known under a name.
#[derive(Default)]
struct Answer {
    /// Pages of that name.
    pages: Vec<&'static Page>,
    /// Further reasons that come from a function of that name.
    others: Vec<&'static Page>,
    /// Counters of that name.
    counters: Vec<&'static Counter>,
    /// What the name means in the statistics of drivers, with the drivers.
    statistics: Vec<(Vec<&'static str>, Statistic)>,
}

impl Answer {
    fn is_empty(&self) -> bool {
        self.pages.is_empty()
            && self.others.is_empty()
            && self.counters.is_empty()
            && self.statistics.is_empty()
    }
}

/// What may have been meant, where nothing has that name.
struct Guess {
    /// Pages whose name differs little, then those that hold the words.
    pages: Vec<&'static Page>,
    /// Counters likewise.
    counters: Vec<&'static Counter>,
    /// How many pages were left off.
    more: usize,
}

/// Runs the command.
pub(crate) fn run(options: &Explain) -> anyhow::Result<ExitCode> {
    let words: Vec<&str> = options.words.iter().flat_map(|word| word.split_whitespace()).collect();
    let asked = words.join(" ");
    let answer = look_up(&words);
    let guess = if answer.is_empty() { Some(guess(&words)) } else { None };
    if let Some(guess) = &guess
        && guess.pages.is_empty()
        && guess.counters.is_empty()
    {
        anyhow::bail!(
            "nothing is known about {asked:?}; `whydrop reasons` lists this kernel's drop reasons"
        );
    }
    let mut out = output::stdout();
    match options.format {
        Plain::Json => {
            serde_json::to_writer_pretty(&mut out, &document(&asked, &answer, guess.as_ref()))?;
            writeln!(out)?;
        }
        Plain::Text => match &guess {
            None => text::answer(&answer, output::width(), &mut out)?,
            Some(guess) => text::guess(&asked, words.len(), guess, output::width(), &mut out)?,
        },
    }
    out.flush()?;
    Ok(failure::CLEAN)
}

/// Everything of exactly this name. Several words may be a name too: `accept queue full`.
fn look_up(words: &[&str]) -> Answer {
    let name = words.join("_");
    let mut answer =
        Answer { pages: knowledge::find(&name).into_iter().collect(), ..Answer::default() };
    let &[name] = words else {
        return answer;
    };
    if let Some((reason, symbol)) = name.split_once('@') {
        if answer.pages.is_empty() {
            let exact = format!("{reason}@{}", knowledge::function(symbol));
            answer.pages.extend(knowledge::find(&exact).or_else(|| knowledge::find(reason)));
        }
        return answer;
    }
    if answer.pages.is_empty() {
        answer.pages.extend(knowledge::at_call_site(name));
        answer.others.extend(knowledge::from_source(name));
    }
    answer.counters.extend(counters::find(name));
    if answer.counters.is_empty() {
        answer.statistics = counters::of_drivers(name);
    }
    answer
}

fn guess(words: &[&str]) -> Guess {
    let mut pages = Vec::new();
    let mut counters = Vec::new();
    if let &[name] = words {
        let symbol = name.split_once('@').map_or(name, |(reason, _)| reason);
        pages = knowledge::near(symbol);
        counters = counters::near(name);
    }
    for page in knowledge::search(words) {
        if !pages.contains(&page) {
            pages.push(page);
        }
    }
    for counter in counters::search(words) {
        if !counters.contains(&counter) {
            counters.push(counter);
        }
    }
    let more = pages.len().saturating_sub(LISTED);
    pages.truncate(LISTED);
    counters.truncate(LISTED);
    Guess { pages, counters, more }
}

/// One line about a page, a cause or a counter that another one points to.
fn meaning_of(name: &str) -> &'static str {
    let counter = || counters::find(name).next().map(|counter| counter.meaning);
    knowledge::find(name).map(|page| page.meaning).or_else(counter).unwrap_or_default()
}

fn kind_name(page: &Page) -> &'static str {
    match page.kind {
        Kind::Cause => "cause",
        Kind::Reason if page.call_site().is_some() => "call site",
        Kind::Reason => "drop reason",
    }
}

/// The JSON document, `whydrop.explain/1`.
fn document(asked: &str, answer: &Answer, guess: Option<&Guess>) -> Value {
    let (guessed_pages, guessed_counters) =
        guess.map(|guess| (&guess.pages[..], &guess.counters[..])).unwrap_or_default();
    let named = guessed_pages
        .iter()
        .map(|page| json!({ "name": page.name, "kind": kind_name(page), "meaning": page.meaning }))
        .chain(guessed_counters.iter().map(
            |counter| json!({ "name": counter.name, "kind": "counter", "meaning": counter.meaning }),
        ));
    let statistics = answer.statistics.iter().map(|(drivers, one)| {
        json!({
            "drivers": drivers,
            "class": one.class.name(),
            "unit": one.unit,
            "meaning": one.meaning,
        })
    });
    json!({
        "schema": "whydrop.explain/1",
        "asked": asked,
        "pages": answer.pages.iter().map(|page| page_document(page)).collect::<Vec<_>>(),
        "others": answer.others.iter().map(|page| page.name).collect::<Vec<_>>(),
        "counters": answer.counters.iter().map(|counter| counter_document(counter)).collect::<Vec<_>>(),
        "statistics": statistics.collect::<Vec<_>>(),
        "similar": named.collect::<Vec<_>>(),
    })
}

fn page_document(page: &Page) -> Value {
    let sections: Vec<_> = page
        .sections()
        .map(|(heading, text)| json!({ "heading": heading, "text": text }))
        .collect();
    json!({
        "kind": kind_name(page),
        "name": page.name,
        "layer": page.layer,
        "class": page.class,
        "since": page.since,
        "until": page.until,
        "aliases": page.aliases,
        "variants": page.variants,
        "meaning": page.meaning,
        "sections": sections,
        "call_sites": knowledge::call_sites_of(page.name).map(|one| one.name).collect::<Vec<_>>(),
        "see": page.see,
    })
}

fn counter_document(counter: &Counter) -> Value {
    json!({
        "name": counter.name,
        "also": counter.also,
        "layer": counter.layer,
        "meaning": counter.meaning,
        "grows": counter.grows,
        "see": counter.see,
    })
}
