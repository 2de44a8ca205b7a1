//! The program itself: how it begins, and that it is gone when it should be.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    process::{Child, Command, Stdio},
};

use agentos_protocol::egress::{EGRESS_VERSION, FromProxy};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use super::stage::PATIENCE;

const PROGRAM: &str = env!("CARGO_BIN_EXE_agent-os-egress");

struct Running {
    child: Child,
    server: OwnedFd,
}

/// As the launcher starts it: the socket as descriptor 3, nothing in the environment.
fn start() -> Running {
    let (server, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let inherited = rustix::io::dup(&theirs).unwrap();
    let child = Command::new("sh")
        .args(["-c", &format!("exec \"$0\" 3<&{number} {number}<&-", number = inherited.as_raw_fd()), PROGRAM])
        .env_clear()
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    Running { child, server }
}

impl Running {
    fn ready(&self) {
        let mut buffer = [0; 4096];
        let (count, _) = recv(&self.server, &mut buffer, RecvFlags::empty()).unwrap();
        let ready: FromProxy = serde_json::from_slice(&buffer[..count]).unwrap();
        assert!(matches!(ready, FromProxy::Ready { version: EGRESS_VERSION }), "{ready:?}");
    }

    fn ended(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        let (told, status) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(self.child.wait()));
        if let Ok(status) = status.recv_timeout(PATIENCE) {
            return status.unwrap().code();
        }
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        panic!("it does not end");
    }
}

#[test]
fn it_says_that_it_is_ready_and_ends_with_its_server() {
    let running = start();
    running.ready();
    let Running { child, server } = running;
    let (other, _) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    drop(server);
    assert_eq!(Running { child, server: other }.ended(), Some(0));
}

#[test]
fn what_it_does_not_understand_ends_it() {
    for packet in ["{}", "not json", r#"{"type":"attach"}"#, r#"{"type":"ping","n":1,"more":2}"#] {
        let running = start();
        running.ready();
        send(&running.server, packet.as_bytes(), SendFlags::empty()).unwrap();
        assert_eq!(running.ended(), Some(1), "{packet}");
    }
}

#[test]
fn it_does_not_run_by_itself() {
    let output = Command::new(PROGRAM).env_clear().stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("was not started by AgentOS"), "{text}");
}
