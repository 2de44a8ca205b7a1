//! More rights than the program began with.

use std::{ffi::CString, fs, os::unix::fs::PermissionsExt};

use crate::{Attempt, Facts, Outcome, Wall::*, kernel, kernel::Errno};

pub const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "become-root", what: "setuid(0), setgid(0) and their kin", walls: &[Kernel], run: become_root },
    Attempt {
        name: "other-groups",
        what: "take other groups",
        walls: &[Capabilities, Kernel],
        run: |_| Outcome::of(kernel::call(libc::SYS_setgroups, &[1, kernel::address(&[0_u32])])),
    },
    Attempt {
        name: "execute-setuid-program",
        what: "execute a program of root with the setuid bit",
        walls: &[Kernel],
        run: execute_setuid,
    },
    Attempt {
        name: "make-setuid-program",
        what: "give the own program the setuid bit and execute it",
        walls: &[Kernel],
        run: make_setuid,
    },
    Attempt {
        name: "file-capabilities",
        what: "give the own program capabilities and execute it",
        walls: &[Capabilities],
        run: file_capabilities,
    },
    Attempt { name: "raise-capabilities", what: "raise capabilities", walls: &[Capabilities], run: raise_capabilities },
    Attempt {
        name: "own-capabilities",
        what: "hold any capability",
        walls: &[Capabilities],
        run: |_| capabilities("self"),
    },
    Attempt {
        name: "capabilities-of-init",
        what: "find a first process with capabilities, to be tricked",
        walls: &[Capabilities],
        run: |_| capabilities("1"),
    },
    Attempt {
        name: "ambient-capability",
        what: "keep a capability over an execution",
        walls: &[Capabilities],
        run: |_| {
            Outcome::of(kernel::call(
                libc::SYS_prctl,
                &[libc::PR_CAP_AMBIENT as usize, libc::PR_CAP_AMBIENT_RAISE as usize, 21, 0, 0],
            ))
        },
    },
    Attempt {
        name: "clear-no-new-privileges",
        what: "take no_new_privs back",
        walls: &[Kernel],
        run: |_| Outcome::of(kernel::call(libc::SYS_prctl, &[libc::PR_SET_NO_NEW_PRIVS as usize, 0, 0, 0, 0])),
    },
    Attempt {
        name: "without-no-new-privileges",
        what: "run without no_new_privs",
        walls: &[Kernel],
        run: |_| status("NoNewPrivs:\t1"),
    },
    Attempt {
        name: "without-filter",
        what: "run without a filter of system calls",
        walls: &[Seccomp],
        run: |_| status("Seccomp:\t2"),
    },
    Attempt {
        name: "loosen-filter",
        what: "leave the filter by the older mode or an unload",
        walls: &[Kernel],
        run: loosen_filter,
    },
    Attempt {
        name: "user-of-the-host",
        what: "be root inside",
        walls: &[Kernel],
        run: |_| status("Uid:\t1000\t1000\t1000\t1000"),
    },
    Attempt {
        name: "securebits",
        what: "let root of a namespace have rights again",
        walls: &[Capabilities],
        run: |_| Outcome::of(kernel::call(libc::SYS_prctl, &[libc::PR_SET_SECUREBITS as usize, 0, 0, 0, 0])),
    },
];

fn status_of(process: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default()
}

/// Blocked if the line is there.
fn status(line: &str) -> Outcome {
    let text = status_of("self");
    let key = line.split('\t').next().unwrap_or_default();
    let found = text.lines().find(|text| text.starts_with(key));
    Outcome::open_if(found != Some(line), format!("{found:?}"))
}

fn capabilities(process: &str) -> Outcome {
    let text = status_of(process);
    let sets: Vec<&str> = text.lines().filter(|line| line.starts_with("Cap")).collect();
    if sets.is_empty() {
        return Outcome::blocked("not shown");
    }
    let held = sets.iter().find(|line| !line.ends_with("\t0000000000000000"));
    Outcome::open_if(held.is_some(), held.unwrap_or(&"none").to_string())
}

pub fn has_more_rights() -> bool {
    // SAFETY: these calls have no arguments.
    let [effective, real, group, own] = unsafe { [libc::geteuid(), libc::getuid(), libc::getegid(), libc::getgid()] };
    effective != real || group != own || effective == 0 || capabilities("self").verdict == crate::Verdict::Open
}

