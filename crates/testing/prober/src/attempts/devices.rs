//! Devices that lead to memory, disks and other users.

use std::fs::{self, OpenOptions};

use crate::{Attempt, Facts, Outcome, Wall::*, kernel};

pub const ATTEMPTS: &[Attempt] = &[
    Attempt {
        name: "make-block-device",
        what: "make a block device",
        walls: &[Seccomp, Landlock, Kernel],
        run: |_| make(libc::S_IFBLK),
    },
    Attempt {
        name: "make-memory-device",
        what: "make the device of all memory",
        walls: &[Seccomp, Landlock, Kernel],
        run: |_| make(libc::S_IFCHR),
    },
    Attempt { name: "open-mem", what: "open /dev/mem", walls: &[Mounts, Kernel], run: |_| open("/dev/mem") },
    Attempt { name: "open-kvm", what: "open /dev/kvm", walls: &[Mounts, Landlock, Machine], run: |_| open("/dev/kvm") },
    Attempt {
        name: "open-fuse",
        what: "open /dev/fuse",
        walls: &[Mounts, Landlock, Machine],
        run: |_| open("/dev/fuse"),
    },
    Attempt { name: "open-disk", what: "open a disk", walls: &[Mounts, Kernel], run: open_disk },
    Attempt {
        name: "open-kmsg",
        what: "open the log of the kernel",
        walls: &[Mounts, Kernel],
        run: |_| open("/dev/kmsg"),
    },
    Attempt {
        name: "open-ptmx",
        what: "make a terminal of the host",
        walls: &[Mounts, Landlock],
        run: |_| open("/dev/ptmx"),
    },
    Attempt {
        name: "open-terminal",
        what: "open the terminal of the server",
        walls: &[Mounts, Kernel],
        run: |_| open("/dev/tty"),
    },
    Attempt {
        name: "open-loop-control",
        what: "make a loop device",
        walls: &[Mounts, Kernel],
        run: |_| open("/dev/loop-control"),
    },
    Attempt {
        name: "open-tun",
        what: "make a network interface",
        walls: &[Mounts, Landlock, Machine],
        run: |_| open("/dev/net/tun"),
    },
    Attempt {
        name: "open-vhost",
        what: "open /dev/vhost-net",
        walls: &[Mounts, Landlock, Machine],
        run: |_| open("/dev/vhost-net"),
    },
    Attempt {
        name: "write-into-dev",
        what: "put a file into /dev",
        walls: &[Mounts, Landlock, Kernel],
        run: |_| super::files::create("/dev/prober"),
    },
    Attempt { name: "overfill-shm", what: "fill /dev/shm beyond its size", walls: &[Mounts], run: overfill_shm },
];

fn make(kind: u32) -> Outcome {
    let path = c"/workspace/prober-device";
    let memory = libc::makedev(1, 1) as usize;
    let arguments = [libc::AT_FDCWD as usize, kernel::address(path), (kind | 0o600) as usize, memory];
    let made = kernel::call(libc::SYS_mknodat, &arguments);
    let _ = fs::remove_file("/workspace/prober-device");
    Outcome::of(made)
}

fn open(path: &str) -> Outcome {
    Outcome::of_io(OpenOptions::new().read(true).write(true).open(path))
}

fn open_disk(_: &Facts) -> Outcome {
    let disks = ["/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/xvda", "/dev/loop0", "/dev/dm-0"];
    let opened = disks.into_iter().find(|path| OpenOptions::new().read(true).open(path).is_ok());
    Outcome::open_if(opened.is_some(), format!("{opened:?}"))
}

fn overfill_shm(facts: &Facts) -> Outcome {
    super::resources::fill("/dev/shm/prober", facts.shm_bytes_max, 2 * facts.shm_bytes_max)
}
