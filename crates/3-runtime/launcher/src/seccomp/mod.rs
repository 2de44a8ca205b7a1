//! The system call filter: which calls there are inside of a sandbox, and with which arguments.
//!
//! An allow-list ([`table`]), written as a search tree ([`bpf`]). The shape matters: the kernel walks the filter once for each
//! number when it is installed, to learn which calls need no look at their arguments. A chain of comparisons costs a
//! millisecond there and the tree nothing that can be measured. Who may do what in which file is not decided here: that is
//! the matter of mounts, Landlock and the process's rights. This is the wall around the kernel itself.
//!
//! What is refused says EPERM. What an older kernel would not have says ENOSYS, so that run-times take their older way:
//! `clone3`, whose flags a filter cannot see, and every call that is newer than this table. Calls of another
//! architecture, and those of x32, end the process.

pub mod bpf;
pub mod checks;
pub mod closing;
pub mod install;
pub mod table;

use std::collections::BTreeMap;

use agentos_protocol::sandbox::Profile;
use libc::sock_filter;

pub use self::install::install;
use self::{
    bpf::{ARCHITECTURE, Action, Decision, NUMBER},
    table::{Call, GROUPS, Rule},
};

/// Filters are compiled for all of them everywhere, so that a test here covers a machine that is not at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    X86_64,
    Aarch64,
}

impl Architecture {
    pub const ALL: [Architecture; 2] = [Architecture::X86_64, Architecture::Aarch64];

    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Architecture = Architecture::X86_64;
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Architecture = Architecture::Aarch64;

    /// The kernel's name of it (AUDIT_ARCH_*): ELF machine, 64 bit, little endian.
    pub fn audit_number(self) -> u32 {
        match self {
            Architecture::X86_64 => 0xC000_003E,
            Architecture::Aarch64 => 0xC000_00B7,
        }
    }

    pub fn number_of(self, call: &Call) -> Option<u32> {
        match self {
            Architecture::X86_64 => call.x86_64,
            Architecture::Aarch64 => call.aarch64,
        }
    }
}

/// Numbers from here on are not known to this program. The newest call that it knows is `listns`.
pub const UNKNOWN_FROM: u32 = 471;
/// On x86_64 this bit in the number asks for the x32 tables.
pub const X32_BIT: u32 = 0x4000_0000;

/// The filter of this machine. Once for each launcher: it costs more than a spawn may.
pub fn compile(profile: Profile) -> Vec<sock_filter> {
    compile_for(Architecture::NATIVE, profile)
}

pub fn compile_for(architecture: Architecture, profile: Profile) -> Vec<sock_filter> {
    let numbers = Decision::switch(NUMBER, u32::MAX, numbers(architecture, profile));
    let kill = Decision::Return(Action::Kill);
    Decision::only(ARCHITECTURE, architecture.audit_number(), numbers, kill).compile()
}

/// Where each decision begins. The first stands at 0, and each holds up to the next.
fn numbers(architecture: Architecture, profile: Profile) -> Vec<(u32, Decision)> {
    let mut known: BTreeMap<u32, Decision> = BTreeMap::new();
    for group in GROUPS.iter().flat_map(|groups| groups.iter()) {
        if !group.profiles.contains(&profile) {
            continue;
        }
        for number in group.calls.iter().filter_map(|call| architecture.number_of(call)) {
            known.insert(number, group.rule.decision());
        }
    }
    let mut starts = vec![(0, Decision::Return(Action::NOT_PERMITTED))];
    for (number, decision) in known {
        starts.push((number, decision));
        starts.push((number + 1, Decision::Return(Action::NOT_PERMITTED)));
    }
    starts.push((UNKNOWN_FROM, Decision::Return(Action::NO_SUCH_CALL)));
    if architecture == Architecture::X86_64 {
        starts.push((X32_BIT, Decision::Return(Action::Kill)));
        // What a tracer writes to skip a call. It is no call of x32.
        starts.push((u32::MAX, Decision::Return(Action::NO_SUCH_CALL)));
    }
    starts
}

impl Rule {
    fn decision(self) -> Decision {
        match self {
            Rule::Allow => Decision::Return(Action::Allow),
            Rule::Absent => Decision::Return(Action::NO_SUCH_CALL),
            Rule::Check(check) => check(),
        }
    }
}

#[cfg(test)]
mod tests;
