//! Calls whose arguments decide. Only values are looked at, never memory: what a pointer leads to can change after the look.
//!
//! The kernel takes these arguments as 32 bits, so the low halves are compared; bits above would only hide a value.

use libc::{AF_INET, AF_INET6, AF_UNIX, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM};

use super::bpf::{Action, Decision, low};

/// Kinds of sockets are the low four bits; above are flags.
const KIND_MASK: u32 = 0xf;
/// MSG_OOB, MSG_FASTOPEN.
const SEND_FLAGS: u32 = 0x1 | 0x2000_0000;
/// Character and block devices have this bit of the file type, and regular files, FIFOs and sockets have not.
const DEVICE_BIT: u32 = 0o020_000;
const MAP_HUGETLB: u32 = 0x4_0000;
const MFD_HUGETLB: u32 = 0x4;
/// CLONE_NEWTIME is missing: its bit belongs to the exit signal in this call.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD, FS_IOC_FSSETXATTR (the project that a quota counts).
const REQUESTS: &[(u32, u32)] = &[(0x5412, 0x5412), (0x541c, 0x541d), (0x5423, 0x5423), (0x401c_5820, 0x401c_5820)];

/// What run-times use. Missing are above all PR_MCE_KILL (33), PR_SET_MM (35), PR_SET_IO_FLUSHER (57), PR_SCHED_CORE (62)
/// and PR_SET_MEMORY_MERGE (67), and everything that is newer than this list.
const OPTIONS: &[(u32, u32)] = &[
    // Death signal, dumpable, alignment of accesses.
    (1, 6),
    // Capabilities kept, timing, name.
    (7, 8),
    (13, 16),
    // Filters, capability bounds, time stamp counter, securebits, slack of timers.
    (21, 30),
    (34, 34),
    // Reaping, no_new_privs, thread id, huge pages, MPX.
    (36, 44),
    (45, 47),
    // Vectors, speculation, pointer authentication, tagged addresses.
    (50, 56),
    (58, 61),
    // Matrices, memory that is written or executed, shadow stacks.
    (63, 66),
    (74, 76),
    // PR_SET_VMA (names of mappings), PR_SET_PTRACER.
    (0x5356_4d41, 0x5356_4d41),
    (0x5961_6d61, 0x5961_6d61),
];

pub fn clone() -> Decision {
    Decision::without_bits(low(0), NAMESPACES)
}

pub fn ioctl() -> Decision {
    Decision::among(low(1), u32::MAX, REQUESTS, &Decision::REFUSE, &Decision::ALLOW)
}

pub fn prctl() -> Decision {
    Decision::among(low(0), u32::MAX, OPTIONS, &Decision::ALLOW, &Decision::REFUSE)
}

/// 0 is the ordinary one, and all bits set asks for the present one.
pub fn personality() -> Decision {
    Decision::among(low(0), u32::MAX, &[(0, 0), (u32::MAX, u32::MAX)], &Decision::ALLOW, &Decision::REFUSE)
}

/// SCHED_OTHER, SCHED_BATCH and SCHED_IDLE, with or without SCHED_RESET_ON_FORK.
pub fn sched_setscheduler() -> Decision {
    const POLICY_MASK: u32 = !0x4000_0000;
    Decision::among(low(1), POLICY_MASK, &[(0, 0), (3, 3), (5, 5)], &Decision::ALLOW, &Decision::REFUSE)
}

pub fn mmap() -> Decision {
    Decision::without_bits(low(3), MAP_HUGETLB)
}

pub fn memfd_create() -> Decision {
    Decision::without_bits(low(1), MFD_HUGETLB)
}

pub fn node_of_mknod() -> Decision {
    Decision::without_bits(low(1), DEVICE_BIT)
}

pub fn node_of_mknodat() -> Decision {
    Decision::without_bits(low(2), DEVICE_BIT)
}

/// `sendmmsg` has its flags at the same place.
pub fn flags_of_sendto() -> Decision {
    Decision::without_bits(low(3), SEND_FLAGS)
}

pub fn flags_of_sendmsg() -> Decision {
    Decision::without_bits(low(2), SEND_FLAGS)
}

/// Unix; TCP and UDP over both versions of IP. So neither raw sockets, netlink, packets, vsock and the kernel's
/// cryptography, nor the many protocols that a socket loads a module for (SCTP, MPTCP, DCCP, SMC, TIPC, RDS).
pub fn socket() -> Decision {
    let stream = protocol(&[0, libc::IPPROTO_TCP]);
    let datagram = protocol(&[0, libc::IPPROTO_UDP]);
    let internet = kinds(&[(SOCK_STREAM, stream), (SOCK_DGRAM, datagram)]);
    families(&[(AF_UNIX, unix()), (AF_INET, internet.clone()), (AF_INET6, internet)])
}

pub fn socketpair() -> Decision {
    families(&[(AF_UNIX, unix())])
}

/// By level and option: Landlock's rule about ports does not see a connection that an option makes (TCP_FASTOPEN_CONNECT);
/// upper layer protocols and attached programs are code in the kernel; other levels belong to protocols that are closed.
pub fn setsockopt() -> Decision {
    // TCP_REPAIR and its parts (19 to 22), TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCP_ULP, TCP_FASTOPEN_KEY.
    let tcp = option_but(&[(19, 23), (30, 31), (33, 33)]);
    // SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF and SO_ATTACH_REUSEPORT_EBPF.
    let socket = option_but(&[(26, 26), (50, 52)]);
    let levels = [
        (libc::IPPROTO_IP, Decision::ALLOW),
        (libc::SOL_SOCKET, socket),
        (libc::IPPROTO_TCP, tcp),
        (libc::IPPROTO_UDP, Decision::ALLOW),
        (libc::IPPROTO_IPV6, Decision::ALLOW),
    ];
    by_value(low(1), u32::MAX, &levels, &Decision::REFUSE)
}

fn option_but(refused: &[(u32, u32)]) -> Decision {
    Decision::among(low(2), u32::MAX, refused, &Decision::REFUSE, &Decision::ALLOW)
}

fn unix() -> Decision {
    kinds(&[SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET].map(|kind| (kind, Decision::ALLOW)))
}

/// A program that tries a family first and another one then, gets the answer of a kernel without the first.
fn families(known: &[(i32, Decision)]) -> Decision {
    by_value(low(0), u32::MAX, known, &Decision::Return(Action::NO_SUCH_FAMILY))
}

fn kinds(known: &[(i32, Decision)]) -> Decision {
    by_value(low(1), KIND_MASK, known, &Decision::REFUSE)
}

fn protocol(known: &[i32]) -> Decision {
    let known: Vec<(i32, Decision)> = known.iter().map(|number| (*number, Decision::ALLOW)).collect();
    by_value(low(2), u32::MAX, &known, &Decision::REFUSE)
}

/// The values rise, and none is negative.
fn by_value(word: u32, mask: u32, known: &[(i32, Decision)], otherwise: &Decision) -> Decision {
    let mut starts = vec![(0, otherwise.clone())];
    for (value, decision) in known {
        let value = value.unsigned_abs();
        starts.push((value, decision.clone()));
        starts.push((value + 1, otherwise.clone()));
    }
    Decision::switch(word, mask, starts)
}
