//! Looking into processes, and signals to those outside.

use std::{fs::File, os::fd::AsRawFd};

use crate::{Attempt, Facts, Outcome, Wall::*, kernel, kernel::Errno};

pub const ATTEMPTS: &[Attempt] = &[
    Attempt {
        name: "trace-me",
        what: "ask to be traced",
        walls: &[Seccomp],
        run: |_| Outcome::of(ptrace(libc::PTRACE_TRACEME, 0)),
    },
    Attempt {
        name: "trace-other",
        what: "trace another process",
        walls: &[Seccomp],
        run: |_| on_victim(|pid| ptrace(libc::PTRACE_ATTACH, pid)),
    },
    Attempt {
        name: "trace-init",
        what: "trace the first process",
        walls: &[Seccomp, Init],
        run: |_| Outcome::of(ptrace(libc::PTRACE_SEIZE, 1)),
    },
    Attempt {
        name: "read-other-memory",
        what: "read another process's memory",
        walls: &[Seccomp],
        run: |_| on_victim(read_memory),
    },
    Attempt {
        name: "write-other-memory",
        what: "write another process's memory",
        walls: &[Seccomp],
        run: |_| on_victim(write_memory),
    },
    Attempt {
        name: "advise-other-memory",
        what: "advise on another process's memory",
        walls: &[Seccomp, Capabilities, Kernel],
        run: |_| on_victim(advise_memory),
    },
    Attempt {
        name: "take-descriptor",
        what: "take a descriptor out of another process",
        walls: &[Seccomp],
        run: |_| on_victim(take_descriptor),
    },
    Attempt {
        name: "compare-processes",
        what: "compare what two processes have in the kernel",
        walls: &[Seccomp],
        run: |_| on_victim(compare),
    },
    Attempt {
        name: "signal-host-process",
        what: "signal a process of the host with the same user",
        walls: &[Processes, Landlock],
        run: |f| Outcome::of(kernel::kill(f.host_process, libc::SIGUSR1)),
    },
    Attempt {
        name: "find-host-process",
        what: "a descriptor for a process of the host",
        walls: &[Processes],
        run: |f| Outcome::of(kernel::call(libc::SYS_pidfd_open, &[f.host_process as usize, 0])),
    },
    Attempt { name: "end-init", what: "end or stop the first process", walls: &[Processes, Kernel], run: end_init },
    Attempt {
        name: "signal-by-descriptor",
        what: "let a descriptor signal a process of the host",
        walls: &[Processes],
        run: own_descriptor,
    },
    Attempt {
        name: "slow-host-process",
        what: "lower the priority of a process of the host",
        walls: &[Processes],
        run: |f| {
            Outcome::of(kernel::call(
                libc::SYS_setpriority,
                &[libc::PRIO_PROCESS as usize, f.host_process as usize, 19],
            ))
        },
    },
    Attempt {
        name: "pin-host-process",
        what: "move a process of the host to one processor",
        walls: &[Seccomp, Processes],
        run: pin,
    },
    Attempt {
        name: "limit-host-process",
        what: "read and change limits of a process of the host",
        walls: &[Processes],
        run: read_limit,
    },
    Attempt {
        name: "take-terminal",
        what: "become the foreground of a terminal",
        walls: &[Kernel],
        run: take_terminal,
    },
];

fn ptrace(request: u32, pid: i32) -> Result<usize, Errno> {
    kernel::call(libc::SYS_ptrace, &[request as usize, pid as usize, 0, 0])
}

fn on_victim(attempt: impl Fn(i32) -> Result<usize, Errno>) -> Outcome {
    match kernel::victim() {
        Err(errno) => Outcome::broken(errno.name()),
        Ok(pid) => {
            let result = attempt(pid);
            kernel::end(pid);
            Outcome::of(result)
        }
    }
}

static TARGET: [u8; 8] = [7; 8];

