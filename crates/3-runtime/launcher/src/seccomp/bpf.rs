//! Decisions, and how they become a program of classic BPF.
//!
//! One form of decision is enough: load a word of the call, mask it, and find by a balanced tree the range that it lies in.
//! What stands there is an answer or another such decision. Programs only jump forward, so each is as long as its text.

use libc::sock_filter;

/// Offsets into `struct seccomp_data`, of 32-bit words.
pub const NUMBER: u32 = 0;
pub const ARCHITECTURE: u32 = 4;
/// What the largest filter fits into.
const USUAL_INSTRUCTIONS: usize = 512;

/// The low half of an argument; both architectures are little-endian.
pub const fn low(argument: u32) -> u32 {
    16 + 8 * argument
}

pub const fn high(argument: u32) -> u32 {
    low(argument) + 4
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    /// The call returns this error and does nothing.
    Errno(u16),
    /// The whole process ends with SIGSYS.
    Kill,
}

impl Action {
    pub const NOT_PERMITTED: Action = Action::Errno(libc::EPERM as u16);
    pub const NO_SUCH_CALL: Action = Action::Errno(libc::ENOSYS as u16);
    pub const NO_SUCH_FAMILY: Action = Action::Errno(libc::EAFNOSUPPORT as u16);

    /// As the kernel reads it.
    pub fn value(self) -> u32 {
        match self {
            Action::Allow => libc::SECCOMP_RET_ALLOW,
            Action::Errno(number) => libc::SECCOMP_RET_ERRNO | u32::from(number),
            Action::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Return(Action),
    Switch {
        /// Which word of the call is loaded.
        word: u32,
        mask: u32,
        /// Where each decision begins, in rising order; the first at 0, each up to the next.
        starts: Vec<(u32, Decision)>,
    },
}

impl Decision {
    pub const ALLOW: Decision = Decision::Return(Action::Allow);
    pub const REFUSE: Decision = Decision::Return(Action::NOT_PERMITTED);

    /// Later starts win over earlier ones at the same value; neighbours with the same decision become one range.
    pub fn switch(word: u32, mask: u32, starts: Vec<(u32, Decision)>) -> Decision {
        let mut merged: Vec<(u32, Decision)> = Vec::with_capacity(starts.len());
        for (start, decision) in starts {
            merged.pop_if(|(earlier, _)| *earlier == start);
            if merged.last().is_none_or(|(_, before)| *before != decision) {
                merged.push((start, decision));
            }
        }
        Decision::Switch { word, mask, starts: merged }
    }

    /// `inside` for the values in these ranges (both ends included, rising), `outside` for all others.
    pub fn among(word: u32, mask: u32, ranges: &[(u32, u32)], inside: &Decision, outside: &Decision) -> Decision {
        let mut starts = vec![(0, outside.clone())];
        for (first, last) in ranges {
            starts.push((*first, inside.clone()));
            starts.extend(last.checked_add(1).map(|next| (next, outside.clone())));
        }
        Decision::switch(word, mask, starts)
    }

    pub fn only(word: u32, value: u32, inside: Decision, outside: Decision) -> Decision {
        Decision::among(word, u32::MAX, &[(value, value)], &inside, &outside)
    }

    /// Refused if one of the bits is set.
    pub fn without_bits(word: u32, bits: u32) -> Decision {
        Decision::switch(word, bits, vec![(0, Decision::ALLOW), (1, Decision::REFUSE)])
    }

    /// Written from its end to its beginning: how far a comparison skips is known when what it skips stands there.
    pub fn compile(&self) -> Vec<sock_filter> {
        let mut program = Vec::with_capacity(USUAL_INSTRUCTIONS);
        self.write(&mut program);
        program.reverse();
        program
    }

    fn write(&self, program: &mut Vec<sock_filter>) {
        match self {
            Decision::Return(action) => program.push(statement(libc::BPF_RET | libc::BPF_K, action.value())),
            Decision::Switch { word, mask, starts } => {
                write_tree(program, starts);
                if *mask != u32::MAX {
                    program.push(statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, *mask));
                }
                program.push(statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, *word));
            }
        }
    }
}

/// Half of the ranges on each side of every comparison. Its depth is the logarithm of their count.
fn write_tree(program: &mut Vec<sock_filter>, starts: &[(u32, Decision)]) {
    match starts {
        [] => Decision::Return(Action::Kill).write(program),
        [(_, decision)] => decision.write(program),
        // One value between two halves of the same range: one comparison in place of two.
        [(_, around), (value, inside), (next, after)] if around == after && *next == value + 1 => {
            around.write(program);
            let end = program.len();
            inside.write(program);
            write_skip(program, libc::BPF_JEQ, *value, false, end);
        }
        _ => {
            // Odd, so that the pattern above is met as often as can be.
            let (lower, upper) = starts.split_at((starts.len() / 2) | 1);
            let border = upper.first().map_or(0, |(start, _)| *start);
            write_tree(program, upper);
            let end = program.len();
            write_tree(program, lower);
            write_skip(program, libc::BPF_JGE, border, true, end);
        }
    }
}

/// Skips what stands there from `end` on if the comparison with the loaded word comes out like this. Comparisons reach 255
/// far; beyond stands a plain jump.
fn write_skip(program: &mut Vec<sock_filter>, comparison: u32, value: u32, outcome: bool, end: usize) {
    let count = program.len() - end;
    let compare = |yes, no| {
        let (jt, jf) = if outcome { (yes, no) } else { (no, yes) };
        sock_filter { code: (libc::BPF_JMP | comparison | libc::BPF_K) as u16, jt, jf, k: value }
    };
    match u8::try_from(count) {
        Ok(near) => program.push(compare(near, 0)),
        Err(_) => {
            let far = u32::try_from(count).unwrap_or(u32::MAX);
            program.push(statement(libc::BPF_JMP | libc::BPF_JA, far));
            program.push(compare(0, 1));
        }
    }
}

/// Codes are small constants, so that the cast loses nothing.
fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}
