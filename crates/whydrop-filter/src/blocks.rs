//! A tree of questions to a program: one block for each comparison, each with a way on for yes and
//! one for no.
//!
//! Blocks only lead forward, so one pass from the first to the last knows at each what all ways to
//! it have in common: what was asked before is not asked again, and what is in a register is not
//! loaded again. A load that was made once cannot fail the second time, so this changes no answer.

use std::collections::BTreeMap;

use crate::classic::{self, Instruction, Program};
use crate::expression::{Arithmetic, Base, Expression, NETWORK, Operator, Relation, Test};

/// Where a block leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Accept,
    Reject,
    /// By its number; blocks are numbered from the last to the first.
    Block(usize),
}

/// One comparison.
#[derive(Debug)]
struct Block {
    test: Test,
    yes: Target,
    no: Target,
    /// What of its loads is still to be done, once that is known; `None` if nothing leads here.
    code: Option<Vec<Instruction>>,
}

/// What is certain on one way.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Answers given.
    answers: BTreeMap<(Arithmetic, Relation, u32), bool>,
    /// What `A` holds.
    accumulator: Option<Arithmetic>,
    /// `X` holds the length of the IPv4 header.
    header_length: bool,
}

/// The program of a tree; `None` if it accepts nothing.
pub(crate) fn program(tree: &Expression) -> Option<Program> {
    let mut blocks = Vec::new();
    let entry = build(tree, Target::Accept, Target::Reject, &mut blocks);
    thread(&mut blocks, entry);
    let entry = shorten(&mut blocks, entry);
    let instructions = match entry {
        Target::Accept => vec![ret(classic::ACCEPT)],
        Target::Reject => return None,
        Target::Block(_) => layout(&blocks, entry)?,
    };
    Some(Program { instructions })
}

/// Adds the blocks of a tree that leads to these targets, the last first; returns where to begin.
fn build(tree: &Expression, yes: Target, no: Target, blocks: &mut Vec<Block>) -> Target {
    match tree {
        Expression::Constant(true) => yes,
        Expression::Constant(false) => no,
        Expression::Not(inner) => build(inner, no, yes, blocks),
        Expression::And(first, second) => {
            let second = build(second, yes, no, blocks);
            build(first, second, no, blocks)
        }
        Expression::Or(first, second) => {
            let second = build(second, yes, no, blocks);
            build(first, yes, second, blocks)
        }
        Expression::Test(test) => {
            blocks.push(Block { test: test.clone(), yes, no, code: None });
            Target::Block(blocks.len() - 1)
        }
    }
}

/// Leads each way past the questions that are answered on it, and drops loads already made.
fn thread(blocks: &mut [Block], entry: Target) {
    let mut known: Vec<Option<Known>> = blocks.iter().map(|_| None).collect();
    lead(&mut known, entry, Known::default());
    for number in (0..blocks.len()).rev() {
        let Some(mut here) = known[number].take() else { continue };
        let block = &mut blocks[number];
        block.code = Some(load(&block.test, &mut here));
        let ways = [(block.yes, true), (block.no, false)];
        let question = question(&block.test);
        let [yes, no] = ways.map(|(target, answer)| {
            let mut known = here.clone();
            if let Some(question) = &question {
                known.answers.insert(question.clone(), answer);
            }
            (follow(blocks, target, &known), known)
        });
        (blocks[number].yes, blocks[number].no) = (yes.0, no.0);
        for (target, there) in [yes, no] {
            lead(&mut known, target, there);
        }
    }
}

/// Takes out the blocks that can only end in no, and those that nothing leads to any more. Returns
/// where to begin.
fn shorten(blocks: &mut [Block], entry: Target) -> Target {
    let mut really: Vec<Target> = Vec::new();
    for (number, block) in blocks.iter_mut().enumerate() {
        let lead = |target| match target {
            Target::Block(number) => really[number],
            end => end,
        };
        (block.yes, block.no) = (lead(block.yes), lead(block.no));
        // A load that fails ends in no as well.
        let futile = block.yes == Target::Reject && block.no == Target::Reject;
        really.push(if futile { Target::Reject } else { Target::Block(number) });
    }
    let entry = match entry {
        Target::Block(number) => really[number],
        end => end,
    };
    let mut reached = vec![false; blocks.len()];
    if let Target::Block(number) = entry {
        reached[number] = true;
    }
    for (number, block) in blocks.iter_mut().enumerate().rev() {
        if reached[number] {
            for target in [block.yes, block.no] {
                if let Target::Block(number) = target {
                    reached[number] = true;
                }
            }
        } else {
            block.code = None;
        }
    }
    entry
}

