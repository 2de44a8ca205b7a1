//! More than the limits give. What cgroups and quotas limit is tried where they are.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::fd::AsRawFd,
};

use crate::{Attempt, Facts, Outcome, Wall::*, kernel, kernel::Errno};

pub const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "descriptor-bomb", what: "descriptors without end", walls: &[Limits], run: descriptor_bomb },
    Attempt { name: "process-bomb", what: "processes without end", walls: &[Limits], run: |f| process_bomb(f, false) },
    Attempt {
        name: "zombie-bomb",
        what: "ended processes that nobody waits for",
        walls: &[Limits],
        run: |f| process_bomb(f, true),
    },
    Attempt { name: "thread-bomb", what: "threads without end", walls: &[Limits], run: thread_bomb },
    Attempt {
        name: "big-file",
        what: "one file that is larger than allowed",
        walls: &[Limits],
        run: |f| big_file(f.file_bytes_max + 1),
    },
    Attempt {
        name: "sparse-file",
        what: "a sparse file of all bytes that a number can hold",
        walls: &[Limits],
        run: |_| big_file(i64::MAX as u64),
    },
    Attempt {
        name: "fill-tmp",
        what: "fill /tmp beyond its size",
        walls: &[Mounts],
        run: |f| fill("/tmp/prober-fill", f.tmp_bytes_max, 2 * f.tmp_bytes_max),
    },
    Attempt {
        name: "fill-tmp-with-names",
        what: "more files in /tmp than allowed",
        walls: &[Mounts],
        run: |f| names("/tmp/prober-names", f.tmp_inodes_max),
    },
    Attempt { name: "raise-limits", what: "raise limits", walls: &[Limits], run: raise_limits },
    Attempt { name: "core-dump", what: "leave a dump of memory behind", walls: &[Limits], run: core_dump },
    Attempt { name: "lock-memory", what: "memory that cannot be swapped", walls: &[Limits, Machine], run: lock_memory },
    Attempt { name: "posix-queues", what: "POSIX queues without end", walls: &[Kernel], run: posix_queues },
    Attempt {
        name: "pipe-buffers",
        what: "memory in the buffers of pipes",
        walls: &[Kernel, Limits],
        run: pipe_buffers,
    },
    Attempt { name: "timer-bomb", what: "timers without end", walls: &[Limits], run: timer_bomb },
    Attempt {
        name: "descriptors-in-flight",
        what: "descriptors in messages that nobody receives",
        walls: &[Limits],
        run: descriptors_in_flight,
    },
    Attempt {
        name: "fill-workspace",
        what: "fill the workspace beyond its quota",
        walls: &[Quota],
        run: fill_workspace,
    },
    Attempt {
        name: "fill-workspace-with-names",
        what: "more files in the workspace than its quota",
        walls: &[Quota],
        run: |f| names("/workspace/prober-names", f.workspace_files_max),
    },
    Attempt {
        name: "memory-bomb",
        what: "more memory than all of the sandbox may have",
        walls: &[Cgroup],
        run: memory_bomb,
    },
    Attempt {
        name: "memory-in-files",
        what: "the same in files that exist in memory only",
        walls: &[Cgroup, Limits],
        run: memory_in_files,
    },
];

fn fill_workspace(facts: &Facts) -> Outcome {
    fill("/workspace/prober-fill", facts.workspace_bytes_max, 2 * facts.workspace_bytes_max)
}

/// Touched page by page: what is only reserved costs nothing.
fn memory_bomb(facts: &Facts) -> Outcome {
    const BLOCK: usize = 1 << 20;
    let Some(limit) = facts.memory_bytes_max else { return Outcome::absent("no cgroup bounds memory here") };
    let mut held = Vec::new();
    while (held.len() * BLOCK) as u64 <= 2 * limit {
        held.push(vec![held.len() as u8 | 1; BLOCK]);
    }
    Outcome::open(format!("{} MiB", std::hint::black_box(&held).len()))
}

/// Files of a temporary file system are memory too.
fn memory_in_files(facts: &Facts) -> Outcome {
    let Some(limit) = facts.memory_bytes_max else { return Outcome::absent("no cgroup bounds memory here") };
    let held: Vec<_> = (0..4)
        .filter_map(|_| {
            let file = kernel::call(libc::SYS_memfd_create, &[kernel::address(c"bomb"), 8]).ok()?;
            for at in 0..limit as usize / 2 / 4096 {
                kernel::call(libc::SYS_pwrite64, &[file, kernel::address(b"x"), 1, at * 4096]).ok()?;
            }
            Some(file)
        })
        .collect();
    Outcome::open_if(held.len() == 4, format!("{} files of {} bytes", held.len(), limit / 2))
}

