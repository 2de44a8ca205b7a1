//! Files of the host, and what is read-only.

use std::{
    fs::{self, OpenOptions},
    os::{fd::AsRawFd, unix::fs::symlink},
};

use crate::{Attempt, Facts, Outcome, Wall::*, kernel, kernel::Errno};

pub const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "read-shadow", what: "read the passwords of the host", walls: &[Mounts], run: read_shadow },
    Attempt {
        name: "read-by-absolute-path",
        what: "read a file of the host by its path",
        walls: &[Mounts, Landlock],
        run: |f| read(f, ""),
    },
    Attempt {
        name: "read-root-home",
        what: "list the home of root",
        walls: &[Mounts, Kernel],
        run: |_| Outcome::of_io(fs::read_dir("/root")),
    },
    Attempt {
        name: "read-by-dots-from-workspace",
        what: "climb out of the workspace by ..",
        walls: &[Mounts, Landlock],
        run: |f| read(f, "/workspace/../../../../../.."),
    },
    Attempt {
        name: "read-by-own-root",
        what: "climb out by /proc/self/root",
        walls: &[Mounts, Landlock],
        run: |f| read(f, "/proc/self/root/../../.."),
    },
    Attempt {
        name: "read-by-root-of-init",
        what: "read through /proc/1/root",
        walls: &[Init, Mounts, Landlock],
        run: |f| read(f, "/proc/1/root"),
    },
    Attempt {
        name: "read-by-working-directory",
        what: "climb out by /proc/self/cwd",
        walls: &[Mounts, Landlock],
        run: |f| read(f, "/proc/self/cwd/../../../../../.."),
    },
    Attempt {
        name: "read-by-mount",
        what: "find the host's root below some mount",
        walls: &[Mounts, Landlock],
        run: read_by_mount,
    },
    Attempt {
        name: "read-by-link",
        what: "a link in the workspace to a file of the host",
        walls: &[Mounts, Landlock],
        run: read_by_link,
    },
    Attempt {
        name: "write-usr",
        what: "create a file in /usr",
        walls: &[Mounts, Landlock, Kernel],
        run: |_| create("/usr/prober-was-here"),
    },
    Attempt {
        name: "write-etc",
        what: "create a file in /etc",
        walls: &[Mounts, Landlock, Kernel],
        run: |_| create("/etc/prober-was-here"),
    },
    Attempt {
        name: "write-root",
        what: "create a file in /",
        walls: &[Mounts, Landlock],
        run: |_| create("/prober-was-here"),
    },
    Attempt {
        name: "write-passwd",
        what: "change /etc/passwd",
        walls: &[Mounts, Landlock, Kernel],
        run: |_| open_for_writing("/etc/passwd"),
    },
    Attempt {
        name: "write-package",
        what: "put a file beside the agent's program",
        walls: &[Mounts, Landlock],
        run: |_| create("/app/prober-was-here"),
    },
    Attempt {
        name: "replace-own-program",
        what: "rename and remove the own program",
        walls: &[Mounts, Landlock],
        run: replace_own_program,
    },
    Attempt {
        name: "write-own-program",
        what: "write to /proc/self/exe",
        walls: &[Kernel],
        run: |_| open_for_writing("/proc/self/exe"),
    },
    Attempt {
        name: "link-read-only-file",
        what: "a hard link of a read-only file into the workspace",
        walls: &[Mounts, Landlock, Kernel],
        run: link_read_only_file,
    },
    Attempt {
        name: "rename-across-mounts",
        what: "move a file of the workspace over one that is read-only",
        walls: &[Mounts, Landlock, Kernel],
        run: rename_across_mounts,
    },
    Attempt {
        name: "swap-link-while-open",
        what: "swap a link below an opening, 20,000 times",
        walls: &[Mounts, Landlock],
        run: swap_link,
    },
    Attempt {
        name: "chroot-and-climb",
        what: "chroot, and climb by an open directory",
        walls: &[Seccomp, Capabilities],
        run: chroot_and_climb,
    },
    Attempt { name: "name-to-handle", what: "a handle for a file", walls: &[Seccomp], run: name_to_handle },
    Attempt {
        name: "open-by-handle",
        what: "open the root of the file system by a guessed handle",
        walls: &[Seccomp, Kernel],
        run: open_by_handle,
    },
];

/// The secret, at `prefix` and its path on the host.
pub fn read(facts: &Facts, prefix: &str) -> Outcome {
    match fs::read_to_string(format!("{prefix}{}", facts.secret_path)) {
        Ok(text) => Outcome::open_if(text.contains(&facts.secret), "read"),
        Err(error) => Outcome::blocked(Errno::of(&error).name()),
    }
}

fn read_shadow(_: &Facts) -> Outcome {
    // Without rights over the file, its existence alone shows that this is the host's /etc.
    Outcome::of_io(fs::symlink_metadata("/etc/shadow"))
}

