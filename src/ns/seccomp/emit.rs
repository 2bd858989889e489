//! From ranges of numbers and what each gets to instructions, written from the end to the beginning.

use libc::sock_filter;

use super::{DEFAULT, FOREIGN, Outcome, Range};
use crate::oci::runtime::{SeccompArg, SeccompOp};

// Instructions (linux/bpf_common.h) and what they load (struct seccomp_data).
pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const EQUAL: u16 = 0x15;
pub(super) const GREATER: u16 = 0x25;
pub(super) const GREATER_OR_EQUAL: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCHITECTURE: u32 = 4;
pub(super) const ARGUMENTS: u32 = 16;

/// A program, written from its end, because jumps go forward only: where they lead is known when they are written.
/// A place is counted from the end.
struct Emitter<'a> {
    code: Vec<sock_filter>,
    outcomes: &'a [Outcome],
    /// Where an outcome was last written.
    written: Vec<Option<usize>>,
}

/// The whole program, last instruction first.
pub(super) fn emit(sections: &[(u32, Vec<Range>)], outcomes: &[Outcome]) -> Vec<sock_filter> {
    let mut emitter = Emitter { code: Vec::with_capacity(512), outcomes, written: vec![None; outcomes.len()] };
    let starts: Vec<usize> = sections
        .iter()
        .rev()
        .map(|(_, ranges)| {
            let root = emitter.tree(ranges);
            emitter.fall_to(root);
            emitter.push(LOAD, NUMBER)
        })
        .collect();
    let mut otherwise = emitter.outcome(FOREIGN);
    for ((audit, _), start) in sections.iter().rev().zip(starts) {
        otherwise = emitter.branch(EQUAL, *audit, start, otherwise);
    }
    emitter.push(LOAD, ARCHITECTURE);
    emitter.code
}

impl Emitter<'_> {
    fn push(&mut self, code: u16, k: u32) -> usize {
        self.code.push(sock_filter { code, jt: 0, jf: 0, k });
        self.code.len() - 1
    }

    /// What is written next goes on at that place.
    fn fall_to(&mut self, place: usize) {
        let distance = self.code.len() - place - 1;
        if distance > 0 {
            self.push(JUMP, distance as u32);
        }
    }

    /// A conditional jump to two places, which may be far.
    fn branch(&mut self, code: u16, k: u32, mut yes: usize, mut no: usize) -> usize {
        // An unconditional jump in between for what is too far; writing it moves the other one away by one.
        const FAR: usize = 250;
        for place in [&mut yes, &mut no] {
            let distance = self.code.len() - *place - 1;
            if distance > FAR {
                *place = self.push(JUMP, distance as u32);
            }
        }
        let (jt, jf) = (self.code.len() - yes - 1, self.code.len() - no - 1);
        self.code.push(sock_filter { code, jt: jt as u8, jf: jf as u8, k });
        self.code.len() - 1
    }

    /// A balanced tree of comparisons with the number that is loaded.
    fn tree(&mut self, ranges: &[Range]) -> usize {
        if let [only] = ranges {
            return self.outcome(only.outcome);
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let above = self.tree(high);
        let below = self.tree(low);
        self.branch(GREATER_OR_EQUAL, high[0].start, above, below)
    }

    fn outcome(&mut self, outcome: usize) -> usize {
        let near = self.written[outcome].filter(|place| self.code.len() - place < 200);
        let outcomes = self.outcomes;
        let place = near.unwrap_or_else(|| match &outcomes[outcome] {
            Outcome::Return(value) => self.push(RETURN, *value),
            Outcome::Conditional(rules) => {
                let mut next = self.outcome(DEFAULT);
                for (args, value) in rules.iter().rev() {
                    let mut place = self.push(RETURN, *value);
                    for arg in args.iter().rev() {
                        place = self.condition(arg, place, next);
                    }
                    next = place;
                }
                next
            }
        });
        self.written[outcome] = Some(place);
        place
    }

    /// Compares an argument, in two halves: the machine has 32 bits.
    fn condition(&mut self, arg: &SeccompArg, yes: usize, no: usize) -> usize {
        let low_half = ARGUMENTS + 8 * arg.index;
        let high_half = low_half + 4;
        let (mask, value) = match arg.op {
            SeccompOp::MaskedEq => (arg.value, arg.value_two),
            _ => (u64::MAX, arg.value),
        };
        let (low, high) = (value as u32, (value >> 32) as u32);
        match arg.op {
            SeccompOp::Eq | SeccompOp::MaskedEq => {
                let low = self.half(low_half, mask as u32, low, yes, no);
                self.half(high_half, (mask >> 32) as u32, high, low, no)
            }
            SeccompOp::Ne => {
                let low = self.half(low_half, u32::MAX, low, no, yes);
                self.half(high_half, u32::MAX, high, low, yes)
            }
            SeccompOp::Gt => self.ordered(low_half, GREATER, low, high, yes, no),
            SeccompOp::Ge => self.ordered(low_half, GREATER_OR_EQUAL, low, high, yes, no),
            SeccompOp::Lt => self.ordered(low_half, GREATER_OR_EQUAL, low, high, no, yes),
            SeccompOp::Le => self.ordered(low_half, GREATER, low, high, no, yes),
        }
    }

    /// Whether one half, masked, is equal.
    fn half(&mut self, offset: u32, mask: u32, value: u32, yes: usize, no: usize) -> usize {
        if (mask, value) == (0, 0) {
            return yes;
        }
        self.branch(EQUAL, value, yes, no);
        if mask != u32::MAX {
            self.push(AND, mask);
        }
        self.push(LOAD, offset)
    }

    fn ordered(&mut self, low_half: u32, code: u16, low: u32, high: u32, yes: usize, no: usize) -> usize {
        self.branch(code, low, yes, no);
        let low = self.push(LOAD, low_half);
        let equal = self.branch(EQUAL, high, low, no);
        self.branch(GREATER, high, yes, equal);
        self.push(LOAD, low_half + 4)
    }
}
