//! Every call that is not refused, by profile, with its number on each architecture (`-` where it does not exist).
//!
//! A call that is in no group is refused, and so is one whose groups leave a profile out.

use agentos_protocol::sandbox::Profile;

use super::{bpf::Decision, checks};

/// One call of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub name: &'static str,
    pub x86_64: Option<u32>,
    pub aarch64: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
pub enum Rule {
    Allow,
    /// As if the kernel did not have it.
    Absent,
    /// As its arguments are.
    Check(fn() -> Decision),
}

/// Calls with one rule, for some profiles.
#[derive(Debug)]
pub struct Group {
    pub profiles: &'static [Profile],
    pub rule: Rule,
    pub calls: &'static [Call],
}

const ALL: &[Profile] = &Profile::ALL;
/// Who changes files: the egress proxy has none.
const WRITERS: &[Profile] = &[Profile::Strict, Profile::Agent, Profile::Dev];
const PROGRAMS: &[Profile] = &[Profile::Agent, Profile::Dev];
const NETWORKED: &[Profile] = &[Profile::Agent, Profile::Dev, Profile::Proxy];
const DEBUGGERS: &[Profile] = &[Profile::Dev];

/// `NAME NUMBER NUMBER,` for a call, after the profiles and the rule of its group.
macro_rules! groups {
    ($($profiles:ident, $rule:expr_2021 => { $($name:ident $x86_64:tt $aarch64:tt,)+ })+) => {
        pub(super) const GROUPS: &[Group] = &[$(Group {
            profiles: $profiles,
            rule: $rule,
            calls: &[$(Call { name: stringify!($name), x86_64: number!($x86_64), aarch64: number!($aarch64) },)+],
        },)+];
    };
}

macro_rules! number {
    (-) => {
        None
    };
    ($number:literal) => {
        Some($number)
    };
}

mod files;
mod processes;
mod sockets;
mod waiting;

pub const GROUPS: &[&[Group]] = &[files::GROUPS, waiting::GROUPS, processes::GROUPS, sockets::GROUPS];