/// Adds a way to a block: what is known there is what all ways to it know.
fn lead(known: &mut [Option<Known>], target: Target, there: Known) {
    let Target::Block(number) = target else { return };
    match &mut known[number] {
        Some(here) => {
            here.answers.retain(|question, answer| there.answers.get(question) == Some(answer));
            here.header_length &= there.header_length;
            if here.accumulator != there.accumulator {
                here.accumulator = None;
            }
        }
        none => *none = Some(there),
    }
}

/// Where a way really leads, past blocks whose answer is known.
fn follow(blocks: &[Block], mut target: Target, known: &Known) -> Target {
    while let Target::Block(number) = target
        && let Some(answer) = question(&blocks[number].test).and_then(|asked| known.answer(&asked))
    {
        target = if answer { blocks[number].yes } else { blocks[number].no };
    }
    target
}

/// What a test asks, if it compares something that can be remembered with a number.
fn question(test: &Test) -> Option<(Arithmetic, Relation, u32)> {
    match (&test.left, &test.right) {
        (Arithmetic::Number(_), _) => None,
        (left, Arithmetic::Number(value)) => Some((left.clone(), test.relation, *value)),
        _ => None,
    }
}

impl Known {
    fn answer(&self, (left, relation, value): &(Arithmetic, Relation, u32)) -> Option<bool> {
        if let Some(answer) = self.answers.get(&(left.clone(), *relation, *value)) {
            return Some(*answer);
        }
        let equal = self.answers.iter().find_map(|((one, relation, value), answer)| {
            (one == left && *relation == Relation::Equal && *answer).then_some(*value)
        })?;
        Some(relation.holds(equal, *value))
    }
}

/// The instructions that load what a test compares, and what is known after them.
fn load(test: &Test, known: &mut Known) -> Vec<Instruction> {
    let mut code = Vec::new();
    if let Arithmetic::Number(_) = test.right {
        evaluate(&test.left, 0, known, &mut code);
    } else {
        evaluate(&test.left, 0, known, &mut code);
        code.push(instruction(classic::ST, 0));
        evaluate(&test.right, 1, known, &mut code);
        code.push(instruction(classic::TAX, 0));
        code.push(instruction(classic::LD_MEM, 0));
        *known = Known { accumulator: None, header_length: false, ..known.clone() };
    }
    code
}

/// Brings a number into `A`. Words of scratch memory from `free` on may be used; the parser has made
/// sure that there are enough.
fn evaluate(value: &Arithmetic, free: u32, known: &mut Known, code: &mut Vec<Instruction>) {
    if known.accumulator.as_ref() == Some(value) {
        return;
    }
    match value {
        Arithmetic::Number(number) => code.push(instruction(classic::LD_IMM, *number)),
        Arithmetic::Length => code.push(instruction(classic::LD_LEN, 0)),
        Arithmetic::Load { base, at, size } => load_bytes(*base, at, *size, free, known, code),
        Arithmetic::Binary(operator, left, right) => {
            let code_of = alu(*operator);
            if let Arithmetic::Number(number) = **right {
                evaluate(left, free, known, code);
                code.push(instruction(code_of, number));
            } else {
                evaluate(left, free, known, code);
                code.push(instruction(classic::ST, free));
                known.accumulator = None;
                evaluate(right, free + 1, known, code);
                code.push(instruction(classic::TAX, 0));
                known.header_length = false;
                code.push(instruction(classic::LD_MEM, free));
                code.push(instruction(code_of | classic::SOURCE_X, 0));
            }
        }
    }
    known.accumulator = Some(value.clone());
}

fn load_bytes(
    base: Base,
    at: &Arithmetic,
    size: u8,
    free: u32,
    known: &mut Known,
    code: &mut Vec<Instruction>,
) {
    let size = classic::size_code(size);
    match (base, at) {
        (Base::Frame(base), Arithmetic::Number(at)) => {
            code.push(instruction(classic::LD_ABS | size, base + at));
        }
        (Base::Frame(base), at) => {
            evaluate(at, free, known, code);
            code.push(instruction(classic::TAX, 0));
            known.header_length = false;
            code.push(instruction(classic::LD_IND | size, base));
        }
        (Base::Transport, Arithmetic::Number(at)) => {
            if !known.header_length {
                code.push(instruction(classic::LDX_MSH, NETWORK));
                known.header_length = true;
            }
            code.push(instruction(classic::LD_IND | size, NETWORK + at));
        }
        (Base::Transport, at) => {
            evaluate(at, free, known, code);
            code.push(instruction(classic::LDX_MSH, NETWORK));
            code.push(instruction(classic::ALU | classic::ADD | classic::SOURCE_X, 0));
            code.push(instruction(classic::TAX, 0));
            known.header_length = false;
            code.push(instruction(classic::LD_IND | size, NETWORK));
        }
    }
}

