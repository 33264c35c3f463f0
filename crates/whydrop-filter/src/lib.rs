//! Packet filters in tcpdump's language, compiled without libpcap.
//!
//! [`compile`] turns an expression into a classic BPF [`Program`] over an Ethernet frame, as
//! `tcpdump -y EN10MB -ddd` does; [`Program::to_ebpf`] turns that into instructions for the drop
//! tracer, which has a packet's network header and its EtherType, and an Ethernet header only
//! sometimes. An expression that both understand accepts the same packets in both; what is not
//! supported is refused with its [position](Error::position) and a hint. `docs/filters.md` describes
//! the language.
//!
//! Nothing here reads anything: no file of services or protocols, no name server, no kernel.

mod arithmetic;
mod blocks;
mod classic;
mod ebpf;
mod error;
mod expression;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod lexer;
mod names;
mod parser;
mod primitive;

pub use classic::{Instruction, Program};
pub use ebpf::Untranslatable;
pub use error::Error;

/// Compiles an expression. An empty one accepts every packet.
///
/// # Errors
///
/// If it is not an expression of the supported language, with the place of what is wrong.
pub fn compile(expression: &str) -> Result<Program, Error> {
    let tokens = lexer::tokens(expression)?;
    let tree = parser::parse(expression, &tokens)?;
    blocks::program(&tree).ok_or_else(|| {
        Error::new(expression, 0..expression.len(), "no packet can match this")
            .hint("a condition in it is never true")
    })
}
