//! Nothing that the launcher inherits reaches the worker, except what the order names.

use std::{collections::BTreeMap, fs, os::unix::process::CommandExt};

use serde_json::json;

use crate::harness::{command, order, own_pid, spawn};

/// Prints its own state. Not a shell: shells block signals for moments of their own.
const LOOK: &[&str] = &["/bin/cat", "/proc/self/status", "/proc/self/stat", "/proc/self/limits"];

/// Everything bad that a parent can leave behind, done between fork and exec of the launcher.
fn spoil() -> std::io::Result<()> {
    // SAFETY: only async-signal-safe calls, with integers and pointers to live locals, in the single thread after fork.
    unsafe {
        libc::dup2(2, 17);
        libc::umask(0);
        for signal in [libc::SIGPIPE, libc::SIGTERM, libc::SIGINT, libc::SIGCHLD, libc::SIGRTMIN()] {
            libc::signal(signal, libc::SIG_IGN);
        }
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        // Refused to an unprivileged tester, who then tests less here.
        libc::setpriority(libc::PRIO_PROCESS, 0, -5);
        let batch: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const batch);
    }
    Ok(())
}

/// Runs a program under a launcher with a spoiled inheritance and returns its process id and what it printed.
fn look(program: &[&str], change: impl FnOnce(&mut serde_json::Value)) -> (u32, String) {
    let mut spoiled = command(&own_pid());
    // SAFETY: `spoil` makes only async-signal-safe calls.
    unsafe { spoiled.pre_exec(spoil) };
    let mut launched = spawn(spoiled);
    let mut order = order(program);
    change(&mut order);
    launched.send(&order);
    let pid = launched.child.id();
    let (status, text) = launched.finish();
    assert_eq!(status, Some(0), "{text}");
    (pid, text)
}

/// `Name:   value` lines as a map.
fn lines(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim())).collect()
}

#[test]
fn the_environment_is_exactly_the_ordered_one() {
    let mut launched = spawn(command(&own_pid()));
    launched.send(&order(&["/bin/cat", "/proc/self/environ"]));
    assert_eq!(launched.finish(), (Some(0), "ONLY=this one\0".into()));
}

#[test]
fn arguments_arrive_unchanged() {
    let mut launched = spawn(command(&own_pid()));
    launched.send(&order(&["/bin/cat", "/proc/self/cmdline", "--", "/dev/null"]));
    assert_eq!(launched.finish(), (Some(0), "/bin/cat\0/proc/self/cmdline\0--\0/dev/null\0".into()));
}

#[test]
fn only_four_descriptors_are_open() {
    // `ls` runs in a child, so its own directory descriptor is not in the list of the shell.
    let script = "/bin/ls /proc/$$/fd; /bin/readlink /proc/$$/fd/0 /proc/$$/fd/3";
    let (_, text) = look(&["/bin/sh", "-c", script], |_| {});
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.get(..5), Some(&["0", "1", "2", "3", "/dev/null"][..]), "{text}");
    assert!(lines.last().unwrap().starts_with("socket:"), "{text}");
}

#[test]
fn inherited_state_is_reset() {
    let (pid, text) = look(LOOK, |_| {});
    let seen = lines(&text);
    for (name, expected) in
        [("NoNewPrivs", "1"), ("SigIgn", "0000000000000000"), ("SigBlk", "0000000000000000"), ("Umask", "0077")]
    {
        assert_eq!(seen.get(name), Some(&expected), "{name} in {text}");
    }
    // proc(5): after the name in brackets come state, ppid, pgrp, session, ...; nice is field 19, policy field 41.
    let stat = text.lines().find(|line| line.starts_with(&format!("{pid} ("))).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let field = |number: usize| fields[number - 3];
    let pid = pid.to_string();
    assert_eq!((field(5), field(6)), (pid.as_str(), pid.as_str()), "process group and session");
    assert_eq!((field(19), field(41)), ("0", "0"), "nice level and scheduling policy");
    assert_eq!(look(&["/bin/cat", "/proc/self/oom_score_adj"], |_| {}).1, "500\n");
    assert_eq!(look(&["/bin/readlink", "/proc/self/cwd"], |order| order["directory"] = json!("/usr")).1, "/usr\n");
}

#[test]
fn a_raised_nice_level_is_reset_where_that_is_allowed() {
    let mut nice = command(&own_pid());
    let raise = || {
        // SAFETY: setpriority is a plain system call with integers.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 7) };
        Ok(())
    };
    // SAFETY: `raise` makes one async-signal-safe call.
    unsafe { nice.pre_exec(raise) };
    let mut launched = spawn(nice);
    launched.send(&order(&["/bin/cat", "/proc/self/stat"]));
    let (_, text) = launched.finish();
    let level = text.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().to_owned();
    // SAFETY: geteuid has no arguments and cannot fail.
    let privileged = unsafe { libc::geteuid() } == 0;
    assert!(level == "0" || (!privileged && level == "7"), "nice level {level}");
}

#[test]
fn limits_are_as_ordered_and_cannot_be_raised() {
    let (_, text) = look(LOOK, |order| order["limits"]["cpu_seconds"] = json!(77));
    for (name, value) in [
        ("Max address space", "2147483648"),
        ("Max cpu time", "77"),
        ("Max open files", "64"),
        ("Max file size", "1048576"),
        ("Max core file size", "0"),
    ] {
        let row = text.lines().find(|line| line.starts_with(name)).unwrap();
        let values: Vec<_> = row[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(values, [value, value], "{row}");
    }
    let (_, text) = look(LOOK, |_| {});
    let inherited = fs::read_to_string("/proc/self/limits").unwrap();
    let cpu = |text: &str| text.lines().find(|line| line.starts_with("Max cpu time")).map(str::to_owned);
    assert_eq!(cpu(&text), cpu(&inherited), "0 leaves the CPU limit alone");
}

#[test]
fn limits_bite() {
    // `$$` keeps the name apart from that of another run.
    let script = "/usr/bin/head -c 2000000 /dev/zero > big.$$; /bin/ls -l big.$$; /bin/rm big.$$";
    let (_, text) = look(&["/bin/sh", "-c", script], |order| order["directory"] = json!(std::env::temp_dir()));
    assert!(text.contains(" 1048576 "), "the file stops at the limit: {text}");
    assert!(text.starts_with("-rw------- "), "nobody else may read it: {text}");
}

#[test]
fn the_socket_is_blocking_without_timeout_and_bytes_after_the_order_are_the_workers() {
    let mut launched = spawn(command(&own_pid()));
    // `read` takes its line from the socket; O_NONBLOCK (04000) must not be among its flags.
    let script = "read line <&3; echo \"$line\"; /bin/grep flags /proc/$$/fdinfo/3";
    launched.send(&order(&["/bin/sh", "-c", script]));
    std::io::Write::write_all(&mut launched.socket, b"kept for the worker\n").unwrap();
    let (_, text) = launched.finish();
    assert!(text.starts_with("kept for the worker\n"), "{text}");
    let flags = u32::from_str_radix(text.split_whitespace().last().unwrap(), 8).unwrap();
    assert_eq!(flags & 0o4000, 0, "{text}");
}