/// Writes files of a few MiB until refused; open if `much` could be written.
pub fn fill(prefix: &str, limit: u64, much: u64) -> Outcome {
    const FILE_BYTES: u64 = 4 << 20;
    let block = vec![1; 1 << 16];
    let (mut written, mut refused, mut paths) = (0, None, Vec::new());
    while written < much && refused.is_none() {
        if written >= FILE_BYTES * paths.len() as u64 {
            paths.push(format!("{prefix}-{}-{}", std::process::id(), paths.len()));
        }
        let path = paths.last().map_or(prefix, String::as_str);
        let file = OpenOptions::new().create(true).append(true).open(path);
        match file.and_then(|mut file| file.write(&block)) {
            Ok(count) => written += count as u64,
            Err(error) => refused = Some(Errno::of(&error)),
        }
    }
    paths.iter().for_each(|path| drop(fs::remove_file(path)));
    match refused {
        Some(errno) if written == 0 => Outcome::broken(errno.name()),
        Some(errno) if written <= limit => Outcome::blocked(format!("{} after {written} bytes", errno.name())),
        _ => Outcome::open(format!("{written} bytes")),
    }
}

fn counted(count: u64, limit: u64, refused: Option<Errno>) -> Outcome {
    let detail = format!("{count}, then {}", refused.map_or_else(|| "no refusal".to_owned(), Errno::name));
    Outcome::open_if(count > limit || refused.is_none(), detail)
}

fn descriptor_bomb(facts: &Facts) -> Outcome {
    let mut held = Vec::new();
    let refused = (0..4 * facts.open_files_max).find_map(|_| match File::open("/dev/null") {
        Ok(file) => {
            held.push(file);
            None
        }
        Err(error) => Some(Errno::of(&error)),
    });
    let count = held.len() as u64;
    // Two of them, so that the answer can be sent.
    held.truncate(held.len().saturating_sub(2));
    counted(count, facts.open_files_max, refused)
}

fn process_bomb(facts: &Facts, they_end: bool) -> Outcome {
    let mut children = Vec::new();
    let refused = (0..2 * facts.processes_max).find_map(|_| {
        let child = match they_end {
            false => kernel::victim(),
            true => kernel::fork().inspect(|pid| {
                if *pid == 0 {
                    kernel::leave(0)
                }
            }),
        };
        match child {
            Ok(pid) => {
                children.push(pid);
                None
            }
            Err(errno) => Some(errno),
        }
    });
    children.iter().for_each(|pid| kernel::end(*pid));
    counted(children.len() as u64, facts.processes_max, refused)
}

fn thread_bomb(facts: &Facts) -> Outcome {
    let mut count = 0;
    let refused = (0..2 * facts.processes_max).find_map(|_| {
        let thread = std::thread::Builder::new().stack_size(1 << 16).spawn(|| {
            loop {
                std::thread::park();
            }
        });
        match thread {
            Ok(_) => {
                count += 1;
                None
            }
            Err(error) => Some(Errno::of(&error)),
        }
    });
    counted(count, facts.processes_max, refused)
}

fn big_file(bytes: u64) -> Outcome {
    let path = "/workspace/prober-big";
    let Ok(file) = File::create(path) else { return Outcome::broken("no file in the workspace") };
    let _ = fs::remove_file(path);
    let result = kernel::call(libc::SYS_ftruncate, &[file.as_raw_fd() as usize, bytes as usize]);
    // Written at the end, not only announced.
    let result = result.and_then(|_| {
        kernel::call(libc::SYS_pwrite64, &[file.as_raw_fd() as usize, kernel::address(b"x"), 1, bytes as usize - 1])
    });
    Outcome::of(result)
}

fn names(directory: &str, limit: u64) -> Outcome {
    if let Err(error) = fs::create_dir(directory) {
        return Outcome::broken(error.to_string());
    }
    let mut count = 0;
    let refused = (0..2 * limit).find_map(|number| {
        match OpenOptions::new().write(true).create_new(true).open(format!("{directory}/{number}")) {
            Ok(_) => {
                count += 1;
                None
            }
            Err(error) => Some(Errno::of(&error)),
        }
    });
    let _ = fs::remove_dir_all(directory);
    counted(count, limit, refused)
}

fn raise_limits(facts: &Facts) -> Outcome {
    let higher = |value: u64| libc::rlimit { rlim_cur: value + 1, rlim_max: value + 1 };
    let limits = [
        (libc::RLIMIT_NOFILE, facts.open_files_max),
        (libc::RLIMIT_FSIZE, facts.file_bytes_max),
        (libc::RLIMIT_NPROC, facts.processes_max),
    ];
    let raised = limits.iter().find(|(resource, value)| {
        let limit = higher(*value);
        kernel::call(libc::SYS_prlimit64, &[0, *resource as usize, kernel::address(&limit), 0]).is_ok()
    });
    Outcome::open_if(raised.is_some(), format!("{raised:?}"))
}

