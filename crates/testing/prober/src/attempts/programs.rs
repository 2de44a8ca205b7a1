//! Programs that were not mounted: from memory, and from places for data.

use std::{
    fs::{self, File},
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::fs::PermissionsExt,
    },
};

use super::privileges::execute;
use crate::{Attempt, Outcome, Wall::*, kernel, kernel::Errno};

pub const ATTEMPTS: &[Attempt] = &[
    Attempt {
        name: "execute-from-tmp",
        what: "execute what was written to /tmp",
        walls: &[Mounts, Landlock],
        run: |_| execute_copy("/tmp/prober-copy"),
    },
    Attempt {
        name: "execute-from-shm",
        what: "execute what was written to /dev/shm",
        walls: &[Mounts, Landlock],
        run: |_| execute_copy("/dev/shm/prober-copy"),
    },
    Attempt {
        name: "map-executable-from-tmp",
        what: "map a file of /tmp as code, as the dynamic loader does",
        walls: &[Mounts],
        run: |_| map_executable("/tmp/prober-mapped"),
    },
    Attempt {
        name: "execute-memory-file",
        what: "execute a file that exists in memory only",
        walls: &[MemoryFiles],
        run: |_| execute_memory_file(0),
    },
    Attempt {
        name: "execute-memory-file-asked",
        what: "the same, asking for an executable one",
        walls: &[MemoryFiles],
        run: |_| execute_memory_file(0x10),
    },
    Attempt {
        name: "execute-interpreter-of-memory-file",
        what: "a script in memory, by its first line",
        walls: &[MemoryFiles],
        run: |_| execute_memory_script(),
    },
    Attempt {
        name: "huge-arguments",
        what: "arguments that fill the kernel's memory",
        walls: &[Kernel],
        run: |_| huge_arguments(),
    },
];

fn execute_copy(path: &str) -> Outcome {
    let copied = std::env::current_exe().and_then(|own| fs::copy(own, path));
    let copied = copied.and_then(|_| fs::set_permissions(path, fs::Permissions::from_mode(0o755)));
    let outcome = match copied {
        Ok(()) => ran(path),
        Err(error) => Outcome::broken(format!("copy: {error}")),
    };
    let _ = fs::remove_file(path);
    outcome
}

fn ran(path: &str) -> Outcome {
    match execute(path, super::RAN) {
        Ok(super::RAN_STATUS) => Outcome::open("it ran"),
        Ok(errno) => Outcome::blocked(Errno(errno).name()),
        Err(errno) => Outcome::broken(errno.name()),
    }
}

fn map_executable(path: &str) -> Outcome {
    if let Err(error) = fs::write(path, [0xc3; 4096]) {
        return Outcome::broken(error.to_string());
    }
    let outcome = match File::open(path) {
        Err(error) => Outcome::broken(error.to_string()),
        Ok(file) => {
            let code = (libc::PROT_READ | libc::PROT_EXEC) as usize;
            let arguments = [0, 4096, code, libc::MAP_PRIVATE as usize, file.as_raw_fd() as usize, 0];
            Outcome::of(kernel::call(libc::SYS_mmap, &arguments))
        }
    };
    let _ = fs::remove_file(path);
    outcome
}

fn memory_file(flags: usize) -> Result<File, Errno> {
    let descriptor = kernel::call(libc::SYS_memfd_create, &[kernel::address(c"prober"), flags])?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(descriptor as i32) })
}

fn execute_memory_file(flags: usize) -> Outcome {
    let mut file = match memory_file(flags) {
        Ok(file) => file,
        Err(errno) => return Outcome::blocked(errno.name()),
    };
    let copied = File::open("/proc/self/exe").and_then(|mut own| std::io::copy(&mut own, &mut file));
    if let Err(error) = copied {
        return Outcome::broken(error.to_string());
    }
    // Through the descriptor of a child, because a file that is open for writing is busy.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let Ok(readable) = File::open(&path) else { return Outcome::broken("cannot be opened again") };
    drop(file);
    let mode = kernel::call(libc::SYS_fchmod, &[readable.as_raw_fd() as usize, 0o755]);
    let outcome = ran(&format!("/proc/self/fd/{}", readable.as_raw_fd()));
    match mode {
        Err(errno) if outcome.verdict == crate::Verdict::Blocked => {
            Outcome::blocked(format!("fchmod: {}", errno.name()))
        }
        _ => outcome,
    }
}

fn execute_memory_script() -> Outcome {
    let mut file = match memory_file(0) {
        Ok(file) => file,
        Err(errno) => return Outcome::blocked(errno.name()),
    };
    let script = format!("#!/proc/self/exe {}\n", super::RAN);
    if let Err(error) = std::io::Write::write_all(&mut file, script.as_bytes()) {
        return Outcome::broken(error.to_string());
    }
    let Ok(readable) = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())) else {
        return Outcome::broken("cannot be opened again");
    };
    drop(file);
    ran(&format!("/proc/self/fd/{}", readable.as_raw_fd()))
}

fn huge_arguments() -> Outcome {
    let words: Vec<Vec<u8>> = (0..64).map(|_| vec![b'x'; 120 * 1024]).collect();
    let words: Vec<_> = words.into_iter().filter_map(|word| std::ffi::CString::new(word).ok()).collect();
    let pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
    let path = c"/proc/self/exe";
    let result = kernel::call(libc::SYS_execve, &[kernel::address(path), pointers.as_ptr() as usize, 0]);
    Outcome::of(result)
}
