//! Draws the screen: a headline, the layers on the left, a list on the right, keys at the bottom.

mod detail;
mod lists;
mod numbers;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use whydrop_model::{Class, LayerState};
use whydrop_show::Safe;

use crate::history::{History, Trend};
use crate::keys::KEYS;
use crate::screen::{List, Over, Screen};
use numbers::{count, rate, seconds};

/// Columns of the layers without their courses.
const LAYERS: u16 = 25;

/// Columns of a course, on screens wide enough for it.
const COURSE: u16 = 16;

/// From so many columns on there is room for courses.
const WIDE: u16 = 110;

/// Smaller than this nothing sensible fits.
const LEAST: (u16, u16) = (60, 12);

/// Letters of a course over time, from nothing to the most; for terminals without them, ASCII.
const BARS: [&str; 2] = [" ▁▂▃▄▅▆▇█", " .:-=+*%#"];

impl Screen {
    /// Draws everything.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        if area.width < LEAST.0 || area.height < LEAST.1 {
            let text = format!("whydrop top needs {} x {} characters", LEAST.0, LEAST.1);
            frame.render_widget(Paragraph::new(text), area);
            return;
        }
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(3), Constraint::Fill(1), Constraint::Length(1)])
                .areas(area);
        frame.render_widget(Paragraph::new(self.headline(area.width.into())), head);
        match self.over {
            Over::Nothing => {
                let course = if area.width < WIDE { 0 } else { COURSE };
                let width = Constraint::Length(LAYERS + course);
                let [layers, list] = Layout::horizontal([width, Constraint::Fill(1)]).areas(body);
                self.draw_layers(frame, layers, usize::from(course));
                self.draw_list(frame, list);
            }
            Over::Help => frame.render_widget(Paragraph::new(help()), body),
            Over::Detail => self.draw_detail(frame, body),
        }
        frame.render_widget(Paragraph::new(self.footer()), foot);
    }

    /// The style of a meaning, unless colours are not wanted.
    fn style(&self, colour: Color) -> Style {
        if self.looks.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn class(&self, class: Class) -> Span<'static> {
        match class {
            Class::Fault => {
                Span::styled("FAULT ", self.style(Color::Red).add_modifier(Modifier::BOLD))
            }
            Class::Policy => Span::styled("POLICY", self.style(Color::Yellow)),
            Class::Peer => Span::styled("PEER  ", self.style(Color::Yellow)),
            Class::Info => Span::styled("info  ", Style::new()),
            Class::Benign => Span::styled("noise ", Style::new()),
        }
    }

    fn headline(&self, width: usize) -> Vec<Line<'static>> {
        let seen = self.shown();
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let host = seen.latest.as_ref().map_or_else(String::new, |report| {
            format!("  {}  Linux {}", Safe(&report.host.hostname), Safe(&report.host.kernel))
        });
        let mut first = vec![Span::styled("whydrop top", bold), Span::raw(host)];
        if seen.laps == 0 {
            first.push(Span::raw("  looking for the first time ..."));
        } else {
            first.push(Span::raw(format!("  {}", seconds(seen.observed))));
        }
        if self.is_frozen() {
            first.push(Span::styled("  FROZEN", bold));
        }
        let lost = seen.explained.total.saturating_add(seen.unexplained.total);
        let lost_rate = seen.rate(&seen.explained) + seen.rate(&seen.unexplained);
        let style =
            if lost > 0 { self.style(Color::Red).add_modifier(Modifier::BOLD) } else { bold };
        let mut second = vec![
            Span::styled(format!("{} lost", count(lost)), style),
            Span::raw(format!(" ({}/s)", rate(lost_rate))),
            Span::raw(format!("   {} unexplained", count(seen.unexplained.total))),
        ];
        if seen.missed > 0 {
            let missed = format!("   {} missed by the tracer", count(seen.missed));
            second.push(Span::styled(missed, self.style(Color::Yellow)));
        }
        let not_checked = seen.latest.as_ref().map_or(0, |report| report.not_checked.len());
        if not_checked > 0 {
            second.push(Span::raw(format!("   {not_checked} not checked")));
        }
        second.push(Span::raw(format!("   {} noise", count(seen.benign.total))));
        second.push(Span::raw(format!("   {} traced", count(seen.traced.total))));
        // What does not fit is left out as a whole, the least important first.
        while Line::from(second.clone()).width() > width {
            second.pop();
        }
        vec![Line::from(first), Line::from(second), Line::default()]
    }

    fn footer(&self) -> Line<'static> {
        if self.typing {
            return Line::from(format!("filter: {}_", Safe(&self.filter)));
        }
        let mut text = match self.over {
            Over::Nothing => format!(
                "Enter explain  Tab {}  s sort:{}  / filter  Space {}  h help  q quit",
                if self.list == List::Causes { "drops" } else { "causes" },
                self.sort.name(),
                if self.is_frozen() { "go on" } else { "freeze" },
            ),
            Over::Help | Over::Detail => "Esc back  Up Down scroll  q quit".to_owned(),
        };
        if !self.filter.is_empty() {
            text.push_str("  [");
            text.push_str(&Safe(&self.filter).to_string());
            text.push(']');
        }
        Line::styled(text, Style::new().add_modifier(Modifier::REVERSED))
    }

    /// The path of a packet, from the card to the socket.
    fn draw_layers(&self, frame: &mut Frame<'_>, area: Rect, laps: usize) {
        let seen = self.shown();
        let mut lines = vec![Line::styled(
            format!("{:<11} {:<5} {:>6}", "layer", "", "lost/s"),
            Style::new().add_modifier(Modifier::BOLD),
        )];
        for row in &seen.layers {
            let (word, style) = match row.state {
                LayerState::Clean => ("ok", self.style(Color::Green)),
                LayerState::Loss => ("LOSS", self.style(Color::Red)),
                LayerState::Unsure => ("?", self.style(Color::Yellow)),
            };
            let now = seen.rate(&row.history);
            let shown = if row.history.total == 0 { String::new() } else { rate(now) };
            lines.push(Line::from(vec![
                Span::raw(format!("{:<11} ", row.layer)),
                Span::styled(format!("{word:<5}"), style),
                Span::raw(format!(" {shown:>6} ")),
                Span::styled(self.course(&row.history, laps.saturating_sub(2)), style),
            ]));
        }
        frame.render_widget(Paragraph::new(lines), area);
    }

    /// The latest laps as bars of letters.
    fn course(&self, history: &History, laps: usize) -> String {
        let bars: Vec<char> = BARS[usize::from(!self.looks.unicode)].chars().collect();
        let most = history.last(laps).max().unwrap_or(0);
        let top = (bars.len() - 1) as u64;
        let bar = |packets: u64| {
            // Whatever was lost must be seen.
            let height = (u128::from(packets) * u128::from(top)).div_ceil(u128::from(most.max(1)));
            bars[height as usize]
        };
        history.last(laps).map(bar).collect()
    }

    fn trend(&self, history: &History) -> &'static str {
        match (history.trend(), self.looks.unicode) {
            (Trend::Up, true) => "↑",
            (Trend::Down, true) => "↓",
            (Trend::Level, true) => "→",
            (Trend::Up, false) => "+",
            (Trend::Down, false) => "-",
            (Trend::Level, false) => "=",
        }
    }
}

fn help() -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(key, what)| {
            let bold = Style::new().add_modifier(Modifier::BOLD);
            Line::from(vec![Span::styled(format!("{key:<18}"), bold), Span::raw(*what)])
        })
        .collect();
    lines.push(Line::default());
    lines.extend(
        [
            "Layers stand in the order in which a packet that arrives meets them; those",
            "that send, and those beside the path, come last.",
            "FAULT: the host loses what it should deliver. POLICY: a rule says so.",
            "PEER: the other side sends what must be refused. info: nothing is lost.",
            "Rates are those of the latest lap; totals are since the start, or since r.",
        ]
        .map(Line::from),
    );
    lines
}
