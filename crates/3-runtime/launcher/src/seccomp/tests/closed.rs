//! Profiles in which the first program is the last one.

use std::{ffi::CString, io, os::unix::process::CommandExt, process::Command, ptr};

use super::*;

const POINTERS: [u64; 3] = [0x1234_5678_9abc, 0x0000_1111_2222, 0x7fff_0000_0008];

#[test]
fn one_call_begins_a_program_and_no_other() {
    for architecture in Architecture::ALL {
        let filter = closing::filter(architecture, POINTERS);
        let number = |name: &str| {
            let calls = GROUPS.iter().flat_map(|groups| groups.iter()).flat_map(|group| group.calls);
            calls.into_iter().find(|call| call.name == name).and_then(|call| architecture.number_of(call))
        };
        let check = |name: &str, arguments: [u64; 6], expected| {
            let Some(number) = number(name) else { return };
            let seen = run(&filter, &Seen { architecture: architecture.audit_number(), number, arguments });
            assert_eq!(seen, expected, "{architecture:?} {name} {arguments:x?}");
        };
        let [path, arguments, variables] = POINTERS;
        check("execve", [path, arguments, variables, 0, 0, 0], Action::Allow);
        check("execve", [path, arguments, variables, 9, 9, 9], Action::Allow);
        for bit in 0..64 {
            check("execve", [path ^ (1 << bit), arguments, variables, 0, 0, 0], PERM);
            check("execve", [path, arguments ^ (1 << bit), variables, 0, 0, 0], PERM);
            check("execve", [path, arguments, variables ^ (1 << bit), 0, 0, 0], PERM);
        }
        check("execveat", [path, arguments, variables, 0, 0, 0], PERM);
        check("fork", [0; 6], PERM);
        check("vfork", [0; 6], PERM);
        check("clone", [17, 0, 0, 0, 0, 0], PERM);
        check("clone", [0x4111, 0, 0, 0, 0, 0], PERM);
        check("clone", [0x3d_0f00, 0, 0, 0, 0, 0], Action::Allow);
        for other in ["read", "openat", "mmap", "exit_group", "socket", "wait4", "kill"] {
            check(other, [0; 6], Action::Allow);
        }
    }
}

#[test]
fn memory_files_are_sealed_or_not_made() {
    for architecture in Architecture::ALL {
        let filter = closing::memory_files(architecture);
        let number = if architecture == Architecture::X86_64 { 319 } else { 279 };
        for (flags, expected) in [(0, PERM), (1, PERM), (2, PERM), (0x10, PERM), (8, Action::Allow), (9, Action::Allow)]
        {
            let arguments = [1, flags, 0, 0, 0, 0];
            let seen = run(&filter, &Seen { architecture: architecture.audit_number(), number, arguments });
            assert_eq!(seen, expected, "{architecture:?} {flags:x}");
        }
        let other = Seen { architecture: architecture.audit_number(), number: number + 1, arguments: [0; 6] };
        assert_eq!(run(&filter, &other), Action::Allow);
    }
}

/// The program itself is the attacker: python with threads, which then tries everything that begins something.
#[test]
fn the_last_program_runs_and_begins_nothing() {
    let script = "import os, threading, ctypes\n\
                  t=threading.Thread(target=lambda: print('thread')); t.start(); t.join()\n\
                  def attempt(name, f):\n  try: f(); print(name, 'open')\n  except OSError as e: print(name, e.errno)\n\
                  attempt('fork', os.fork)\n\
                  attempt('execve', lambda: os.execv('/bin/true', ['true']))\n\
                  attempt('spawn', lambda: os.posix_spawn('/bin/true', ['true'], {}))\n\
                  attempt('fexecve', lambda: os.execve(os.open('/bin/true', 0), ['true'], {}))";
    for profile in [Profile::Strict, Profile::Proxy] {
        let output = last_program(profile, &["/usr/bin/env", "python3", "-c", script]);
        assert!(output.contains("env:"), "env began python: {output}");
        let Some(python) = ["/usr/bin/python3", "/usr/local/bin/python3"]
            .into_iter()
            .find(|path| std::fs::exists(path).is_ok_and(|is_there| is_there))
        else {
            eprintln!("skipped: no python3 at its usual place");
            continue;
        };
        let output = last_program(profile, &[python, "-S", "-c", script]);
        assert_eq!(output, "thread\nfork 1\nexecve 1\nspawn 1\nfexecve 1\n");
    }
    assert_eq!(last_program(Profile::Agent, &["/bin/sh", "-c", "exec /bin/echo on"]), "on\n");
}

fn last_program(profile: Profile, words: &[&str]) -> String {
    let filter = compile(profile);
    let words: Vec<CString> = words.iter().map(|word| CString::new(*word).unwrap()).collect();
    let environment = [c"PATH=/usr/bin:/bin".to_owned()];
    let mut command = Command::new("/nonexistent");
    let become_it = move || {
        crate::sys::set_no_new_privileges()?;
        install(&filter)?;
        Err(execute(closing::of(profile)?, &words, &environment))
    };
    // SAFETY: the child of a test allocates between fork and exec. No other thread of this process holds the allocator's
    // lock for ever, because the C library makes it usable again in a child.
    let output = unsafe { command.pre_exec(become_it) }.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// As the init does it.
fn execute(closing: Option<closing::Closing>, words: &[CString], environment: &[CString]) -> io::Error {
    let Some(closing) = closing else { return crate::sys::execute(words, environment) };
    let addresses = |words: &[CString]| {
        let pointers = words.iter().map(|word| word.as_ptr() as usize).chain([0]);
        pointers.flat_map(usize::to_ne_bytes).collect::<Vec<u8>>()
    };
    let blocks = [words[0].as_bytes_with_nul().to_vec(), addresses(words), addresses(environment)];
    for (place, bytes) in closing.places.into_iter().zip(&blocks) {
        let start = place & !0xffff;
        let (length, flags) = ((place - start) as usize + bytes.len(), libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let flags = flags | libc::MAP_FIXED_NOREPLACE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: NOREPLACE leaves every mapping of this program as it is.
        let mapped = unsafe { libc::mmap(start as *mut libc::c_void, length, protection, flags, -1, 0) };
        assert_eq!(mapped as u64, start, "the place is taken");
        // SAFETY: the mapping is new, ours, and long enough for the bytes.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place as usize as *mut u8, bytes.len()) };
    }
    let [path, arguments, variables] = closing.places;
    match install(&closing.filter) {
        Err(error) => error,
        Ok(()) => {
            // SAFETY: a path and two lists of strings that end with a null pointer, made above and never freed.
            unsafe { libc::syscall(libc::SYS_execve, path, arguments, variables) };
            io::Error::last_os_error()
        }
    }
}
