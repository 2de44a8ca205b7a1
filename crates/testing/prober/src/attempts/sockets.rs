//! Families and types of sockets. Each is its own part of the kernel, and many load a module when they are asked for.

use crate::{Attempt, Facts, Outcome, Wall::*, kernel};

pub const ATTEMPTS: &[Attempt] = &[
    Attempt {
        name: "raw-socket",
        what: "a raw socket",
        walls: &[Seccomp, Capabilities],
        run: |_| socket(libc::AF_INET, libc::SOCK_RAW, 255),
    },
    Attempt {
        name: "packet-socket",
        what: "a packet socket",
        walls: &[Seccomp, Capabilities],
        run: |_| socket(libc::AF_PACKET, libc::SOCK_RAW, 0),
    },
    Attempt {
        name: "netlink-socket",
        what: "a netlink socket",
        walls: &[Seccomp],
        run: |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, 0),
    },
    Attempt {
        name: "netfilter-socket",
        what: "a netlink socket of the packet filter",
        walls: &[Seccomp, Machine],
        run: |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, 12),
    },
    Attempt {
        name: "vsock",
        what: "a socket to the hypervisor",
        walls: &[Seccomp, Machine],
        run: |_| socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0),
    },
    Attempt {
        name: "crypto-socket",
        what: "a socket to the kernel's cryptography",
        walls: &[Seccomp, Machine],
        run: |_| socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
    },
    Attempt {
        name: "bluetooth-socket",
        what: "a Bluetooth socket",
        walls: &[Seccomp, Machine],
        run: |_| socket(31, libc::SOCK_RAW, 1),
    },
    Attempt {
        name: "xdp-socket",
        what: "an XDP socket",
        walls: &[Seccomp, Machine],
        run: |_| socket(44, libc::SOCK_RAW, 0),
    },
    Attempt {
        name: "key-socket",
        what: "a socket for the keys of IPsec",
        walls: &[Seccomp, Machine],
        run: |_| socket(15, libc::SOCK_RAW, 2),
    },
    Attempt {
        name: "tipc-socket",
        what: "a TIPC socket",
        walls: &[Seccomp, Machine],
        run: |_| socket(30, libc::SOCK_SEQPACKET, 0),
    },
    Attempt {
        name: "rds-socket",
        what: "an RDS socket",
        walls: &[Seccomp, Machine],
        run: |_| socket(21, libc::SOCK_SEQPACKET, 0),
    },
    Attempt {
        name: "smc-socket",
        what: "an SMC socket",
        walls: &[Seccomp, Machine],
        run: |_| socket(43, libc::SOCK_STREAM, 0),
    },
    Attempt {
        name: "sctp-socket",
        what: "an SCTP socket",
        walls: &[Seccomp, Machine],
        run: |_| socket(libc::AF_INET, libc::SOCK_STREAM, 132),
    },
    Attempt {
        name: "mptcp-socket",
        what: "a multipath socket",
        walls: &[Seccomp, Machine],
        run: |_| socket(libc::AF_INET, libc::SOCK_STREAM, 262),
    },
    Attempt {
        name: "udp-lite-socket",
        what: "a UDP-Lite socket",
        walls: &[Seccomp, Machine],
        run: |_| socket(libc::AF_INET, libc::SOCK_DGRAM, 136),
    },
    Attempt {
        name: "ping-socket",
        what: "a ping socket",
        walls: &[Seccomp, Machine],
        run: |_| socket(libc::AF_INET, libc::SOCK_DGRAM, 1),
    },
    Attempt {
        name: "every-other-family",
        what: "any of the other families up to 63",
        walls: &[Seccomp, Machine],
        run: every_other,
    },
    Attempt {
        name: "upper-layer-protocol",
        what: "TLS of the kernel on a TCP socket",
        walls: &[Seccomp, Machine],
        run: |_| option(6, 31, b"tls\0"),
    },
    Attempt {
        name: "attach-filter",
        what: "a program of ours on a socket",
        walls: &[Seccomp, Machine],
        run: attach_filter,
    },
    Attempt {
        name: "out-of-band",
        what: "out-of-band data on a unix socket",
        walls: &[Seccomp, Machine],
        run: out_of_band,
    },
    Attempt {
        name: "claim-credentials",
        what: "claim to be root on a unix socket",
        walls: &[Capabilities, Kernel],
        run: claim_credentials,
    },
];

pub fn socket(family: i32, kind: i32, protocol: i32) -> Outcome {
    let arguments = [family, kind | libc::SOCK_CLOEXEC, protocol].map(|value| value as usize);
    Outcome::of(kernel::call(libc::SYS_socket, &arguments))
}

fn every_other(_: &Facts) -> Outcome {
    let opened: Vec<i32> = (0..64)
        .filter(|family| {
            ![libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_ALG, libc::AF_PACKET]
                .contains(family)
        })
        .filter(|family| {
            let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET];
            kinds.into_iter().any(|kind| socket(*family, kind, 0).verdict == crate::Verdict::Open)
        })
        .collect();
    Outcome::open_if(!opened.is_empty(), format!("{opened:?}"))
}

fn option(level: usize, name: usize, value: &[u8]) -> Outcome {
    let Ok(socket) = kernel::call(libc::SYS_socket, &[libc::AF_INET as usize, libc::SOCK_STREAM as usize, 0]) else {
        return Outcome::broken("no TCP socket");
    };
    Outcome::of_rights(kernel::call(libc::SYS_setsockopt, &[socket, level, name, kernel::address(value), value.len()]))
}

fn attach_filter(_: &Facts) -> Outcome {
    let accept = [libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: u32::MAX }];
    let program = libc::sock_fprog { len: 1, filter: accept.as_ptr().cast_mut() };
    let mut value = [0; size_of::<libc::sock_fprog>()];
    // SAFETY: both are as long as the structure, which is plain data.
    unsafe { std::ptr::copy_nonoverlapping((&raw const program).cast(), value.as_mut_ptr(), value.len()) };
    option(1, 26, &value)
}

fn pair() -> Option<[i32; 2]> {
    let mut ends = [0; 2];
    let arguments = [libc::AF_UNIX as usize, libc::SOCK_STREAM as usize, 0, ends.as_mut_ptr() as usize];
    kernel::call(libc::SYS_socketpair, &arguments).ok().map(|_| ends)
}

fn out_of_band(_: &Facts) -> Outcome {
    let Some(ends) = pair() else { return Outcome::broken("no pair of sockets") };
    Outcome::of(kernel::call(
        libc::SYS_sendto,
        &[ends[0] as usize, kernel::address(b"x"), 1, libc::MSG_OOB as usize, 0, 0],
    ))
}

fn claim_credentials(_: &Facts) -> Outcome {
    let Some(ends) = pair() else { return Outcome::broken("no pair of sockets") };
    #[repr(C, align(8))]
    struct Control {
        length: usize,
        level: i32,
        kind: i32,
        claimed: [u32; 4],
    }
    let control = Control { length: 28, level: libc::SOL_SOCKET, kind: libc::SCM_CREDENTIALS, claimed: [1, 0, 0, 0] };
    let data = libc::iovec { iov_base: kernel::address(b"x") as *mut libc::c_void, iov_len: 1 };
    // SAFETY: the structure is plain data, for which zero is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = (&raw const data).cast_mut();
    message.msg_iovlen = 1;
    message.msg_control = (&raw const control).cast_mut().cast();
    message.msg_controllen = size_of::<Control>();
    Outcome::of(kernel::call(libc::SYS_sendmsg, &[ends[0] as usize, kernel::address(&message), 0]))
}
