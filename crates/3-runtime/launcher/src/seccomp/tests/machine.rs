//! An interpreter of classic BPF, as far as filters of system calls use it.

use libc::sock_filter;

use super::super::bpf::Action;

pub struct Call {
    pub architecture: u32,
    pub number: u32,
    pub arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.architecture,
            // The instruction pointer, which no filter of ours reads.
            8 | 12 => panic!("the instruction pointer was read"),
            16..64 => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                let half = if offset.is_multiple_of(8) { argument } else { argument >> 32 };
                half as u32
            }
            other => panic!("word {other} is outside"),
        }
    }
}

pub fn run(filter: &[sock_filter], call: &Call) -> Action {
    walk(filter, call).0
}

pub fn steps(filter: &[sock_filter], call: &Call) -> usize {
    walk(filter, call).1
}

fn walk(filter: &[sock_filter], call: &Call) -> (Action, usize) {
    let mut accumulator = 0;
    let mut at = 0;
    // Ends: classic BPF only jumps forward, and a missing instruction panics.
    for steps in 1.. {
        let sock_filter { code, jt, jf, k } = filter[at];
        at += 1;
        let mut branch = |condition: bool| at += usize::from(if condition { jt } else { jf });
        match code {
            // LD W ABS.
            0x20 => accumulator = call.word(k),
            // ALU AND K.
            0x54 => accumulator &= k,
            // JMP JEQ, JGT, JGE, JSET K, JA.
            0x15 => branch(accumulator == k),
            0x25 => branch(accumulator > k),
            0x35 => branch(accumulator >= k),
            0x45 => branch(accumulator & k != 0),
            0x05 => at += k as usize,
            // RET K.
            0x06 => return (action(k), steps),
            other => panic!("instruction {other:#x}"),
        }
    }
    unreachable!("the loop has no end")
}

fn action(value: u32) -> Action {
    match value {
        0x7fff_0000 => Action::Allow,
        0x8000_0000 => Action::Kill,
        errno if errno & 0xffff_0000 == 0x0005_0000 => Action::Errno(errno as u16),
        other => panic!("action {other:#x}"),
    }
}
