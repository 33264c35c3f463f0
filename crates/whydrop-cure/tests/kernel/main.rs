//! Changes on the real kernel, in namespaces of their own. They need root and say so without it.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests panic, and say why they skip")]

mod killed;
mod refused;
mod settings;
mod stage;
mod undo;
