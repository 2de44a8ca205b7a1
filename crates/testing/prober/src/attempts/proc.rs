//! What `/proc` and `/sys` tell and change.

use std::{
    fs::{self, OpenOptions},
    os::{fd::AsRawFd, unix::fs::FileExt},
};

use crate::{Attempt, Facts, Outcome, Wall::*, kernel};

pub const ATTEMPTS: &[Attempt] = &[
    Attempt {
        name: "count-foreign-processes",
        what: "see processes of the host",
        walls: &[Processes],
        run: count_foreign,
    },
    Attempt {
        name: "environment-of-init",
        what: "read the environment of the first process, or find anything in it",
        walls: &[Init],
        run: environment_of_init,
    },
    Attempt {
        name: "memory-of-init",
        what: "open the memory of the first process",
        walls: &[Init],
        run: |_| write("/proc/1/mem"),
    },
    Attempt {
        name: "descriptors-of-init",
        what: "list and use descriptors of the first process",
        walls: &[Init],
        run: |_| Outcome::of_io(fs::read_dir("/proc/1/fd").and_then(|mut list| list.next().transpose())),
    },
    Attempt {
        name: "write-through-own-memory",
        what: "write to a read-only file through the memory that it is mapped into",
        walls: &[Kernel],
        run: write_through_memory,
    },
    Attempt {
        name: "core-pattern",
        what: "let the kernel start a program of ours on a crash",
        walls: &[Proc, Kernel],
        run: |_| write("/proc/sys/kernel/core_pattern"),
    },
    Attempt {
        name: "modprobe-path",
        what: "let the kernel start a program of ours for a module",
        walls: &[Proc, Kernel],
        run: |_| write("/proc/sys/kernel/modprobe"),
    },
    Attempt {
        name: "sysrq",
        what: "open the trigger of the kernel's emergency keys",
        walls: &[Proc, Kernel],
        run: |_| write("/proc/sysrq-trigger"),
    },
    Attempt {
        name: "read-kcore",
        what: "read the memory of the kernel",
        walls: &[Proc, Kernel],
        run: |_| read("/proc/kcore"),
    },
    Attempt { name: "read-kallsyms", what: "read addresses of the kernel", walls: &[Proc, Kernel], run: kallsyms },
    Attempt {
        name: "read-keys",
        what: "read keys of the kernel",
        walls: &[Proc, Machine],
        run: |_| read("/proc/keys"),
    },
    Attempt {
        name: "read-timer-list",
        what: "read the timers of all processes",
        walls: &[Proc, Kernel],
        run: |_| read("/proc/timer_list"),
    },
    Attempt {
        name: "read-config",
        what: "read how the kernel was built",
        walls: &[Proc],
        run: |_| read("/proc/config.gz"),
    },
    Attempt {
        name: "read-host-memory",
        what: "read how much memory the host has",
        walls: &[Proc],
        run: |_| read("/proc/meminfo"),
    },
    Attempt {
        name: "read-boot-id",
        what: "read the identity of this boot",
        walls: &[Proc],
        run: |_| read("/proc/sys/kernel/random/boot_id"),
    },
    Attempt {
        name: "read-uptime",
        what: "read since when the host runs",
        walls: &[Proc],
        run: |_| read("/proc/uptime"),
    },
    Attempt {
        name: "paths-in-mountinfo",
        what: "read paths of the host in the list of mounts",
        walls: &[Root],
        run: mountinfo,
    },
    Attempt {
        name: "spare-own-memory",
        what: "become the last one that is killed for memory",
        walls: &[Kernel],
        run: oom_score,
    },
    Attempt {
        name: "rewrite-user-map",
        what: "map more users",
        walls: &[Kernel],
        run: |_| Outcome::of_io(fs::write("/proc/self/uid_map", "0 0 1")),
    },
    Attempt {
        name: "write-sysctl",
        what: "change a setting of the kernel",
        walls: &[Proc, Kernel],
        run: |_| write("/proc/sys/kernel/hostname"),
    },
    Attempt {
        name: "write-sysctl-of-network",
        what: "change a setting of the network",
        walls: &[Proc, Kernel],
        run: |_| write("/proc/sys/net/ipv4/ip_forward"),
    },
    Attempt {
        name: "register-interpreter",
        what: "register an interpreter (binfmt_misc)",
        walls: &[Proc, Kernel],
        run: |_| write("/proc/sys/fs/binfmt_misc/register"),
    },
    Attempt {
        name: "open-sys",
        what: "see /sys",
        walls: &[Mounts],
        run: |_| Outcome::of_io(fs::read_dir("/sys/kernel")),
    },
    Attempt {
        name: "cgroup-of-host",
        what: "move itself to another cgroup",
        walls: &[Mounts, Kernel],
        run: cgroup_procs,
    },
    Attempt {
        name: "cgroup-release-agent",
        what: "let the kernel start a program when a cgroup empties",
        walls: &[Mounts, Kernel],
        run: release_agent,
    },
];

