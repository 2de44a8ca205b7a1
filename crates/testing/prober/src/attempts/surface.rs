//! Calls of the kernel that no agent needs, each with a history of ways in.

use crate::{Attempt, Facts, Outcome, Wall::*, kernel};

/// Where nothing is mapped.
const NOWHERE: usize = 8;

pub const ATTEMPTS: &[Attempt] = &[
    Attempt {
        name: "io-uring",
        what: "io_uring, which goes around filters",
        walls: &[Seccomp, Machine],
        run: |_| rights(libc::SYS_io_uring_setup, &[1, NOWHERE]),
    },
    Attempt {
        name: "asynchronous-io",
        what: "the older asynchronous input and output",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_io_setup, &[1, NOWHERE]),
    },
    Attempt {
        name: "keyctl",
        what: "the keys of the kernel",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_keyctl, &[0, usize::MAX - 2, 0]),
    },
    Attempt {
        name: "add-key",
        what: "a new key",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_add_key, &[NOWHERE, NOWHERE, 0, 0, 0]),
    },
    Attempt {
        name: "request-key",
        what: "a key from the helper of the host",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_request_key, &[NOWHERE, NOWHERE, 0, 0]),
    },
    Attempt {
        name: "bpf",
        what: "programs in the kernel",
        walls: &[Seccomp, Machine],
        run: |_| rights(libc::SYS_bpf, &[5, NOWHERE, 128]),
    },
    Attempt {
        name: "perf",
        what: "counters of the processor",
        walls: &[Seccomp, Machine],
        run: |_| rights(libc::SYS_perf_event_open, &[NOWHERE, 0, usize::MAX, usize::MAX, 0]),
    },
    Attempt {
        name: "userfaultfd",
        what: "holding the kernel at a page",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_userfaultfd, &[1]),
    },
    Attempt {
        name: "load-module",
        what: "a module of the kernel",
        walls: &[Seccomp, Capabilities, Kernel],
        run: |_| rights(libc::SYS_init_module, &[NOWHERE, 0, NOWHERE]),
    },
    Attempt {
        name: "load-module-file",
        what: "a module of the kernel from a file",
        walls: &[Seccomp, Capabilities, Kernel],
        run: |_| rights(libc::SYS_finit_module, &[usize::MAX, NOWHERE, 0]),
    },
    Attempt {
        name: "remove-module",
        what: "removing a module",
        walls: &[Seccomp, Kernel],
        run: |_| rights(libc::SYS_delete_module, &[NOWHERE, 0]),
    },
    Attempt {
        name: "other-kernel",
        what: "another kernel",
        walls: &[Seccomp, Kernel],
        run: |_| rights(libc::SYS_kexec_load, &[0, 0, 0, usize::MAX]),
    },
    Attempt {
        name: "descriptor-table",
        what: "entries in the processor's descriptor table",
        walls: &[Seccomp],
        run: descriptor_table,
    },
    Attempt { name: "io-ports", what: "ports of the machine", walls: &[Seccomp, Kernel], run: io_ports },
    Attempt {
        name: "kernel-log",
        what: "the log of the kernel",
        walls: &[Seccomp, Machine],
        run: |_| rights(libc::SYS_syslog, &[3, NOWHERE, 0]),
    },
    Attempt {
        name: "reboot",
        what: "a restart of the machine",
        walls: &[Seccomp, Capabilities],
        run: |_| rights(libc::SYS_reboot, &[0, 0, 0, 0]),
    },
    Attempt {
        name: "process-accounting",
        what: "records of all processes into a file of ours",
        walls: &[Seccomp, Kernel],
        run: |_| rights(libc::SYS_acct, &[NOWHERE]),
    },
    Attempt { name: "set-clock", what: "the clock of the machine", walls: &[Seccomp, Kernel], run: set_clock },
    Attempt {
        name: "adjust-clock",
        what: "the speed of the clock",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_adjtimex, &[NOWHERE]),
    },
    Attempt {
        name: "watch-files",
        what: "notices about files of others",
        walls: &[Seccomp, Machine],
        run: |_| rights(libc::SYS_fanotify_init, &[0x200, 0]),
    },
    Attempt {
        name: "no-randomisation",
        what: "addresses that can be guessed",
        walls: &[Seccomp],
        run: |_| persona(0x4_0000),
    },
    Attempt {
        name: "executable-data",
        what: "data that can be executed",
        walls: &[Seccomp],
        run: |_| persona(0x40_0000),
    },
    Attempt { name: "old-calls", what: "calls of 32-bit programs (int 0x80)", walls: &[Seccomp], run: old_calls },
    Attempt {
        name: "x32-calls",
        what: "calls of the x32 tables",
        walls: &[Seccomp, Machine],
        run: |_| rights(0x4000_0000 + 39, &[]),
    },
    Attempt {
        name: "unknown-calls",
        what: "a call that is newer than the filter",
        walls: &[Seccomp, Kernel],
        run: unknown,
    },
    Attempt {
        name: "push-terminal-input",
        what: "input into the terminal of the server (TIOCSTI)",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_ioctl, &[0, 0x5412, NOWHERE]),
    },
    Attempt {
        name: "push-terminal-input-hidden",
        what: "the same with bits that a filter might compare",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_ioctl, &[0, 0x1_0000_5412, NOWHERE]),
    },
    Attempt {
        name: "paste-into-console",
        what: "selection and paste of the console (TIOCLINUX)",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_ioctl, &[0, 0x541c, NOWHERE]),
    },
    Attempt {
        name: "line-discipline",
        what: "a line discipline, which is a module",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_ioctl, &[0, 0x5423, NOWHERE]),
    },
    Attempt {
        name: "project-of-file",
        what: "another project, that a quota does not count",
        walls: &[Seccomp, Kernel],
        run: project,
    },
    Attempt {
        name: "real-time",
        what: "a real-time policy that starves others",
        walls: &[Seccomp, Capabilities, Kernel],
        run: real_time,
    },
    Attempt {
        name: "real-time-by-attributes",
        what: "the same by the newer call",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_sched_setattr, &[0, NOWHERE, 0]),
    },
    Attempt {
        name: "more-processors",
        what: "more processors than it was given",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_sched_setaffinity, &[0, 0, NOWHERE]),
    },
    Attempt {
        name: "higher-priority",
        what: "a higher priority",
        walls: &[Capabilities, Limits, Kernel],
        run: higher_priority,
    },
    Attempt {
        name: "quota-of-host",
        what: "the quotas of the host's file systems",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_quotactl_fd, &[usize::MAX, 0, 0, NOWHERE]),
    },
    Attempt {
        name: "quota-of-device",
        what: "the same by a device",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_quotactl, &[0, NOWHERE, 0, NOWHERE]),
    },
    Attempt {
        name: "move-pages",
        what: "pages of another process on other nodes",
        walls: &[Seccomp, Machine],
        run: |_| rights(libc::SYS_move_pages, &[0, 0, 0, 0, 0, 0]),
    },
    Attempt {
        name: "bind-memory",
        what: "memory on one node of the machine",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_mbind, &[NOWHERE, 0, 0, 0, 0, 0]),
    },
    Attempt {
        name: "directory-cookie",
        what: "paths of the profiler (lookup_dcookie)",
        walls: &[Seccomp, Kernel],
        run: |_| rights(libc::SYS_lookup_dcookie, &[0, NOWHERE, 0]),
    },
    Attempt {
        name: "swap",
        what: "swap of the machine",
        walls: &[Seccomp, Kernel],
        run: |_| rights(libc::SYS_swapoff, &[NOWHERE]),
    },
    Attempt {
        name: "flush-machine",
        what: "writing out the data of the whole machine (sync)",
        walls: &[Seccomp],
        run: |_| rights(libc::SYS_sync, &[]),
    },
    Attempt {
        name: "rename-host",
        what: "another name for the machine",
        walls: &[Seccomp, Capabilities],
        run: rename_host,
    },
    Attempt {
        name: "shared-memory",
        what: "System V memory, which no limit of a process covers",
        walls: &[Seccomp],
        run: |_| Outcome::of(kernel::call(libc::SYS_shmget, &[0, 4096, 0o1600])),
    },
    Attempt {
        name: "message-queue",
        what: "System V queues, which no limit of a process covers",
        walls: &[Seccomp],
        run: |_| Outcome::of(kernel::call(libc::SYS_msgget, &[0, 0o1600])),
    },
    Attempt {
        name: "semaphores-of-host",
        what: "System V semaphores of the host",
        walls: &[Ipc],
        run: |f| Outcome::of(kernel::call(libc::SYS_semget, &[f.semaphore_key as usize, 0, 0])),
    },
    Attempt {
        name: "huge-pages",
        what: "huge pages of the machine's pool",
        walls: &[Seccomp, Machine],
        run: huge_pages,
    },
    Attempt {
        name: "face-of-process",
        what: "what the kernel tells others about the process (PR_SET_MM)",
        walls: &[Seccomp, Capabilities, Kernel],
        run: |_| rights(libc::SYS_prctl, &[35, 13, NOWHERE, 0, 0]),
    },
    Attempt {
        name: "merge-memory",
        what: "pages that are merged with those of others",
        walls: &[Seccomp, Machine],
        run: |_| Outcome::of(kernel::call(libc::SYS_prctl, &[67, 0, 0, 0, 0])),
    },
    Attempt {
        name: "secret-memory",
        what: "memory that cannot be swapped or seen",
        walls: &[Seccomp, Machine],
        run: |_| rights(libc::SYS_memfd_secret, &[0]),
    },
    Attempt {
        name: "page-cache-of-others",
        what: "which pages of a file others use (cachestat)",
        walls: &[Seccomp, Machine],
        run: |_| rights(451, &[usize::MAX, NOWHERE, NOWHERE, 0]),
    },
    Attempt {
        name: "vsyscall-time",
        what: "the time by the old page of the kernel: it tells the time, and nothing else",
        walls: &[],
        run: vsyscall,
    },
];

