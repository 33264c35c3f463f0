//! What each key does.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::screen::{Flow, List, Over, Screen};

/// Lines of a page up or down.
const PAGE: usize = 10;

/// Keys and what they do, for the help.
pub(crate) const KEYS: &[(&str, &str)] = &[
    ("Up Down PgUp PgDn", "choose a row, or scroll"),
    ("Enter", "proof, cure and explanation of the row"),
    ("Tab", "causes, or kinds of drops by reason and call site"),
    ("s", "sort by total, name or rate"),
    ("/", "filter: letters that must occur; Enter keeps it, Esc clears it"),
    ("Space", "freeze the screen and go on; counting continues"),
    ("r", "count from zero again"),
    ("h ?", "this help"),
    ("Esc", "back"),
    ("q Ctrl-C", "leave"),
];

impl Screen {
    /// Does what a key asks for.
    pub fn key(&mut self, key: KeyEvent) -> Flow {
        if key.kind == KeyEventKind::Release {
            return Flow::Continue;
        }
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Flow::Quit;
        }
        if self.typing {
            self.type_filter(key.code);
            return Flow::Continue;
        }
        match key.code {
            KeyCode::Char('q') => return Flow::Quit,
            KeyCode::Char('h' | '?') => self.toggle(Over::Help),
            KeyCode::Enter if self.rows() > 0 => self.toggle(Over::Detail),
            KeyCode::Esc if self.over != Over::Nothing => self.toggle(self.over),
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char(' ') => self.freeze_or_go_on(),
            KeyCode::Char('r') => self.empty(),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => {
                (self.over, self.typing, self.selected) = (Over::Nothing, true, 0);
            }
            KeyCode::Tab | KeyCode::BackTab => {
                self.list = if self.list == List::Causes { List::Kinds } else { List::Causes };
                (self.over, self.selected) = (Over::Nothing, 0);
            }
            KeyCode::Up | KeyCode::Char('k') => self.up(1),
            KeyCode::Down | KeyCode::Char('j') => self.down(1),
            KeyCode::PageUp => self.up(PAGE),
            KeyCode::PageDown => self.down(PAGE),
            KeyCode::Home => self.up(usize::MAX),
            _ => {}
        }
        Flow::Continue
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
    }

    fn toggle(&mut self, over: Over) {
        self.over = if self.over == over { Over::Nothing } else { over };
        self.scrolled = 0;
    }

    fn up(&mut self, lines: usize) {
        if self.over == Over::Nothing {
            self.selected = self.selected.saturating_sub(lines);
        } else {
            self.scrolled = self.scrolled.saturating_sub(u16::try_from(lines).unwrap_or(u16::MAX));
        }
    }

    fn down(&mut self, lines: usize) {
        if self.over == Over::Nothing {
            let last = self.rows().saturating_sub(1);
            self.selected = self.selected.saturating_add(lines).min(last);
        } else {
            self.scrolled = self.scrolled.saturating_add(u16::try_from(lines).unwrap_or(u16::MAX));
        }
    }
}
