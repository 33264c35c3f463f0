//! One row in full: proof and cure of a cause, or the latest packet of a kind of drops with its
//! stack; then the page about it.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;
use whydrop_model::EvidenceValue;
use whydrop_show::{Safe, stacks};

use super::lists::place;
use super::numbers::count;
use crate::rows::{CauseRow, KindRow};
use crate::screen::{List, Screen};

/// Columns of the labels.
const LABEL: usize = 10;

/// Text in lines of a given width, with labels at the left.
struct Page {
    width: usize,
    lines: Vec<Line<'static>>,
}

impl Page {
    fn title(&mut self, text: String) {
        self.lines.push(Line::styled(text, Style::new().add_modifier(Modifier::BOLD)));
    }

    fn part(&mut self, label: &str, text: &str) {
        let mut label = label.to_owned();
        let width = self.width.saturating_sub(LABEL).max(20);
        for line in textwrap::wrap(text, width) {
            self.lines.push(Line::from(format!("{label:<LABEL$}{line}")));
            label.clear();
        }
    }

    /// Text whose lines are kept, as of a page.
    fn verbatim(&mut self, text: &str) {
        for line in text.lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                self.title(heading.to_owned());
                continue;
            }
            for part in textwrap::wrap(line, self.width) {
                self.lines.push(Line::from(part.into_owned()));
            }
        }
    }

    fn gap(&mut self) {
        self.lines.push(Line::default());
    }
}

impl Screen {
    pub(super) fn draw_detail(&self, frame: &mut Frame<'_>, area: Rect) {
        let mut page = Page { width: usize::from(area.width), lines: Vec::new() };
        match self.list {
            List::Causes => {
                let rows = self.causes();
                if let Some(row) = rows.get(self.selected.min(rows.len().saturating_sub(1))) {
                    self.cause_in_full(row, &mut page);
                }
            }
            List::Kinds => {
                let rows = self.kinds();
                if let Some(row) = rows.get(self.selected.min(rows.len().saturating_sub(1))) {
                    self.kind_in_full(row, &mut page);
                }
            }
        }
        let last = page.lines.len().saturating_sub(usize::from(area.height));
        let scrolled = self.scrolled.min(u16::try_from(last).unwrap_or(u16::MAX));
        frame.render_widget(Paragraph::new(page.lines).scroll((scrolled, 0)), area);
    }

    fn cause_in_full(&self, row: &CauseRow, page: &mut Page) {
        let finding = &row.finding;
        let variant = finding.variant.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        page.title(format!("{}{variant}: {} packets", finding.cause, count(row.history.total)));
        page.part("what", &Safe(&finding.summary).to_string());
        page.part("where", &place(finding));
        let mut label = "proof";
        for item in &finding.evidence {
            let value = match &item.value {
                EvidenceValue::Number(number) => number.to_string(),
                EvidenceValue::Text(text) => text.clone(),
            };
            page.part(label, &format!("{}: {}", Safe(&item.name), Safe(&value)));
            label = "";
        }
        for remedy in &finding.remedies {
            page.part("cure", &Safe(&remedy.summary).to_string());
            for command in &remedy.commands {
                // Not wrapped: it is there to be copied.
                page.lines.push(Line::from(format!("{:LABEL$}  {}", "", Safe(command))));
            }
            let mut label = "in vain";
            for useless in &remedy.useless {
                page.part(label, &Safe(useless).to_string());
                label = "";
            }
        }
        self.explanation(&finding.cause, page);
    }

    fn kind_in_full(&self, row: &KindRow, page: &mut Page) {
        let name = format!("{}@{}", row.reason, row.site);
        page.title(format!("{}: {} drops", Safe(&name), count(row.history.total)));
        page.part("where", &self.place_of(row));
        match &row.exemplar {
            None => page.part("packet", "none of these was kept in detail yet"),
            Some(exemplar) => {
                let flow = exemplar.flow.as_ref().map_or_else(
                    || format!("EtherType {:#06x}", exemplar.l3),
                    |it| format!("{} {} > {}", it.protocol_name(), it.source, it.destination),
                );
                page.part("packet", &format!("{flow}, {} bytes", exemplar.len));
                let mut label = "stack";
                for frame in &exemplar.stack {
                    let known = self.known.get(&frame.site).unwrap_or(frame);
                    for line in stacks::lines(known) {
                        page.part(label, &Safe(&line).to_string());
                        label = "";
                    }
                }
            }
        }
        if !self.explanation(&name, page) {
            self.explanation(&row.reason, page);
        }
    }

    /// The page about a name; false if there is none.
    fn explanation(&self, name: &str, page: &mut Page) -> bool {
        let Some(text) = (self.explain)(name) else { return false };
        page.gap();
        page.verbatim(&text);
        true
    }
}