fn rights(number: libc::c_long, arguments: &[usize]) -> Outcome {
    Outcome::of_rights(kernel::call(number, arguments))
}

#[cfg(target_arch = "x86_64")]
fn io_ports(_: &Facts) -> Outcome {
    let level = kernel::call(libc::SYS_iopl, &[3]);
    Outcome::of(level.or_else(|_| kernel::call(libc::SYS_ioperm, &[0x80, 1, 1])))
}

#[cfg(not(target_arch = "x86_64"))]
fn io_ports(_: &Facts) -> Outcome {
    Outcome::absent("this architecture has none")
}

#[cfg(target_arch = "x86_64")]
fn descriptor_table(_: &Facts) -> Outcome {
    rights(libc::SYS_modify_ldt, &[1, NOWHERE, 0])
}

#[cfg(not(target_arch = "x86_64"))]
fn descriptor_table(_: &Facts) -> Outcome {
    Outcome::absent("this architecture has none")
}

fn project(_: &Facts) -> Outcome {
    use std::os::fd::AsRawFd;
    let path = "/workspace/prober-project";
    let Ok(file) = std::fs::File::create(path) else { return Outcome::broken("no file in the workspace") };
    let _ = std::fs::remove_file(path);
    // struct fsxattr: flags, extent size, extents, project.
    let attributes = [0_u32, 0, 0, 4711, 0, 0, 0];
    Outcome::of(kernel::call(libc::SYS_ioctl, &[file.as_raw_fd() as usize, 0x401c_5820, kernel::address(&attributes)]))
}

