//! The filter against its table, against an oracle, and around real programs.

mod arguments;
mod closed;
mod machine;
mod oracle;
mod programs;

use super::*;
use machine::{Call as Seen, run};

const PERM: Action = Action::NOT_PERMITTED;
const NOSYS: Action = Action::NO_SUCH_CALL;

/// The numbers of all calls and what lies around and between them.
fn every_number() -> impl Iterator<Item = u32> {
    let far = [0x3fff_ffff, X32_BIT, X32_BIT + 59, X32_BIT + 512, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX];
    (0..1024).chain(far)
}

fn call_of(architecture: Architecture, number: u32, profile: Profile) -> Option<(&'static Call, Rule)> {
    let groups = GROUPS.iter().flat_map(|groups| groups.iter()).filter(|group| group.profiles.contains(&profile));
    let mut calls = groups.flat_map(|group| group.calls.iter().map(|call| (call, group.rule)));
    calls.find(|(call, _)| architecture.number_of(call) == Some(number))
}

#[test]
fn every_number_is_answered_as_the_table_says() {
    for architecture in Architecture::ALL {
        for profile in Profile::ALL {
            let filter = compile_for(architecture, profile);
            for number in every_number() {
                let expected = match call_of(architecture, number, profile).map(|(_, rule)| rule) {
                    Some(Rule::Allow) => Action::Allow,
                    Some(Rule::Absent) => NOSYS,
                    // Judged by the examples and by the oracle.
                    Some(Rule::Check(_)) => continue,
                    None if number == u32::MAX => NOSYS,
                    None if number >= X32_BIT && architecture == Architecture::X86_64 => Action::Kill,
                    None if number >= UNKNOWN_FROM => NOSYS,
                    None => PERM,
                };
                for arguments in [[0; 6], [u64::MAX; 6], [1 << 32; 6]] {
                    let seen = run(&filter, &Seen { architecture: architecture.audit_number(), number, arguments });
                    assert_eq!(seen, expected, "{architecture:?} {profile:?} {number} {arguments:x?}");
                }
            }
        }
    }
}

#[test]
fn every_other_architecture_ends_the_process() {
    // i386, arm, riscv64, s390x, mips64, and the big-endian twin of aarch64.
    let foreign = [0x4000_0003, 0x4000_0028, 0xC000_00F3, 0x8000_0016, 0x8000_0008, 0x8000_00B7, 0, u32::MAX];
    for own in Architecture::ALL {
        let filter = compile_for(own, Profile::Dev);
        let others = Architecture::ALL.iter().filter(|other| **other != own).map(|other| other.audit_number());
        for architecture in foreign.into_iter().chain(others) {
            for number in every_number() {
                let seen = run(&filter, &Seen { architecture, number, arguments: [0; 6] });
                assert_eq!(seen, Action::Kill, "{own:?} {architecture:x} {number}");
            }
        }
    }
}

#[test]
fn filters_stay_small_and_flat() {
    for architecture in Architecture::ALL {
        for profile in Profile::ALL {
            let filter = compile_for(architecture, profile);
            assert!(filter.len() <= 450, "{architecture:?} {profile:?}: {} instructions", filter.len());
            for number in every_number() {
                let call = Seen { architecture: architecture.audit_number(), number, arguments: [u64::MAX; 6] };
                let steps = machine::steps(&filter, &call);
                assert!(steps <= 40, "{architecture:?} {profile:?} {number}: {steps} steps");
            }
        }
    }
}

#[test]
fn no_call_stands_twice_and_the_native_numbers_are_the_c_librarys() {
    let calls: Vec<&Call> = GROUPS.iter().flat_map(|groups| groups.iter()).flat_map(|group| group.calls).collect();
    for architecture in Architecture::ALL {
        let mut numbers: Vec<u32> = calls.iter().filter_map(|call| architecture.number_of(call)).collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count, "{architecture:?}");
        assert!(numbers.last().is_some_and(|last| *last < UNKNOWN_FROM));
    }
    for (name, number) in [
        ("read", libc::SYS_read),
        ("openat", libc::SYS_openat),
        ("clone", libc::SYS_clone),
        ("socket", libc::SYS_socket),
        ("futex", libc::SYS_futex),
        ("seccomp", libc::SYS_seccomp),
        ("ptrace", libc::SYS_ptrace),
        ("landlock_restrict_self", libc::SYS_landlock_restrict_self),
    ] {
        let call = calls.iter().find(|call| call.name == name).unwrap();
        assert_eq!(Architecture::NATIVE.number_of(call).map(i64::from), Some(number), "{name}");
    }
    let allowed = calls.iter().filter(|call| call.x86_64.is_some()).count();
    assert!((260..300).contains(&allowed), "{allowed}");
}
