//! Calls whose arguments decide, one example a line.

use super::*;

const FAMILY: Action = Action::NO_SUCH_FAMILY;
const ALLOW: Action = Action::Allow;

fn check(name: &str, arguments: &[u64], expected: Action) {
    for architecture in Architecture::ALL {
        for profile in [Profile::Agent, Profile::Dev] {
            let filter = compile_for(architecture, profile);
            let calls = GROUPS.iter().flat_map(|groups| groups.iter()).flat_map(|group| group.calls);
            let number = calls.clone().find(|call| call.name == name).and_then(|call| architecture.number_of(call));
            let Some(number) = number else { continue };
            let mut all = [0; 6];
            all[..arguments.len()].copy_from_slice(arguments);
            // Bits above the lower half do not hide anything.
            for high in [0, 0xdead_beef << 32] {
                let arguments = all.map(|argument| argument | high);
                let seen = run(&filter, &Seen { architecture: architecture.audit_number(), number, arguments });
                assert_eq!(seen, expected, "{architecture:?} {profile:?} {name} {arguments:x?}");
            }
        }
    }
}

#[test]
fn processes_come_without_namespaces() {
    // What fork, vfork and pthread_create ask for.
    for flags in [0x120_0011, 0x4111, 0x3d_0f00, 17] {
        check("clone", &[flags], ALLOW);
    }
    for namespace in [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        check("clone", &[namespace | 17], PERM);
        check("clone", &[namespace | 0x3d_0f00], PERM);
    }
}

#[test]
fn sockets_are_unix_tcp_and_udp() {
    let flags = 0o2_004_000;
    for (family, kind, protocol) in
        [(1, 1, 0), (1, 2, 0), (1, 5, 0), (2, 1, 0), (2, 1, 6), (2, 2, 17), (10, 1, 6), (10, 2, 0)]
    {
        check("socket", &[family, kind, protocol], ALLOW);
        check("socket", &[family, kind | flags, protocol], ALLOW);
    }
    // Raw, packet and sequenced; ICMP (ping), SCTP, UDP-Lite, MPTCP, DCCP, SMC.
    for (kind, protocol) in
        [(3, 0), (3, 255), (10, 0), (5, 132), (4, 0), (6, 33), (2, 1), (2, 58), (1, 132), (2, 136), (1, 262), (1, 256)]
    {
        check("socket", &[2, kind, protocol], PERM);
        check("socket", &[10, kind, protocol], PERM);
    }
    check("socket", &[1, 3, 0], PERM);
    // Every family but 1, 2 and 10; among them netlink 16, packet 17, key 15, RDS 21, TIPC 30, Bluetooth 31, ALG 38,
    // vsock 40, KCM 41, SMC 43, XDP 44, MCTP 45.
    for family in (0..64).filter(|family| ![1, 2, 10].contains(family)).chain([0xffff_ffff]) {
        for kind in 0..16 {
            check("socket", &[family, kind, 0], FAMILY);
        }
    }
    check("socketpair", &[1, 1 | flags, 0], ALLOW);
    check("socketpair", &[2, 1, 0], FAMILY);
}

#[test]
fn nothing_connects_while_it_sends() {
    const FAST_OPEN: u64 = 0x2000_0000;
    for (call, at) in [("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)] {
        let with = |flags| {
            let mut arguments = [7; 4];
            arguments[at] = flags;
            arguments
        };
        check(call, &with(0), ALLOW);
        check(call, &with(0x4040), ALLOW);
        check(call, &with(FAST_OPEN), PERM);
        check(call, &with(FAST_OPEN | 0x4000), PERM);
        check(call, &with(0x4001), PERM);
    }
    for (level, option, expected) in [
        (1, 2, ALLOW),
        (6, 1, ALLOW),
        (0, 10, ALLOW),
        (41, 26, ALLOW),
        (17, 103, ALLOW),
        (6, 23, PERM),
        (6, 30, PERM),
        (6, 31, PERM),
        (6, 19, PERM),
        (1, 26, PERM),
        (1, 50, PERM),
        (1, 51, PERM),
        (270, 1, PERM),
        (282, 1, PERM),
        (132, 1, PERM),
    ] {
        check("setsockopt", &[3, level, option], expected);
    }
}

#[test]
fn terminals_and_projects_stay_as_they_are() {
    for request in [0x5401, 0x5413, 0x541b, 0x5421, 0x8004_6601] {
        check("ioctl", &[0, request], ALLOW);
    }
    for request in [0x5412, 0x541c, 0x541d, 0x5423, 0x401c_5820] {
        check("ioctl", &[0, request], PERM);
    }
}

#[test]
fn the_process_keeps_the_face_that_the_kernel_gave_it() {
    for option in [1, 3, 4, 15, 16, 21, 22, 23, 24, 36, 38, 39, 47, 0x5356_4d41] {
        check("prctl", &[option], ALLOW);
    }
    for option in [0, 33, 35, 57, 62, 67, 77, 200, 0xffff_ffff] {
        check("prctl", &[option], PERM);
    }
    check("personality", &[0], ALLOW);
    check("personality", &[0xffff_ffff], ALLOW);
    for bits in [0x4_0000, 0x40_0000, 0x8, 0x2_0000, 0xffff_fffe] {
        check("personality", &[bits], PERM);
    }
    for (policy, expected) in [
        (0, ALLOW),
        (3, ALLOW),
        (5, ALLOW),
        (0x4000_0000, ALLOW),
        (1, PERM),
        (2, PERM),
        (6, PERM),
        (7, PERM),
        (0x4000_0001, PERM),
    ] {
        check("sched_setscheduler", &[0, policy], expected);
    }
}

#[test]
fn no_devices_and_no_huge_pages() {
    for (kind, expected) in
        [(0, ALLOW), (0o100_000, ALLOW), (0o010_000, ALLOW), (0o140_000, ALLOW), (0o020_000, PERM), (0o060_000, PERM)]
    {
        check("mknod", &[1, kind | 0o644], expected);
        check("mknodat", &[3, 1, kind | 0o644], expected);
    }
    check("mmap", &[0, 4096, 3, 0x22], ALLOW);
    check("mmap", &[0, 4096, 3, 0x4_0022], PERM);
    check("memfd_create", &[1, 1], ALLOW);
    check("memfd_create", &[1, 5], PERM);
}