/// To what it is: where it works, nothing changes.
fn set_clock(_: &Facts) -> Outcome {
    let mut now = [0_i64; 2];
    let at = now.as_mut_ptr() as usize;
    let read = kernel::call(libc::SYS_clock_gettime, &[0, at]);
    Outcome::of(read.and_then(|_| kernel::call(libc::SYS_clock_settime, &[0, at])))
}

fn persona(bits: usize) -> Outcome {
    Outcome::of(kernel::call(libc::SYS_personality, &[bits]))
}

#[cfg(target_arch = "x86_64")]
fn old_calls(_: &Facts) -> Outcome {
    // getpid of the 32-bit table is the number of writev here; either changes nothing.
    let result: i64;
    // SAFETY: the interrupt changes the register that is named, and where it is not handled ends the process.
    unsafe { std::arch::asm!("int 0x80", inlateout("rax") 20_i64 => result, options(nostack)) };
    Outcome::open_if(result > 0, format!("answered {result}"))
}

#[cfg(not(target_arch = "x86_64"))]
fn old_calls(_: &Facts) -> Outcome {
    Outcome::absent("this architecture has none")
}

/// The filter must say that it does not exist, so that C libraries fall back.
fn unknown(_: &Facts) -> Outcome {
    match kernel::call(1000, &[]) {
        Err(kernel::Errno(libc::ENOSYS)) => Outcome::blocked("ENOSYS"),
        other => Outcome::open(format!("{other:?}")),
    }
}

fn real_time(_: &Facts) -> Outcome {
    let priority = 1_i32;
    Outcome::of(kernel::call(libc::SYS_sched_setscheduler, &[0, libc::SCHED_FIFO as usize, kernel::address(&priority)]))
}

fn higher_priority(_: &Facts) -> Outcome {
    Outcome::of(kernel::call(libc::SYS_setpriority, &[libc::PRIO_PROCESS as usize, 0, -20_isize as usize]))
}

fn rename_host(_: &Facts) -> Outcome {
    Outcome::of(kernel::call(libc::SYS_sethostname, &[kernel::address(b"prober"), 6]))
}

fn huge_pages(_: &Facts) -> Outcome {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
    let read = libc::PROT_READ as usize;
    Outcome::of(kernel::call(libc::SYS_mmap, &[0, 2 << 20, read, flags as usize, usize::MAX, 0]))
}

/// The page is emulated and cannot be filtered.
#[cfg(target_arch = "x86_64")]
fn vsyscall(_: &Facts) -> Outcome {
    const TIME: usize = 0xffff_ffff_ff60_0400;
    // SAFETY: the kernel maps this page into every process, or ends a process that calls it.
    let time: extern "C" fn(*mut i64) -> i64 = unsafe { std::mem::transmute(TIME) };
    let read = kernel::fork().and_then(|pid| match pid {
        0 => kernel::leave(i32::from(time(std::ptr::null_mut()) <= 0)),
        pid => kernel::wait(pid),
    });
    Outcome::open_if(read == Ok(0), format!("{read:?}"))
}

#[cfg(not(target_arch = "x86_64"))]
fn vsyscall(_: &Facts) -> Outcome {
    Outcome::absent("this architecture has none")
}
