//! Spawns the launcher as the supervisor does: the socket as stdin, pipes as stdout and stderr.

use std::{
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use agentos_protocol::{WorkerFrame, wire};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Far above what any step needs; only a defect lets a test wait this long.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const LAUNCHER: &str = env!("CARGO_BIN_EXE_agent-os-launch");

pub struct Launched {
    pub child: Child,
    pub socket: UnixStream,
}

pub fn command(parent: &str) -> Command {
    let mut command = Command::new(LAUNCHER);
    command.args(["--parent", parent]).env("PLANTED_SECRET", "hunter2");
    command
}

pub fn spawn(mut command: Command) -> Launched {
    let (socket, theirs) = UnixStream::pair().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    theirs.set_nonblocking(true).unwrap();
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::piped()).stderr(Stdio::piped());
    Launched { child: command.spawn().unwrap(), socket }
}

pub fn own_pid() -> String {
    std::process::id().to_string()
}

/// An order that works, to be changed by the test.
pub fn order(command: &[&str]) -> Value {
    json!({
        "version": 1, "command": command, "environment": {"ONLY": "this one"}, "directory": "/",
        "limits": {"memory_bytes": 2_u64 << 30, "cpu_seconds": 0, "open_files": 64, "file_bytes": 1 << 20},
    })
}

impl Launched {
    pub fn send<F: Serialize>(&mut self, frame: &F) {
        self.socket.write_all(&wire::encode(frame).unwrap()).unwrap();
    }

    pub fn receive<F: DeserializeOwned>(&mut self) -> F {
        let mut prefix = [0; 4];
        self.socket.read_exact(&mut prefix).unwrap();
        let mut payload = vec![0; u32::from_be_bytes(prefix) as usize];
        self.socket.read_exact(&mut payload).unwrap();
        wire::decode(&payload).unwrap()
    }

    /// Exit status and everything that was printed.
    pub fn finish(self) -> (Option<i32>, String) {
        let output = self.child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    /// The stage and message of the refusal, and the exit status.
    pub fn refusal(mut self) -> (String, String, Option<i32>) {
        match self.receive::<WorkerFrame>() {
            WorkerFrame::LaunchFailed { stage, message } => (stage, message, self.finish().0),
            other => panic!("{other:?} instead of launch-failed"),
        }
    }
}
