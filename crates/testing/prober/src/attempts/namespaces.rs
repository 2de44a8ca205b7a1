//! New namespaces, and mounts.

use crate::{Attempt, Facts, Outcome, Wall::*, kernel, kernel::Errno};

pub const ATTEMPTS: &[Attempt] = &[
    Attempt {
        name: "new-user-namespace",
        what: "a user namespace, with all rights in it",
        walls: &[Seccomp, Root],
        run: |_| unshare(libc::CLONE_NEWUSER),
    },
    Attempt {
        name: "new-mount-namespace",
        what: "a mount namespace",
        walls: &[Seccomp, Capabilities],
        run: |_| unshare(libc::CLONE_NEWNS),
    },
    Attempt {
        name: "new-network-namespace",
        what: "a network namespace",
        walls: &[Seccomp, Capabilities],
        run: |_| unshare(libc::CLONE_NEWNET),
    },
    Attempt {
        name: "new-cgroup-namespace",
        what: "a cgroup namespace",
        walls: &[Seccomp, Capabilities],
        run: |_| unshare(libc::CLONE_NEWCGROUP),
    },
    Attempt {
        name: "new-process-namespace",
        what: "a process namespace",
        walls: &[Seccomp, Capabilities],
        run: |_| unshare(libc::CLONE_NEWPID),
    },
    Attempt {
        name: "new-time-namespace",
        what: "a time namespace",
        walls: &[Seccomp, Capabilities],
        run: |_| unshare(0x80),
    },
    Attempt {
        name: "clone-into-user-namespace",
        what: "a child in a user namespace",
        walls: &[Seccomp, Root],
        run: |_| clone_with(libc::CLONE_NEWUSER),
    },
    Attempt {
        name: "clone-into-network-namespace",
        what: "a child in a network namespace",
        walls: &[Seccomp, Capabilities],
        run: |_| clone_with(libc::CLONE_NEWNET),
    },
    Attempt { name: "clone3", what: "a child by clone3, whose flags no filter sees", walls: &[Seccomp], run: clone3 },
    Attempt { name: "enter-namespace", what: "enter a namespace", walls: &[Seccomp, Capabilities], run: enter },
    Attempt {
        name: "mount",
        what: "mount a file system",
        walls: &[Seccomp, Capabilities, Landlock, Root],
        run: |_| mount(c"tmpfs", c"/tmp", c"tmpfs", 0),
    },
    Attempt {
        name: "mount-cgroup",
        what: "mount the cgroups",
        walls: &[Seccomp, Capabilities, Landlock, Root],
        run: |_| mount(c"cgroup", c"/tmp", c"cgroup2", 0),
    },
    Attempt {
        name: "remount-root-writable",
        what: "make the root writable",
        walls: &[Seccomp, Capabilities, Landlock, Root],
        run: |_| mount(c"", c"/", c"", libc::MS_REMOUNT | libc::MS_BIND),
    },
    Attempt {
        name: "unmount-proc",
        what: "unmount what masks /proc",
        walls: &[Seccomp, Capabilities, Landlock, Root],
        run: |_| Outcome::of(kernel::call(libc::SYS_umount2, &[kernel::address(c"/proc"), libc::MNT_DETACH as usize])),
    },
    Attempt {
        name: "change-mount",
        what: "change what a mount may",
        walls: &[Seccomp, Capabilities],
        run: |_| {
            Outcome::of_rights(kernel::call(
                libc::SYS_mount_setattr,
                &[libc::AT_FDCWD as usize, kernel::address(c"/"), 0, kernel::address(&[0_u64, 0, 1 << 18, 0]), 32],
            ))
        },
    },
    Attempt {
        name: "open-tree",
        what: "a copy of a mount in the hand",
        walls: &[Seccomp, Capabilities],
        run: |_| Outcome::of(kernel::call(libc::SYS_open_tree, &[libc::AT_FDCWD as usize, kernel::address(c"/"), 1])),
    },
    Attempt {
        name: "move-mount",
        what: "move a mount",
        walls: &[Seccomp, Capabilities, Landlock],
        run: |_| {
            Outcome::of_rights(kernel::call(
                libc::SYS_move_mount,
                &[
                    libc::AT_FDCWD as usize,
                    kernel::address(c"/proc"),
                    libc::AT_FDCWD as usize,
                    kernel::address(c"/tmp"),
                    0,
                ],
            ))
        },
    },
    Attempt {
        name: "open-file-system",
        what: "a new file system in the hand",
        walls: &[Seccomp, Capabilities],
        run: |_| Outcome::of(kernel::call(libc::SYS_fsopen, &[kernel::address(c"tmpfs"), 0])),
    },
    Attempt {
        name: "pick-file-system",
        what: "a mounted file system in the hand",
        walls: &[Seccomp, Capabilities],
        run: |_| {
            Outcome::of_rights(kernel::call(libc::SYS_fspick, &[libc::AT_FDCWD as usize, kernel::address(c"/"), 0]))
        },
    },
    Attempt {
        name: "pivot-root",
        what: "another root",
        walls: &[Seccomp, Capabilities, Landlock],
        run: |_| {
            Outcome::of_rights(kernel::call(
                libc::SYS_pivot_root,
                &[kernel::address(c"/tmp"), kernel::address(c"/tmp")],
            ))
        },
    },
];

fn unshare(flags: i32) -> Outcome {
    Outcome::of(kernel::call(libc::SYS_unshare, &[flags as usize]))
}

/// As `fork`, with flags. The child leaves at once.
fn clone_with(flags: i32) -> Outcome {
    match kernel::call(libc::SYS_clone, &[(flags | libc::SIGCHLD) as usize]) {
        Ok(0) => kernel::leave(0),
        Ok(pid) => {
            let _ = kernel::wait(pid as i32);
            Outcome::open("a child was there")
        }
        Err(errno) => Outcome::blocked(errno.name()),
    }
}

fn clone3(_: &Facts) -> Outcome {
    let mut arguments = [0_u64; 11];
    arguments[4] = libc::SIGCHLD as u64;
    match kernel::call(libc::SYS_clone3, &[kernel::address(&arguments), 88]) {
        Ok(0) => kernel::leave(0),
        Ok(pid) => {
            let _ = kernel::wait(pid as i32);
            Outcome::open("a child was there")
        }
        // Anything else would let no C library fall back to the older call.
        Err(Errno(libc::ENOSYS)) => Outcome::blocked("ENOSYS"),
        Err(errno) => Outcome::broken(errno.name()),
    }
}

fn enter(_: &Facts) -> Outcome {
    use std::os::fd::AsRawFd;
    let places = ["/proc/1/ns/net", "/proc/self/ns/net", "/proc/self/ns/mnt", "/proc/self/ns/uts"];
    let mut last = Outcome::blocked("none could be opened");
    for place in places {
        let Ok(file) = std::fs::File::open(place) else { continue };
        last = Outcome::of(kernel::call(libc::SYS_setns, &[file.as_raw_fd() as usize, 0]));
        if last.verdict == crate::Verdict::Open {
            break;
        }
    }
    last
}

fn mount(source: &std::ffi::CStr, target: &std::ffi::CStr, kind: &std::ffi::CStr, flags: u64) -> Outcome {
    let [source, target, kind] = [source, target, kind].map(|text| text.as_ptr() as usize);
    let result = kernel::call(libc::SYS_mount, &[source, target, kind, flags as usize, 0]);
    if result.is_ok() && flags == 0 {
        let _ = kernel::call(libc::SYS_umount2, &[target, libc::MNT_DETACH as usize]);
    }
    Outcome::of(result)
}
