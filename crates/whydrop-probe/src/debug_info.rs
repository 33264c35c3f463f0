//! What debug information tells about code of the kernel: source lines, and functions that the
//! compiler merged into others.
//!
//! Nothing is opened before the first stack that is to be shown, and a file only when code of it is
//! in a stack. A file of another build is never used: its lines would be plausible and wrong.

use std::collections::BTreeMap;

use whydrop_model::{CallSite, Frame, Inlined, SourceLine};

use crate::Resolver;
use crate::resolve::own_stack;
use crate::wire::RawDrop;

mod advice;
mod image;
mod places;

use image::Image;
pub use places::{Places, Unusable};

/// Lines and merged functions of the running kernel and of its modules, read when they are needed.
pub struct DebugInfo {
    places: Places,
    /// Where the kernel's code begins in memory: the address of `_stext`.
    text: Option<u64>,
    kernel: Option<Result<Image, Unusable>>,
    modules: BTreeMap<String, Result<Image, Unusable>>,
    known: BTreeMap<u64, Told>,
}

/// What is known of one address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    line: Option<SourceLine>,
    inlined: Vec<Inlined>,
}

impl DebugInfo {
    /// Opens nothing yet. `text` is the address of the symbol `_stext` of the running kernel.
    pub fn new(places: Places, text: Option<u64>) -> Self {
        Self { places, text, kernel: None, modules: BTreeMap::new(), known: BTreeMap::new() }
    }

    /// Adds what is known to a stack that was made from this drop.
    pub fn annotate(&mut self, raw: &RawDrop, stack: &mut [Frame]) {
        for (&address, frame) in own_stack(raw).iter().zip(stack) {
            self.annotate_call(address, frame);
        }
    }

    /// The same for a stack of which the addresses are known no longer, by those of all stacks that
    /// were seen.
    pub fn annotate_by_site(
        &mut self,
        resolver: &Resolver,
        addresses: impl Iterator<Item = u64>,
        stack: &mut [Frame],
    ) {
        let known: BTreeMap<CallSite, u64> =
            addresses.map(|address| (resolver.call_site(address), address)).collect();
        for frame in stack {
            if let Some(&address) = known.get(&frame.site) {
                self.annotate_call(address, frame);
            }
        }
    }

    /// As `annotate`, for one return address: the call is the instruction before it.
    fn annotate_call(&mut self, return_address: u64, frame: &mut Frame) {
        if !self.known.contains_key(&return_address) {
            let told = self.look_up(return_address.saturating_sub(1), frame.site.module.as_deref());
            self.known.insert(return_address, told.unwrap_or_default());
        }
        if let Some(told) = self.known.get(&return_address) {
            frame.line.clone_from(&told.line);
            frame.inlined.clone_from(&told.inlined);
        }
    }

    fn look_up(&mut self, address: u64, module: Option<&str>) -> Option<Told> {
        let Some(module) = module else {
            let (places, text) = (&self.places, self.text);
            let opened =
                self.kernel.get_or_insert_with(|| Image::of_kernel(&places.kernel()?, text));
            return opened.as_ref().ok()?.look_up(address);
        };
        if !self.modules.contains_key(module) {
            let places = &self.places;
            let opened = places
                .module(module)
                .and_then(|path| Image::of_module(&path, places.sections(module)?));
            self.modules.insert(module.to_owned(), opened);
        }
        self.modules.get(module)?.as_ref().ok()?.look_up(address)
    }

    /// The files that were needed and not used although they are there, and why. What is not installed
    /// is not among them.
    pub fn refused(&self) -> Vec<&Unusable> {
        let opened = self.kernel.iter().chain(self.modules.values());
        opened
            .filter_map(|opened| opened.as_ref().err())
            .filter(|why| !matches!(why, Unusable::NotInstalled { .. }))
            .collect()
    }
}

#[cfg(test)]
mod tests;
