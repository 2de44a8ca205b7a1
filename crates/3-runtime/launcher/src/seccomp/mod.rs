//! The system call filter: other architectures are killed, calls that change namespaces and mounts refused.

use std::io;

use agentos_protocol::sandbox::Profile;
use libc::{c_long, sock_filter};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

const REFUSED: &[c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_ptrace,
    libc::SYS_bpf,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_io_uring_setup,
];

pub fn compile(_: Profile) -> Vec<sock_filter> {
    let statement = |code: u32, k: u32| sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let equal = |k: u32, jt: u8, jf: u8| sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ) as u16, jt, jf, k };
    let load = |offset: u32| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let answer = |k: u32| statement(libc::BPF_RET, k);
    let mut filter = vec![load(4), equal(ARCHITECTURE, 1, 0), answer(libc::SECCOMP_RET_KILL_PROCESS), load(0)];
    for number in REFUSED {
        filter.push(equal(*number as u32, 0, 1));
        filter.push(answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    }
    filter.push(answer(libc::SECCOMP_RET_ALLOW));
    filter
}

pub fn install(filter: &[sock_filter]) -> Result<(), String> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    let (mode, none): (libc::c_long, libc::c_long) = (1, 0);
    // SAFETY: the program and its instructions live through the call, which only reads them.
    match unsafe { libc::syscall(libc::SYS_seccomp, mode, none, &raw const program) } {
        0 => Ok(()),
        _ => Err(format!("the system call filter could not be installed: {}", io::Error::last_os_error())),
    }
}