fn read_by_mount(facts: &Facts) -> Outcome {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned);
    let usual =
        ["", "/oldroot", "/old_root", "/.old", "/put_old", "/mnt", "/newroot", "/host", "/.pivot"].map(str::to_owned);
    for place in places.chain(usual) {
        let outcome = read(facts, place.trim_end_matches('/'));
        if outcome.verdict == crate::Verdict::Open {
            return Outcome::open(format!("below {place}"));
        }
    }
    Outcome::blocked("not below any mount")
}

fn read_by_link(facts: &Facts) -> Outcome {
    let link = "/workspace/prober-link";
    let _ = fs::remove_file(link);
    if let Err(error) = symlink(&facts.secret_path, link) {
        return Outcome::broken(error.to_string());
    }
    let text = fs::read_to_string(link);
    let _ = fs::remove_file(link);
    match text {
        Ok(text) => Outcome::open_if(text.contains(&facts.secret), "read"),
        Err(error) => Outcome::blocked(Errno::of(&error).name()),
    }
}

pub fn create(path: &str) -> Outcome {
    let outcome = Outcome::of_io(OpenOptions::new().write(true).create_new(true).open(path));
    let _ = fs::remove_file(path);
    outcome
}

fn open_for_writing(path: &str) -> Outcome {
    Outcome::of_io(OpenOptions::new().append(true).open(path))
}

fn replace_own_program(_: &Facts) -> Outcome {
    let Ok(own) = std::env::current_exe() else { return Outcome::absent("no name for the own program") };
    let aside = own.with_extension("aside");
    let outcome = Outcome::of_io(fs::rename(&own, &aside));
    let _ = fs::rename(&aside, &own);
    outcome
}

fn link_read_only_file(_: &Facts) -> Outcome {
    let Ok(own) = std::env::current_exe() else { return Outcome::absent("no name for the own program") };
    let link = "/workspace/prober-hard-link";
    let outcome = Outcome::of_io(fs::hard_link(own, link));
    let _ = fs::remove_file(link);
    outcome
}

fn rename_across_mounts(_: &Facts) -> Outcome {
    let from = "/workspace/prober-moved";
    if let Err(error) = fs::write(from, "x") {
        return Outcome::broken(error.to_string());
    }
    let to = "/app/prober-moved";
    let outcome = Outcome::of_io(fs::rename(from, to));
    let _ = fs::remove_file(from);
    let _ = fs::remove_file(to);
    outcome
}

/// One process swaps a link between a plain file and the host's; the other opens it all the time.
fn swap_link(facts: &Facts) -> Outcome {
    const ROUNDS: usize = 20_000;
    let [at, plain, other] = ["/workspace/prober-swap", "/workspace/prober-plain", "/workspace/prober-other"];
    if let Err(error) = fs::write(plain, "x") {
        return Outcome::broken(error.to_string());
    }
    let child = match kernel::fork() {
        Err(errno) => return Outcome::broken(errno.name()),
        Ok(0) => loop {
            for target in [plain, &facts.secret_path] {
                let _ = fs::remove_file(other);
                let _ = symlink(target, other);
                let _ = fs::rename(other, at);
            }
        },
        Ok(pid) => pid,
    };
    let is_read = (0..ROUNDS).any(|_| fs::read_to_string(at).is_ok_and(|text| text.contains(&facts.secret)));
    kernel::end(child);
    for path in [at, plain, other] {
        let _ = fs::remove_file(path);
    }
    Outcome::open_if(is_read, "the plain file alone")
}

fn chroot_and_climb(facts: &Facts) -> Outcome {
    let root = fs::File::open("/");
    if let Err(errno) = kernel::call(libc::SYS_chroot, &[kernel::address(c"/tmp")]) {
        return Outcome::blocked(errno.name());
    }
    if let Ok(root) = root {
        let _ = kernel::call(libc::SYS_fchdir, &[root.as_raw_fd() as usize]);
    }
    let climbed = read(facts, "../../../../../../..");
    Outcome::open(format!("chroot worked; climbing: {}", climbed.detail))
}

#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    content: [u8; 128],
}

fn name_to_handle(_: &Facts) -> Outcome {
    let mut handle = Handle { bytes: 128, kind: 0, content: [0; 128] };
    let mut mount = 0_i32;
    let here = libc::AT_FDCWD as usize;
    let [handle, mount] = [&raw mut handle as usize, &raw mut mount as usize];
    Outcome::of_rights(kernel::call(libc::SYS_name_to_handle_at, &[here, kernel::address(c"/"), handle, mount, 0]))
}

fn open_by_handle(_: &Facts) -> Outcome {
    // Inode 2 is the root of an ext4, which is what the classic escape guesses.
    let mut handle = Handle { bytes: 8, kind: 1, content: [0; 128] };
    handle.content[0] = 2;
    let Ok(root) = fs::File::open("/usr") else { return Outcome::absent("no /usr") };
    let arguments = [root.as_raw_fd() as usize, &raw mut handle as usize, libc::O_RDONLY as usize];
    Outcome::of_rights(kernel::call(libc::SYS_open_by_handle_at, &arguments))
}
