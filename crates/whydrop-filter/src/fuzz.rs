//! What a fuzzer calls, and the test that replays what it kept. Not in any other build.

#[path = "../tests/semantics/machine.rs"]
mod machine;
#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

use machine::Packet;

/// Bytes of an Ethernet header, which every frame has.
const HEADER: usize = 14;

/// An expression, and behind a zero byte a frame to try it on.
///
/// # Panics
///
/// If a program loops, cannot be translated although it is short, or means something else in the
/// kernel's instructions; if an error points beside the expression.
pub fn filter(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (expression, frame) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Ok(expression) = str::from_utf8(expression) else { return };
    let program = match crate::compile(expression) {
        Ok(program) => program,
        Err(error) => {
            assert!(error.position() <= expression.len(), "{error}");
            return;
        }
    };
    let instructions = program.instructions();
    assert!(instructions.len() <= most_instructions(expression), "{}", instructions.len());
    let mut padded = frame.to_vec();
    padded.resize(frame.len().max(HEADER), 0);
    let code = match program.to_ebpf() {
        Ok(code) => code,
        // Distances are numbers of 16 bits.
        Err(why) => return assert!(instructions.len() > 1000, "{why}"),
    };
    for there in [padded.len(), padded.len().midpoint(HEADER), HEADER] {
        let expected = program.accepts(&padded[..there], padded.len() as u32);
        let answer = machine::run(&code, &Packet::new(&padded, there, true));
        assert_eq!(answer, Ok(expected), "{there} bytes");
    }
}

/// A word of an expression is at most so many questions, of so many instructions each.
fn most_instructions(expression: &str) -> usize {
    64 * (expression.len() + 1)
}

#[test]
fn what_a_fuzzer_kept_passes() {
    replay::corpus("filter", filter);
}
