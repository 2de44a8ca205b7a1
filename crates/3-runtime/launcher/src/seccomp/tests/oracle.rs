//! The same policy written for another compiler, with names in place of numbers. Both must allow the same calls.

use std::fmt::Write as _;

use super::*;

/// Calls that the other compiler's tables do not have; they have the same number everywhere.
const UNKNOWN: [&str; 8] =
    ["cachestat", "fchmodat2", "map_shadow_stack", "futex_wake", "futex_wait", "futex_requeue", "mseal", "futex_waitv"];

/// Conditions on 32-bit arguments, joined by "and"; the lines of a call are joined by "or".
fn conditions(name: &str) -> Vec<Vec<(u8, String, u64)>> {
    let equal = |argument, value| (argument, "\"eq\"".to_owned(), value);
    let not = |argument, value| (argument, "\"ne\"".to_owned(), value);
    let masked = |argument, mask: u64, value| (argument, format!("{{\"masked_eq\": {mask}}}"), value);
    let within = |argument, first: u64, last: u64| {
        vec![(argument, "\"ge\"".to_owned(), first), (argument, "\"le\"".to_owned(), last)]
    };
    match name {
        "clone" => vec![vec![masked(0, 0x7e02_0000, 0)]],
        "mmap" => vec![vec![masked(3, 0x4_0000, 0)]],
        "memfd_create" => vec![vec![masked(1, 4, 0)]],
        "mknod" => vec![vec![masked(1, 0o020_000, 0)]],
        "mknodat" => vec![vec![masked(2, 0o020_000, 0)]],
        "sendto" | "sendmmsg" => vec![vec![masked(3, 0x2000_0001, 0)]],
        "sendmsg" => vec![vec![masked(2, 0x2000_0001, 0)]],
        "ioctl" => vec![[0x5412, 0x541c, 0x541d, 0x5423, 0x401c_5820].map(|request| not(1, request)).to_vec()],
        "personality" => vec![vec![equal(0, 0)], vec![equal(0, 0xffff_ffff)]],
        "sched_setscheduler" => [0, 3, 5].map(|policy| vec![masked(1, 0xbfff_ffff, policy)]).to_vec(),
        "prctl" => {
            let ranges = [
                (1, 4),
                (5, 6),
                (7, 8),
                (13, 16),
                (21, 30),
                (34, 34),
                (36, 47),
                (50, 56),
                (58, 61),
                (63, 66),
                (74, 76),
            ];
            let mut lines: Vec<_> = ranges.map(|(first, last)| within(0, first, last)).to_vec();
            lines.extend([0x5356_4d41, 0x5961_6d61].map(|option| vec![equal(0, option)]));
            lines
        }
        "socketpair" => [1, 2, 5].map(|kind| vec![equal(0, 1), masked(1, 0xf, kind)]).to_vec(),
        "socket" => {
            let mut lines = [1, 2, 5].map(|kind| vec![equal(0, 1), masked(1, 0xf, kind)]).to_vec();
            for family in [2, 10] {
                for (kind, protocol) in [(1, 0), (1, 6), (2, 0), (2, 17)] {
                    lines.push(vec![equal(0, family), masked(1, 0xf, kind), equal(2, protocol)]);
                }
            }
            lines
        }
        "setsockopt" => {
            let mut lines = [0, 17, 41].map(|level| vec![equal(1, level)]).to_vec();
            let but = |level, options: &[u64]| {
                let mut line = vec![equal(1, level)];
                line.extend(options.iter().map(|option| not(2, *option)));
                line
            };
            lines.push(but(1, &[26, 50, 51, 52]));
            lines.push(but(6, &[19, 20, 21, 22, 23, 30, 31, 33]));
            lines
        }
        other => panic!("{other} has no conditions"),
    }
}