/// One buffer here, and the same address there: a copy of this process.
fn vectors(buffer: &mut [u8; 8]) -> [libc::iovec; 2] {
    let there = kernel::address(&TARGET) as *mut libc::c_void;
    [libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 8 }, libc::iovec { iov_base: there, iov_len: 8 }]
}

fn read_memory(pid: i32) -> Result<usize, Errno> {
    let mut buffer = [0; 8];
    let [here, there] = vectors(&mut buffer);
    kernel::call(libc::SYS_process_vm_readv, &[pid as usize, kernel::address(&here), 1, kernel::address(&there), 1, 0])
}

fn write_memory(pid: i32) -> Result<usize, Errno> {
    let mut buffer = [0; 8];
    let mut there = [0_u8; 8];
    let here = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 8 };
    // The stack of the copy has the same place.
    let there = libc::iovec { iov_base: there.as_mut_ptr().cast(), iov_len: 8 };
    kernel::call(libc::SYS_process_vm_writev, &[pid as usize, kernel::address(&here), 1, kernel::address(&there), 1, 0])
}

fn advise_memory(pid: i32) -> Result<usize, Errno> {
    let pidfd = kernel::call(libc::SYS_pidfd_open, &[pid as usize, 0])?;
    let page = kernel::address(&TARGET) & !4095;
    let range = libc::iovec { iov_base: page as *mut libc::c_void, iov_len: 4096 };
    kernel::call(libc::SYS_process_madvise, &[pidfd, kernel::address(&range), 1, libc::MADV_COLD as usize, 0])
}

fn take_descriptor(pid: i32) -> Result<usize, Errno> {
    let pidfd = kernel::call(libc::SYS_pidfd_open, &[pid as usize, 0])?;
    kernel::call(libc::SYS_pidfd_getfd, &[pidfd, 1, 0])
}

fn compare(pid: i32) -> Result<usize, Errno> {
    // SAFETY: getpid has no arguments.
    let own = unsafe { libc::getpid() };
    kernel::call(libc::SYS_kcmp, &[own as usize, pid as usize, 0, 1, 1])
}

/// The kernel takes the signal and drops it: that init is still there is what counts.
fn end_init(_: &Facts) -> Outcome {
    for signal in [libc::SIGKILL, libc::SIGSTOP] {
        let _ = kernel::kill(1, signal);
    }
    match (kernel::kill(1, 0), std::fs::read_to_string("/proc/1/stat")) {
        (Ok(()), Ok(stat)) => Outcome::open_if(stat.contains(") T ") || stat.contains(") Z "), "it goes on"),
        (Ok(()), Err(_)) => Outcome::blocked("it goes on"),
        (Err(errno), _) => Outcome::blocked(errno.name()),
    }
}

fn own_descriptor(facts: &Facts) -> Outcome {
    let Ok(file) = File::open("/dev/null") else { return Outcome::broken("no /dev/null") };
    let arguments = [file.as_raw_fd() as usize, libc::F_SETOWN as usize, facts.host_process as usize];
    Outcome::of(kernel::call(libc::SYS_fcntl, &arguments))
}

fn read_limit(facts: &Facts) -> Outcome {
    let mut present = [0_u64; 2];
    let at = present.as_mut_ptr() as usize;
    Outcome::of(kernel::call(libc::SYS_prlimit64, &[facts.host_process as usize, libc::RLIMIT_NOFILE as usize, 0, at]))
}

fn pin(facts: &Facts) -> Outcome {
    // All processors: where it works, nothing changes.
    let all = [u8::MAX; 128];
    Outcome::of(kernel::call(
        libc::SYS_sched_setaffinity,
        &[facts.host_process as usize, all.len(), kernel::address(&all)],
    ))
}

fn take_terminal(_: &Facts) -> Outcome {
    let group = 1_i32;
    let taken = (0..3).map(|descriptor| {
        kernel::call(libc::SYS_ioctl, &[descriptor, libc::TIOCSPGRP as usize, kernel::address(&group)])
    });
    taken.filter(Result::is_ok).map(Outcome::of).next().unwrap_or_else(|| Outcome::blocked("ENOTTY"))
}
