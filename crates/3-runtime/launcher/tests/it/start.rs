//! What a launcher wants before it serves, and when it ends.

use std::process::{Command, Stdio};

use agentos_launcher::sys::packets;

use crate::{
    harness::{LAUNCHER, own_pid},
    server::{order, serve},
};

/// Starts a launcher that refuses, and gives what it says.
fn refusal(words: &[&str], stdin: Stdio) -> String {
    let output = Command::new(LAUNCHER).args(words).stdin(stdin).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn somebody_who_has_gone_does_not_end_the_launcher() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    // A child of ours begins with the usual action for SIGPIPE, which ends it.
    let status = Command::new(LAUNCHER).arg("--version").stdout(Stdio::from(writer)).status().unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
}

#[test]
fn a_launcher_wants_its_parent_a_socket_and_a_profile() {
    let pid = own_pid();
    let socket = || {
        let (ours, theirs) = packets::pair().unwrap();
        // Open as long as this process lives.
        std::mem::forget(ours);
        Stdio::from(theirs)
    };
    let with = |parent: &str| refusal(&["--serve", "--parent", parent, "--profile", "agent"], socket());
    assert!(with("1").contains("parent: the parent is process"), "a parent that is not the one that asked");
    assert!(with("nobody").contains("usage: "));
    let words = ["--serve", "--parent", &pid, "--profile", "agent"];
    assert!(refusal(&words, Stdio::null()).contains("channel: descriptor 0 is not a socket"));
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let stream = Stdio::from(std::os::fd::OwnedFd::from(stream));
    assert!(refusal(&words, stream).contains("channel: descriptor 0 is not a unix socket of packets"));
    assert!(refusal(&["--serve", "--parent", &pid, "--profile", "all"], socket()).contains("usage: "));
    assert!(refusal(&["--parent", &pid], socket()).contains("usage: "));
}

#[test]
fn a_launcher_ends_when_the_server_closes_its_side_and_so_do_its_sandboxes() {
    let mut server = serve("agent", "native", None);
    server.send(order("exec sleep 1000"), &[]);
    let (pid, _, _) = server.spawned();
    let (unused, _) = packets::pair().unwrap();
    drop(std::mem::replace(&mut server.socket, unused));
    let status = server.child.wait().unwrap();
    assert!(status.success(), "{status:?}");
    crate::ends::wait_until("the sandbox has ended", || crate::ends::has_ended(pid));
}
