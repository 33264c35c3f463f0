//! Pages for a terminal: headings strong, paragraphs and lists wrapped, lines of code as they are.

use std::io::{self, Write};

use textwrap::{Options, WordSplitter};
use whydrop_diagnose::counters::Counter;
use whydrop_diagnose::knowledge::{self, Page};
use whydrop_diagnose::nic::{self, Statistic};
use whydrop_show::Safe;
use whydrop_show::style::{FAINT, NOTICE, STRONG};

use super::{Answer, Guess, kind_name, meaning_of};

/// How far the text below a heading stands in.
const INDENT: &str = "  ";

/// Writes all that has the name.
pub(super) fn answer(answer: &Answer, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut first = true;
    let mut gap = |out: &mut dyn Write| {
        if std::mem::take(&mut first) { Ok(()) } else { writeln!(out) }
    };
    for page in &answer.pages {
        gap(out)?;
        self::page(page, width, out)?;
    }
    if !answer.others.is_empty() {
        gap(out)?;
        let about = if answer.pages.is_empty() { "Reasons" } else { "Further reasons" };
        writeln!(out, "{STRONG}{about} from this function{STRONG:#}")?;
        names(answer.others.iter().map(|page| (page.name, page.meaning)), width, out)?;
    }
    for counter in &answer.counters {
        gap(out)?;
        self::counter(counter, width, out)?;
    }
    if !answer.statistics.is_empty() {
        gap(out)?;
        statistics(&answer.statistics, width, out)?;
    }
    Ok(())
}

/// Writes what may have been meant.
pub(super) fn guess(
    asked: &str,
    words: usize,
    guess: &Guess,
    width: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let about = if words == 1 { "Nothing is called" } else { "Pages with the words" };
    let perhaps = if words == 1 { "; perhaps:" } else { ":" };
    writeln!(out, "{NOTICE}{about} {}{perhaps}{NOTICE:#}", Safe(asked))?;
    let pages = guess.pages.iter().map(|page| (page.name, page.meaning));
    let counters = guess.counters.iter().map(|counter| (counter.name, counter.meaning));
    names(pages.chain(counters), width, out)?;
    if guess.more > 0 {
        writeln!(out, "{FAINT}{INDENT}and {} more; add a word{FAINT:#}", guess.more)?;
    }
    Ok(())
}

fn page(page: &Page, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut facts = vec![kind_name(page).to_owned(), page.layer.to_owned(), page.class.to_owned()];
    match (page.since, page.until) {
        (Some(since), Some(until)) => facts.push(format!("Linux {since} to {until}")),
        (Some(since), None) => facts.push(format!("since Linux {since}")),
        (None, _) => {}
    }
    title(page.name, &facts, out)?;
    wrapped("", "", page.meaning, width, out)?;
    if !page.aliases.is_empty() {
        let aliases = format!("Also: {}", page.aliases.join(", "));
        wrapped("", "", &aliases, width, out)?;
    }
    if !page.variants.is_empty() {
        let variants = format!("Variants: {}", page.variants.join(", "));
        wrapped("", "", &variants, width, out)?;
    }
    for (heading, body) in page.sections() {
        self::heading(heading, out)?;
        markdown(body, width, out)?;
    }
    let sites: Vec<_> =
        knowledge::call_sites_of(page.name).map(|one| (one.name, one.meaning)).collect();
    if !sites.is_empty() {
        heading("By call site", out)?;
        names(sites.iter().copied(), width, out)?;
    }
    let others = page.see.iter().filter(|name| !sites.iter().any(|(site, _)| site == *name));
    see(others.copied(), width, out)
}

fn counter(counter: &Counter, width: usize, out: &mut dyn Write) -> io::Result<()> {
    title(counter.name, &["counter".to_owned(), counter.layer.to_owned()], out)?;
    wrapped("", "", counter.meaning, width, out)?;
    if !counter.also.is_empty() {
        let also = format!("Also: {}", counter.also.join(", "));
        wrapped("", "", &also, width, out)?;
    }
    heading("When it grows", out)?;
    wrapped(INDENT, INDENT, counter.grows, width, out)?;
    see(counter.see.iter().copied(), width, out)
}