fn read(path: &str) -> Outcome {
    use std::io::Read;
    let mut first = [0; 64];
    match fs::File::open(path).and_then(|mut file| file.read(&mut first)) {
        // What is masked is there, and holds nothing.
        Ok(0) => Outcome::blocked("empty"),
        read => Outcome::of_io(read),
    }
}

/// Opened and not written: what would be harmed is the host.
fn write(path: &str) -> Outcome {
    Outcome::of_io(OpenOptions::new().write(true).open(path))
}

/// Own processes are the init, the prober and its children: none has another parent than one of them.
fn count_foreign(_: &Facts) -> Outcome {
    let Ok(list) = fs::read_dir("/proc") else { return Outcome::blocked("no /proc") };
    let pids: Vec<u32> = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    // Init, prober, this attempt, and a few that are ending.
    Outcome::open_if(pids.len() > 8, format!("{} processes", pids.len()))
}

fn environment_of_init(_: &Facts) -> Outcome {
    match fs::read("/proc/1/environ") {
        Ok(bytes) => Outcome::open_if(true, format!("{} bytes", bytes.len())),
        Err(error) => Outcome::blocked(error.to_string()),
    }
}

/// The kernel lets a process write its own read-only memory there; what is shared with a file must stay closed.
fn write_through_memory(_: &Facts) -> Outcome {
    let Ok(file) = fs::File::open("/usr/bin/env") else { return Outcome::absent("no /usr/bin/env") };
    let [read, shared] = [libc::PROT_READ as usize, libc::MAP_SHARED as usize];
    let mapped = kernel::call(libc::SYS_mmap, &[0, 4096, read, shared, file.as_raw_fd() as usize, 0]);
    let memory = OpenOptions::new().read(true).write(true).open("/proc/self/mem");
    match (mapped, memory) {
        (Ok(at), Ok(memory)) => Outcome::of_io(memory.write_at(b"\x7fELF", at as u64)),
        (Err(errno), _) => Outcome::broken(errno.name()),
        (_, Err(error)) => Outcome::blocked(error.to_string()),
    }
}

fn kallsyms(_: &Facts) -> Outcome {
    match fs::read_to_string("/proc/kallsyms") {
        Ok(text) => {
            let shown = text.lines().take(100).any(|line| !line.starts_with("0000000000000000"));
            Outcome::open_if(shown, "the file is there")
        }
        Err(error) => Outcome::blocked(error.to_string()),
    }
}

fn mountinfo(facts: &Facts) -> Outcome {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found = text.lines().find(|line| line.contains(&facts.host_directory));
    Outcome::open_if(found.is_some(), found.unwrap_or("none"))
}

fn oom_score(_: &Facts) -> Outcome {
    Outcome::of_io(fs::write("/proc/self/oom_score_adj", "-1000"))
}

fn cgroup_procs(_: &Facts) -> Outcome {
    let places =
        ["/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs"];
    let opened = places.into_iter().find(|path| OpenOptions::new().write(true).open(path).is_ok());
    Outcome::open_if(opened.is_some(), format!("{opened:?}"))
}

fn release_agent(_: &Facts) -> Outcome {
    let places = ["/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/rdma/release_agent"];
    let opened = places.into_iter().find(|path| OpenOptions::new().write(true).open(path).is_ok());
    Outcome::open_if(opened.is_some(), format!("{opened:?}"))
}