fn become_root(_: &Facts) -> Outcome {
    let calls = [
        (libc::SYS_setuid, [0; 3]),
        (libc::SYS_setreuid, [0; 3]),
        (libc::SYS_setresuid, [0; 3]),
        (libc::SYS_setgid, [0; 3]),
        (libc::SYS_setresgid, [0; 3]),
    ];
    let opened = calls.iter().find(|(number, arguments)| kernel::call(*number, arguments).is_ok());
    Outcome::open_if(opened.is_some(), format!("{opened:?}"))
}

/// Runs a program with one argument and returns its exit status, or why it could not run.
pub fn execute(path: &str, argument: &str) -> Result<i32, Errno> {
    let [path, argument] = [path, argument].map(|text| CString::new(text).unwrap_or_default());
    match kernel::fork()? {
        0 => {
            let words = [path.as_ptr(), argument.as_ptr(), std::ptr::null()];
            let none = [std::ptr::null::<libc::c_char>()];
            // SAFETY: both arrays end with a null pointer and live through the call.
            unsafe { libc::execve(path.as_ptr(), words.as_ptr(), none.as_ptr()) };
            kernel::leave(Errno::last().0.min(40))
        }
        pid => {
            let status = kernel::wait(pid)?;
            match libc::WIFEXITED(status) {
                true => Ok(libc::WEXITSTATUS(status)),
                false => Err(Errno(libc::ECANCELED)),
            }
        }
    }
}

fn rights_of(path: &str) -> Outcome {
    match execute(path, super::RIGHTS) {
        Ok(super::MORE_RIGHTS_STATUS) => Outcome::open("it has more rights"),
        Ok(0) => Outcome::blocked("it runs without them"),
        Ok(errno) => Outcome::blocked(Errno(errno).name()),
        Err(errno) => Outcome::broken(errno.name()),
    }
}

fn execute_setuid(facts: &Facts) -> Outcome {
    match &facts.raised_program {
        Some(path) => rights_of(path),
        None => Outcome::absent("only root can make such a program"),
    }
}

fn own_copy(path: &str) -> Result<(), Outcome> {
    let copied = std::env::current_exe().and_then(|own| fs::copy(own, path));
    copied.map(drop).map_err(|error| Outcome::broken(format!("copy: {error}")))
}

fn make_setuid(_: &Facts) -> Outcome {
    let path = "/workspace/prober-setuid";
    if let Err(outcome) = own_copy(path) {
        return outcome;
    }
    let outcome = match fs::set_permissions(path, fs::Permissions::from_mode(0o6755)) {
        Ok(()) => rights_of(path),
        Err(error) => Outcome::blocked(error.to_string()),
    };
    let _ = fs::remove_file(path);
    outcome
}

fn file_capabilities(_: &Facts) -> Outcome {
    let path = "/workspace/prober-capable";
    if let Err(outcome) = own_copy(path) {
        return outcome;
    }
    // Version 2, effective: all of them.
    let value: [u32; 5] = [0x0200_0001, u32::MAX, 0, u32::MAX, 0];
    let [name, text] = [c"security.capability", c"/workspace/prober-capable"].map(|text| text.as_ptr() as usize);
    let outcome = match kernel::call(libc::SYS_setxattr, &[text, name, kernel::address(&value), 20, 0]) {
        Ok(_) => rights_of(path),
        Err(errno) => Outcome::blocked(errno.name()),
    };
    let _ = fs::remove_file(path);
    outcome
}

fn raise_capabilities(_: &Facts) -> Outcome {
    let header: [u32; 2] = [0x2008_0522, 0];
    let all = [u32::MAX; 6];
    let one = [1_u32 << 21, 1 << 21, 0, 0, 0, 0];
    let results =
        [all, one].map(|sets| kernel::call(libc::SYS_capset, &[kernel::address(&header), kernel::address(&sets)]));
    Outcome::of(results[0].or(results[1]))
}

fn loosen_filter(_: &Facts) -> Outcome {
    // Mode 0 is "none"; there is no operation that unloads.
    let mode = kernel::call(libc::SYS_prctl, &[libc::PR_SET_SECCOMP as usize, 0, 0, 0, 0]);
    let operation = kernel::call(libc::SYS_seccomp, &[99, 0, 0]);
    Outcome::of(mode.or(operation))
}