fn alu(operator: Operator) -> u16 {
    classic::ALU
        | match operator {
            Operator::Add => classic::ADD,
            Operator::Subtract => classic::SUB,
            Operator::Multiply => classic::MUL,
            Operator::Divide => classic::DIV,
            Operator::Modulo => classic::MOD,
            Operator::And => classic::AND,
            Operator::Or => classic::OR,
            Operator::Xor => classic::XOR,
            Operator::ShiftLeft => classic::LSH,
            Operator::ShiftRight => classic::RSH,
        }
}

fn instruction(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn ret(value: u32) -> Instruction {
    instruction(classic::RET_K, value)
}

/// The blocks that are reached, one after the other; `None` if nothing is ever accepted. Written from
/// the end, where all distances are known.
fn layout(blocks: &[Block], entry: Target) -> Option<Vec<Instruction>> {
    let ends = |wanted| {
        let reached = blocks.iter().filter(|block| block.code.is_some());
        reached.into_iter().any(|block| block.yes == wanted || block.no == wanted)
    };
    let mut backwards = Vec::new();
    let place = |target, value, backwards: &mut Vec<Instruction>| {
        ends(target).then(|| {
            backwards.push(ret(value));
            backwards.len()
        })
    };
    let reject = place(Target::Reject, 0, &mut backwards);
    let accept = place(Target::Accept, classic::ACCEPT, &mut backwards);
    accept?;
    let mut starts = vec![0; blocks.len()];
    for (number, block) in blocks.iter().enumerate() {
        let Some(code) = &block.code else { continue };
        let place = |target| match target {
            Target::Accept => accept.unwrap_or(0),
            Target::Reject => reject.unwrap_or(0),
            Target::Block(number) => starts[number],
        };
        jump(&block.test, place(block.yes), place(block.no), &mut backwards);
        backwards.extend(code.iter().rev());
        starts[number] = backwards.len();
        if Target::Block(number) == entry {
            break;
        }
    }
    backwards.reverse();
    Some(backwards)
}

/// The comparison at the end of a block, with a long jump behind it for a way that is too far.
fn jump(test: &Test, yes: usize, no: usize, backwards: &mut Vec<Instruction>) {
    let mut near = |target: usize, more: usize| {
        let distance = backwards.len() + more - target;
        u8::try_from(distance).is_err().then(|| {
            backwards.push(instruction(classic::JA, (backwards.len() - target) as u32));
            backwards.len()
        })
    };
    // The way for no lies last, so the one for yes has at most that long jump between.
    let no = near(no, 1).unwrap_or(no);
    let yes = near(yes, 0).unwrap_or(yes);
    let (source, k) = match test.right {
        Arithmetic::Number(value) => (0, value),
        _ => (classic::SOURCE_X, 0),
    };
    let here = backwards.len();
    backwards.push(Instruction {
        code: classic::jump(test.relation) | source,
        jt: (here - yes) as u8,
        jf: (here - no) as u8,
        k,
    });
}

#[cfg(test)]
mod tests {
    use crate::compile;

    /// Instructions of an expression.
    fn length(expression: &str) -> usize {
        compile(expression).unwrap().instructions().len()
    }

    #[test]
    fn what_was_asked_is_not_asked_again() {
        // As short as libpcap's own.
        for (expression, most) in [
            ("", 1),
            ("tcp", 12),
            ("tcp port 443", 20),
            ("host 10.0.0.7", 14),
            ("tcp port 443 and host 10.0.0.7", 22),
            ("tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn", 12),
            ("ip and ip and not ip6", 4),
        ] {
            assert!(length(expression) <= most, "{expression}: {}", length(expression));
        }
    }

    #[test]
    fn a_contradiction_accepts_nothing() {
        for expression in ["ip and ip6", "1 = 2", "tcp and not tcp", "ip and arp"] {
            let error = compile(expression).unwrap_err();
            assert!(error.to_string().contains("no packet"), "{expression}: {error}");
        }
    }

    #[test]
    fn long_ways_are_jumped() {
        let ports: Vec<String> = (1..400).map(|port| port.to_string()).collect();
        let program = compile(&format!("udp port {}", ports.join(" or "))).unwrap();
        let mut frame = vec![0; 60];
        (frame[12], frame[14], frame[23]) = (8, 0x45, 17);
        for (port, accepted) in [(1, true), (200, true), (399, true), (400, false)] {
            frame[36..38].copy_from_slice(&u16::to_be_bytes(port));
            assert_eq!(program.accepts(&frame, 60), accepted, "{port}");
        }
    }
}
