//! The worker never outlives the process that asked for it.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::Command,
    thread,
    time::Instant,
};

use crate::harness::{LAUNCHER, PATIENCE, order, spawn};

/// Dead and waiting for its new parent counts as gone: it holds no memory, no descriptor, and runs no more.
fn has_ended(pid: &str) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => text.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

#[test]
fn killing_the_parent_kills_the_worker() {
    // A shell stands for the supervisor; the launcher gets the shell's stdin, which is the socket.
    let mut supervisor = Command::new("/bin/sh");
    supervisor.args(["-c", "exec 5<&0; \"$0\" --parent $$ <&5 5<&- & wait", LAUNCHER]);
    let mut launched = spawn(supervisor);
    launched.send(&order(&["/bin/sh", "-c", "echo $$ >&3; exec /bin/sleep 1000"]));
    let mut reader = BufReader::new(launched.socket.try_clone().unwrap());
    let mut pid = String::new();
    reader.read_line(&mut pid).unwrap();
    let pid = pid.trim();
    assert!(!has_ended(pid), "the worker runs");
    launched.child.kill().unwrap();
    launched.child.wait().unwrap();
    // The socket reaches its end when the last process that holds the other side is gone.
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    let start = Instant::now();
    while !has_ended(pid) {
        assert!(start.elapsed() < PATIENCE, "worker {pid} outlived its parent");
        thread::yield_now();
    }
}