fn policy(architecture: Architecture, profile: Profile) -> String {
    let mut lines = Vec::new();
    for group in GROUPS.iter().flat_map(|groups| groups.iter()).filter(|group| group.profiles.contains(&profile)) {
        for call in group.calls.iter().filter(|call| architecture.number_of(call).is_some()) {
            match group.rule {
                Rule::Absent => {}
                Rule::Allow if UNKNOWN.contains(&call.name) => {}
                Rule::Allow => lines.push(format!("{{\"syscall\": \"{}\"}}", call.name)),
                Rule::Check(_) => {
                    for conditions in conditions(call.name) {
                        let mut text = String::new();
                        for (index, operation, value) in conditions {
                            let comma = if text.is_empty() { "" } else { ", " };
                            write!(text, "{comma}{{\"index\": {index}, \"type\": \"dword\", \"op\": {operation}, \"val\": {value}}}").unwrap();
                        }
                        lines.push(format!("{{\"syscall\": \"{}\", \"args\": [{text}]}}", call.name));
                    }
                }
            }
        }
    }
    let actions = "\"mismatch_action\": {\"errno\": 1}, \"match_action\": \"allow\"";
    format!("{{\"main\": {{{actions}, \"filter\": [{}]}}}}", lines.join(", "))
}

fn oracle(architecture: Architecture, profile: Profile) -> Vec<sock_filter> {
    let target = match architecture {
        Architecture::X86_64 => seccompiler::TargetArch::x86_64,
        Architecture::Aarch64 => seccompiler::TargetArch::aarch64,
    };
    let filters = seccompiler::compile_from_json(policy(architecture, profile).as_bytes(), target).unwrap();
    filters["main"].iter().map(|seen| sock_filter { code: seen.code, jt: seen.jt, jf: seen.jf, k: seen.k }).collect()
}

/// Values around everything that a check looks at, in each place by itself and in those of sockets together.
fn arguments_of_checks() -> Vec<[u64; 6]> {
    let mut values: Vec<u64> = (0..80).collect();
    values.extend((0..32).map(|bit| 1 << bit));
    values.extend([
        0x5411,
        0x5412,
        0x5413,
        0x541b,
        0x541c,
        0x541d,
        0x541e,
        0x5422,
        0x5423,
        0x5424,
        0x401c_5820,
        0x401c_5821,
    ]);
    values.extend([
        0x5356_4d40,
        0x5356_4d41,
        0x5356_4d42,
        0x5961_6d61,
        0xffff_ffff,
        0xffff_fffe,
        0x4000_0003,
        132,
        262,
        270,
    ]);
    let mut all = vec![[0; 6]];
    for place in 0..6 {
        for value in &values {
            for rest in [0, 1, 6] {
                let mut arguments = [rest; 6];
                arguments[place] = *value;
                all.push(arguments);
            }
        }
    }
    for family in [1, 2, 10, 16, 17] {
        for kind in [0, 1, 2, 3, 5, 0x801, 0x8_0002] {
            all.extend([0, 1, 6, 17, 58, 132, 136, 262].map(|protocol| [family, kind, protocol, 0, 0, 0]));
        }
    }
    all
}

fn compare(architecture: Architecture, profile: Profile) {
    let (ours, theirs) = (compile_for(architecture, profile), oracle(architecture, profile));
    let varied = arguments_of_checks();
    for number in (0..600).chain([0x3fff_ffff]) {
        let call = call_of(architecture, number, profile);
        if call.is_some_and(|(call, _)| UNKNOWN.contains(&call.name)) {
            continue;
        }
        let checked = call.is_some_and(|(_, rule)| matches!(rule, Rule::Check(_)));
        let some = if checked { &varied[..] } else { &[[0; 6], [u64::MAX; 6]] };
        for arguments in some {
            let seen = Seen { architecture: architecture.audit_number(), number, arguments: *arguments };
            let verdicts = [run(&ours, &seen), run(&theirs, &seen)].map(|action| action == Action::Allow);
            assert_eq!(verdicts[0], verdicts[1], "{architecture:?} {profile:?} {number} {arguments:x?}");
        }
    }
}

#[test]
fn another_compiler_comes_to_the_same_verdicts() {
    for architecture in Architecture::ALL {
        for profile in Profile::ALL {
            compare(architecture, profile);
        }
    }
}
