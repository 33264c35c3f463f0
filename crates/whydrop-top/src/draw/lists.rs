//! The lists: causes, or kinds of drops. Two lines a row: what and how many, then where.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use whydrop_model::{Finding, NetnsRef};
use whydrop_show::Safe;

use super::numbers::{count, rate};
use crate::history::History;
use crate::rows::{CauseRow, KindRow};
use crate::screen::{List, Screen};

/// Columns of the numbers at the right: rate, total, trend.
const NUMBERS: usize = 6 + 12 + 2;

impl Screen {
    pub(super) fn draw_list(&self, frame: &mut Frame<'_>, area: Rect) {
        let width = usize::from(area.width);
        let name = width.saturating_sub(NUMBERS);
        let (title, rows): (&str, Vec<[Line<'static>; 2]>) = match self.list {
            List::Causes => {
                let rows = self.causes();
                ("cause", rows.into_iter().map(|row| self.cause(row, width)).collect())
            }
            List::Kinds => {
                let rows = self.kinds();
                ("reason@call site", rows.into_iter().map(|row| self.kind(row, width)).collect())
            }
        };
        let heading = format!("{title:<name$}{:>6}{:>12}", "/s", "total");
        let mut lines = vec![Line::styled(heading, Style::new().add_modifier(Modifier::BOLD))];
        if rows.is_empty() {
            lines.push(Line::from(match (self.shown().laps, self.filter.is_empty()) {
                (0, _) => "",
                (_, true) => "nothing is lost",
                (_, false) => "nothing of that name",
            }));
        }
        let selected = self.selected.min(rows.len().saturating_sub(1));
        let fitting = (usize::from(area.height).saturating_sub(1) / 2).max(1);
        // The selected row is always on the screen.
        let first = (selected + 1).saturating_sub(fitting);
        for (at, pair) in rows.into_iter().enumerate().skip(first).take(fitting) {
            for line in pair {
                let chosen = Style::new().add_modifier(Modifier::REVERSED);
                lines.push(if at == selected { line.patch_style(chosen) } else { line });
            }
        }
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn cause(&self, row: &CauseRow, width: usize) -> [Line<'static>; 2] {
        let name = width.saturating_sub(NUMBERS);
        let finding = &row.finding;
        let text = match &finding.variant {
            Some(variant) => format!("{} ({variant})", finding.cause),
            None => finding.cause.clone(),
        };
        let first = Line::from(vec![
            self.class(finding.class),
            Span::raw(format!(" {}", fitted(&text, name.saturating_sub(7)))),
            Span::raw(self.numbers(&row.history)),
        ]);
        [first, Line::from(fitted(&format!("       {}", place(finding)), width))]
    }

    fn kind(&self, row: &KindRow, width: usize) -> [Line<'static>; 2] {
        let name = width.saturating_sub(NUMBERS);
        let text = format!("{}@{}", Safe(&row.reason), Safe(&row.site));
        let first = Line::from(format!("{}{}", fitted(&text, name), self.numbers(&row.history)));
        let flow = row.exemplar.as_ref().and_then(|exemplar| exemplar.flow.as_ref());
        let flow = flow.map_or_else(String::new, |flow| {
            format!("  {} {} > {}", flow.protocol_name(), flow.source, flow.destination)
        });
        [first, Line::from(fitted(&format!("       {}{flow}", self.place_of(row)), width))]
    }

    /// Where drops of a kind are, in few words.
    pub(super) fn place_of(&self, row: &KindRow) -> String {
        let netns = row.netns.map_or_else(
            || "unknown namespace".to_owned(),
            |inode| match self.shown().namespaces.get(&inode) {
                Some(name) => Safe(name).to_string(),
                None => format!("net:[{inode}]"),
            },
        );
        let device = row.device.as_deref().map_or("no device".into(), |it| Safe(it).to_string());
        format!("{device}, {netns}")
    }

    fn numbers(&self, history: &History) -> String {
        let now = rate(self.shown().rate(history));
        format!("{now:>6}{:>12} {}", count(history.total), self.trend(history))
    }
}

/// Where a finding is, in few words.
pub(super) fn place(finding: &Finding) -> String {
    let site = &finding.site;
    let process = site.process.as_ref().map(|it| format!("{} (pid {})", it.comm, it.pid));
    let netns = match &site.netns {
        Some(NetnsRef { name: Some(name), .. }) => Some(name.clone()),
        Some(NetnsRef { inode: Some(inode), .. }) => Some(format!("net:[{inode}]")),
        _ => None,
    };
    let parts = [site.socket.clone(), process, site.device.clone(), site.object.clone(), netns];
    let parts: Vec<String> =
        parts.into_iter().flatten().map(|part| Safe(&part).to_string()).collect();
    parts.join(", ")
}

/// Exactly so many columns: filled up, or cut with a mark. Names are ASCII as a rule; one that is not
/// may end a column early.
fn fitted(text: &str, width: usize) -> String {
    let letters = text.chars().count();
    if letters <= width {
        return format!("{text}{}", " ".repeat(width - letters));
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}~")
}

#[cfg(test)]
mod tests {
    use super::fitted;

    #[test]
    fn text_is_cut_visibly() {
        assert_eq!([fitted("abc", 5), fitted("abcdef", 4)], ["abc  ", "abc~"]);
        assert_eq!(fitted("ab", 0), "~");
    }
}