fn statistics(
    statistics: &[(Vec<&'static str>, Statistic)],
    width: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "{STRONG}Statistic of network drivers{STRONG:#}")?;
    for (drivers, one) in statistics {
        let of = match &drivers[..] {
            [] => "any driver, by its name alone".to_owned(),
            [nic::STANDARD] => "any driver".to_owned(),
            drivers => drivers.join(", "),
        };
        let line = format!("{of} ({}, {}): {}", one.class.name(), one.unit, one.meaning);
        wrapped(INDENT, "    ", &line, width, out)?;
    }
    Ok(())
}

fn title(name: &str, facts: &[String], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{STRONG}{name}{STRONG:#}  {FAINT}{}{FAINT:#}", facts.join(", "))
}

fn heading(text: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{STRONG}{text}{STRONG:#}")
}

fn see(
    others: impl Iterator<Item = &'static str>,
    width: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let rows: Vec<_> = others.map(|name| (name, meaning_of(name))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    heading("See also", out)?;
    names(rows.into_iter(), width, out)
}

/// Names with their one line each, in two columns.
fn names<'a>(
    rows: impl Iterator<Item = (&'a str, &'a str)>,
    width: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let rows: Vec<_> = rows.collect();
    let longest = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let column = longest.min(width / 3);
    for (name, meaning) in rows {
        if meaning.is_empty() {
            writeln!(out, "{INDENT}{name}")?;
        } else if name.len() > column {
            writeln!(out, "{INDENT}{name}")?;
            let indent = " ".repeat(INDENT.len() + column + 2);
            wrapped(&indent, &indent, meaning, width, out)?;
        } else {
            let first = format!("{INDENT}{name:<column$}  ");
            wrapped(&first, &" ".repeat(first.len()), meaning, width, out)?;
        }
    }
    Ok(())
}

/// The text of a section. A paragraph or an item ends where the next begins.
fn markdown(text: &str, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut block = String::new();
    for line in text.lines() {
        let is_code = line.starts_with("    ");
        if is_code || line.trim().is_empty() || line.starts_with("- ") {
            paragraph(&std::mem::take(&mut block), width, out)?;
        }
        if is_code {
            writeln!(out, "{INDENT}{line}")?;
        } else {
            if !block.is_empty() {
                block.push(' ');
            }
            block.push_str(line.trim());
        }
    }
    paragraph(&block, width, out)
}

fn paragraph(text: &str, width: usize, out: &mut dyn Write) -> io::Result<()> {
    match text.strip_prefix("- ") {
        _ if text.is_empty() => Ok(()),
        Some(item) => wrapped("  - ", "    ", item, width, out),
        None => wrapped(INDENT, INDENT, text, width, out),
    }
}

/// Wraps at blanks only: names and commands must stay whole.
fn wrapped(
    first: &str,
    next: &str,
    text: &str,
    width: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let options = Options::new(width)
        .initial_indent(first)
        .subsequent_indent(next)
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    for line in textwrap::wrap(text, options) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, width: usize) -> String {
        let mut out = Vec::new();
        markdown(text, width, &mut out).expect("written");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn paragraphs_and_items_are_wrapped_and_code_is_not() {
        let text = "One two three\nfour five.\n- item with\n  more words\n- second\n\n    tc -s qdisc show dev eth0 and more\nAfter.";
        let wanted = "  One two\n  three four\n  five.\n  - item with\n    more words\n  - second\n      tc -s qdisc show dev eth0 and more\n  After.\n";
        assert_eq!(rendered(text, 14), wanted);
    }

    #[test]
    fn no_word_is_cut() {
        assert_eq!(rendered("nf-conntrack-max a-b-c-d", 8), "  nf-conntrack-max\n  a-b-c-d\n");
    }

    #[test]
    fn no_page_is_wider_than_asked_except_for_code_and_long_words() {
        for page in knowledge::PAGES {
            let mut out = Vec::new();
            self::page(page, 100, &mut out).expect("written");
            let text = anstream::adapter::strip_bytes(&out).into_vec();
            let text = String::from_utf8(text).expect("UTF-8");
            for line in text.lines().filter(|line| !line.starts_with("      ")) {
                assert!(line.chars().count() <= 100, "{}: {line}", page.name);
            }
        }
    }
}
