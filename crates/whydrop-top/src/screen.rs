//! The state of the screen: what was seen, and what of it the operator looks at.

use std::collections::BTreeMap;
use std::time::Duration;

use whydrop_model::{CallSite, Frame};

use crate::Lap;
use crate::rows::{CauseRow, KindRow, Seen};

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// Colours are wanted. Nothing is told by colour alone.
    pub colour: bool,
    /// Letters beyond ASCII are shown.
    pub unicode: bool,
}

/// Whether to go on after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Draw again.
    Continue,
    /// The operator has seen enough.
    Quit,
}

/// Text about a cause, a reason or a call site, by name; `None` where nothing is known.
type Explain = fn(&str) -> Option<String>;

/// The screen of `whydrop top`.
#[derive(Debug)]
pub struct Screen {
    pub(crate) looks: Looks,
    pub(crate) explain: Explain,
    seen: Seen,
    /// What is shown instead of what is seen meanwhile.
    frozen: Option<Box<Seen>>,
    pub(crate) list: List,
    pub(crate) selected: usize,
    pub(crate) sort: Sort,
    pub(crate) filter: String,
    /// The filter is being typed.
    pub(crate) typing: bool,
    pub(crate) over: Over,
    /// Lines scrolled in what lies over the lists.
    pub(crate) scrolled: u16,
    /// What debug information tells of call sites that were looked at.
    pub(crate) known: BTreeMap<CallSite, Frame>,
    /// It was asked for and is not here yet.
    asked: bool,
}

/// Which list is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    Causes,
    Kinds,
}

/// What lies over the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Nothing,
    Help,
    Detail,
}

/// In which order rows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Rate,
    Total,
    Name,
}

impl Sort {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Total => "total",
            Self::Name => "name",
        }
    }

    pub(crate) fn next(self) -> Self {
        match self {
            Self::Rate => Self::Total,
            Self::Total => Self::Name,
            Self::Name => Self::Rate,
        }
    }
}

impl Screen {
    /// An empty screen. `explain` gives the page about a name.
    pub fn new(looks: Looks, explain: Explain) -> Self {
        Self {
            looks,
            explain,
            seen: Seen::default(),
            frozen: None,
            list: List::Causes,
            selected: 0,
            sort: Sort::Total,
            filter: String::new(),
            typing: false,
            over: Over::Nothing,
            scrolled: 0,
            known: BTreeMap::new(),
            asked: false,
        }
    }

    /// A stack that is looked at and of which the lines of source are not known, once.
    pub fn asks_for(&mut self) -> Option<Vec<Frame>> {
        if self.asked || self.over != Over::Detail || self.list != List::Kinds {
            return None;
        }
        let rows = self.kinds();
        let row = rows.get(self.selected.min(rows.len().saturating_sub(1)))?;
        let stack = &row.exemplar.as_ref()?.stack;
        let is_known = |frame: &Frame| self.known.contains_key(&frame.site);
        let stack = (!stack.iter().all(is_known)).then(|| stack.clone());
        self.asked = stack.is_some();
        stack
    }

    /// Takes in a stack that was asked for, with what could be found.
    pub fn learn(&mut self, stack: Vec<Frame>) {
        self.asked = false;
        self.known.extend(stack.into_iter().map(|frame| (frame.site.clone(), frame)));
    }

    /// Takes in what the next stretch of time showed. While the screen is frozen it is counted and
    /// not yet shown.
    pub fn take(&mut self, lap: Lap) {
        self.seen.add(lap);
    }

    /// Takes in that for so long nothing happened, which will be a part of the next lap.
    pub fn rest(&mut self, length: Duration) {
        self.seen.rest(length);
    }

    /// What is shown.
    pub(crate) fn shown(&self) -> &Seen {
        self.frozen.as_deref().unwrap_or(&self.seen)
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    pub(crate) fn freeze_or_go_on(&mut self) {
        self.frozen = match self.frozen {
            Some(_) => None,
            None => Some(Box::new(self.seen.clone())),
        };
    }

    /// Counts from zero again.
    pub(crate) fn empty(&mut self) {
        self.seen = Seen::default();
        self.frozen = None;
        self.selected = 0;
    }

    /// The causes to show, in order.
    pub(crate) fn causes(&self) -> Vec<&CauseRow> {
        let mut rows: Vec<_> = self
            .shown()
            .causes
            .iter()
            .filter(|row| {
                let finding = &row.finding;
                let site = &finding.site;
                let netns = site.netns.as_ref().and_then(|netns| netns.name.as_deref());
                self.matches(&[
                    Some(&finding.cause),
                    finding.variant.as_deref(),
                    Some(&finding.layer),
                    site.device.as_deref(),
                    site.socket.as_deref(),
                    site.object.as_deref(),
                    site.process.as_ref().map(|process| process.comm.as_str()),
                    netns,
                ])
            })
            .collect();
        rows.sort_by(|a, b| {
            let (x, y) = (&a.history, &b.history);
            let by_class = a.finding.class.cmp(&b.finding.class);
            match self.sort {
                Sort::Rate => y.latest().cmp(&x.latest()).then(y.total.cmp(&x.total)),
                Sort::Total => by_class.then(y.total.cmp(&x.total)),
                Sort::Name => a.finding.cause.cmp(&b.finding.cause),
            }
        });
        rows
    }

    /// The kinds of drops to show, in order.
    pub(crate) fn kinds(&self) -> Vec<&KindRow> {
        let seen = self.shown();
        let mut rows: Vec<_> = seen
            .kinds
            .iter()
            .filter(|row| {
                let netns = row.netns.and_then(|netns| seen.namespaces.get(&netns));
                self.matches(&[
                    Some(&row.reason),
                    Some(&row.site),
                    row.device.as_deref(),
                    netns.map(String::as_str),
                ])
            })
            .collect();
        rows.sort_by(|a, b| {
            let (x, y) = (&a.history, &b.history);
            match self.sort {
                Sort::Rate => y.latest().cmp(&x.latest()).then(y.total.cmp(&x.total)),
                Sort::Total => y.total.cmp(&x.total),
                Sort::Name => (&a.reason, &a.site).cmp(&(&b.reason, &b.site)),
            }
        });
        rows
    }

    fn matches(&self, texts: &[Option<&str>]) -> bool {
        let wanted = self.filter.to_lowercase();
        texts.iter().flatten().any(|text| text.to_lowercase().contains(&wanted))
            || wanted.is_empty()
    }

    /// How many rows the list has.
    pub(crate) fn rows(&self) -> usize {
        match self.list {
            List::Causes => self.causes().len(),
            List::Kinds => self.kinds().len(),
        }
    }
}