fn core_dump(_: &Facts) -> Outcome {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let _ = kernel::call(libc::SYS_prlimit64, &[0, libc::RLIMIT_CORE as usize, 0, &raw mut limit as usize]);
    limit.rlim_cur = limit.rlim_max;
    let _ = kernel::call(libc::SYS_prlimit64, &[0, libc::RLIMIT_CORE as usize, kernel::address(&limit), 0]);
    let _ = std::env::set_current_dir("/workspace");
    let status = kernel::fork().and_then(|pid| match pid {
        0 => std::process::abort(),
        pid => kernel::wait(pid),
    });
    match status {
        Ok(status) => Outcome::open_if(libc::WCOREDUMP(status), format!("limit {}", limit.rlim_max)),
        Err(errno) => Outcome::broken(errno.name()),
    }
}

fn lock_memory(_: &Facts) -> Outcome {
    const MUCH: usize = 64 << 20;
    let memory = vec![1_u8; MUCH];
    Outcome::of(kernel::call(libc::SYS_mlock, &[kernel::address(memory.as_slice()), MUCH]))
}

/// Each as large as allowed; the kernel counts them together for a user.
fn posix_queues(_: &Facts) -> Outcome {
    const MUCH: u64 = 256;
    let mut names = Vec::new();
    let attributes = [0_i64, 10, 8192, 0, 0, 0, 0, 0];
    let refused = (0..MUCH).find_map(|number| {
        let name = std::ffi::CString::new(format!("prober-{number}")).unwrap_or_default();
        let flags = (libc::O_CREAT | libc::O_RDWR) as usize;
        let made = kernel::call(
            libc::SYS_mq_open,
            &[kernel::address(name.as_c_str()), flags, 0o600, kernel::address(&attributes)],
        );
        made.map(|_| names.push(name)).err()
    });
    for name in &names {
        let _ = kernel::call(libc::SYS_mq_unlink, &[kernel::address(name.as_c_str())]);
    }
    counted(names.len() as u64, 64, refused)
}

fn pipe_buffers(facts: &Facts) -> Outcome {
    const BIG: usize = 1 << 20;
    let (mut bytes, mut count) = (0, 0);
    for _ in 0..facts.open_files_max {
        let mut ends = [0_i32; 2];
        if kernel::call(libc::SYS_pipe2, &[ends.as_mut_ptr() as usize, 0]).is_err() {
            break;
        }
        count += 1;
        let size = kernel::call(libc::SYS_fcntl, &[ends[0] as usize, libc::F_SETPIPE_SZ as usize, BIG]);
        bytes += size.unwrap_or(1 << 16);
    }
    // Room for the answer: the kernel closes all others with this process.
    for descriptor in 3..6 {
        let _ = kernel::call(libc::SYS_lseek, &[descriptor, 0, 0]);
    }
    Outcome::open_if(bytes > 160 << 20, format!("{bytes} bytes in {count} pipes"))
}

fn timer_bomb(_: &Facts) -> Outcome {
    const MUCH: u64 = 200_000;
    let mut timer = 0_i32;
    let at = &raw mut timer as usize;
    let mut count = 0;
    let refused = (0..MUCH).find_map(|_| kernel::call(libc::SYS_timer_create, &[1, 0, at]).map(|_| count += 1).err());
    counted(count, 8192, refused)
}

/// A message that carries its own socket holds it open without a descriptor in any table.
fn descriptors_in_flight(facts: &Facts) -> Outcome {
    #[repr(C, align(8))]
    struct Control {
        length: usize,
        level: i32,
        kind: i32,
        descriptors: [i32; 16],
    }
    let data = libc::iovec { iov_base: kernel::address(b"x") as *mut libc::c_void, iov_len: 1 };
    let mut count = 0;
    let refused = (0..facts.open_files_max).find_map(|_| {
        let mut ends = [0_i32; 2];
        let kinds = [libc::AF_UNIX as usize, libc::SOCK_DGRAM as usize | libc::SOCK_NONBLOCK as usize, 0];
        if let Err(errno) =
            kernel::call(libc::SYS_socketpair, &[kinds[0], kinds[1], kinds[2], ends.as_mut_ptr() as usize])
        {
            return Some(errno);
        }
        let control =
            Control { length: 16 + 64, level: libc::SOL_SOCKET, kind: libc::SCM_RIGHTS, descriptors: [ends[0]; 16] };
        // SAFETY: the structure is plain data, for which zero is a valid value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = (&raw const data).cast_mut();
        message.msg_iovlen = 1;
        message.msg_control = (&raw const control).cast_mut().cast();
        message.msg_controllen = size_of::<Control>();
        let mut refused = None;
        // A socket takes a few messages before it is full.
        for _ in 0..8 {
            match kernel::call(libc::SYS_sendmsg, &[ends[1] as usize, kernel::address(&message), 0]) {
                Ok(_) => count += 16,
                Err(errno) => {
                    refused = Some(errno);
                    break;
                }
            }
        }
        for end in ends {
            let _ = kernel::call(libc::SYS_close, &[end as usize]);
        }
        refused.filter(|errno| errno.0 == libc::ETOOMANYREFS)
    });
    counted(count, 2 * facts.open_files_max, refused)
}
