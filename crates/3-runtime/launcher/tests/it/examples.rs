//! The Python examples and the worker of the documentation, run by the real launcher, with the test as the kernel.

use std::{
    fs,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
};

use agentos_protocol::{
    KernelFrame, WorkerFrame,
    frame::Outcome,
    sandbox::{Descriptor, End, Mount, SandboxOrder},
    wire,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    harness::PATIENCE,
    server::{Server, order, serve},
};

const TASK: &str = "task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E";
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../..");

/// A worker in a sandbox of its own, and this side of its socket.
struct Launched {
    server: Server,
    socket: UnixStream,
    output: std::io::PipeReader,
}

fn launch(package: &str, words: &[&str], environment: Value) -> Launched {
    let mut server = serve("agent", "native", None);
    let directory = Path::new(ROOT).join("examples/python").join(package).canonicalize().unwrap();
    let mut order = order("");
    order.mounts.push(Mount::Bind {
        source: directory.to_string_lossy().into_owned(),
        target: "/app".into(),
        writable: false,
        executable: true,
    });
    order.directory = "/app".into();
    // The system's interpreter: a version manager's lies elsewhere.
    order.command = ["/usr/bin/python3"].iter().chain(words).map(ToString::to_string).collect();
    order.environment = serde_json::from_value(environment).unwrap();
    order.limits.address_space_bytes = Some(2 << 30);
    let (socket, theirs) = UnixStream::pair().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // As a run-time of the server may leave it.
    theirs.set_nonblocking(true).unwrap();
    let (output, writer) = std::io::pipe().unwrap();
    let descriptors = vec![Descriptor::Channel, Descriptor::Stdout, Descriptor::Stderr];
    let writer = OwnedFd::from(writer);
    server.send(SandboxOrder { descriptors, ..order }, &[theirs.into(), writer.try_clone().unwrap(), writer]);
    server.spawned();
    Launched { server, socket, output }
}

fn frame(value: Value) -> KernelFrame {
    serde_json::from_value(value).unwrap()
}

impl Launched {
    fn send<F: Serialize>(&mut self, frame: &F) {
        self.socket.write_all(&wire::encode(frame).unwrap()).unwrap();
    }

    fn receive<F: DeserializeOwned>(&mut self) -> F {
        let mut prefix = [0; 4];
        self.socket.read_exact(&mut prefix).unwrap();
        let mut payload = vec![0; u32::from_be_bytes(prefix) as usize];
        self.socket.read_exact(&mut payload).unwrap();
        wire::decode(&payload).unwrap()
    }

    /// How it ended, and everything that was printed.
    fn finish(mut self) -> (End, String) {
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        (self.server.ended().0, text)
    }

    fn shake_hands(&mut self) {
        assert!(matches!(self.receive(), WorkerFrame::Hello { protocol: 1, .. }));
        self.send(&frame(json!({
            "type": "welcome", "protocol": 1, "agent": "tester", "heartbeat_ms": 5000, "frame_bytes_max": 4_194_304,
            "instance": "inst_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E",
        })));
        assert_eq!(self.receive::<WorkerFrame>(), WorkerFrame::Ready {});
    }

    fn give(&mut self, input: Value) {
        self.send(&frame(json!({"type": "task", "task": TASK, "input": input, "attempt": 1, "traceparent": "t"})));
    }

    fn expect_done(&mut self, expected: &Value) {
        match self.receive() {
            WorkerFrame::Done { output, .. } => assert_eq!(&output, expected),
            other => panic!("{other:?} instead of done"),
        }
    }

    /// Expects a call and answers it; returns step and arguments.
    fn answer(&mut self, name: &str, outcome: Outcome) -> (String, Value) {
        let WorkerFrame::Call { id, step, syscall, args, .. } = self.receive() else { panic!("no call of {name}") };
        assert_eq!(syscall, name);
        self.send(&KernelFrame::Reply { id, outcome });
        (step, args)
    }

    fn expect_pong(&mut self, n: u64) {
        self.send(&KernelFrame::Ping { n });
        assert_eq!(self.receive::<WorkerFrame>(), WorkerFrame::Pong { n });
    }

    fn expect_shutdown(mut self) {
        self.send(&KernelFrame::Shutdown { grace_ms: 5_000 });
        let (status, text) = self.finish();
        assert_eq!(status, End::Exited(0), "{text}");
    }
}

fn error(code: &str, class: &str) -> Outcome {
    serde_json::from_value(json!({"error": {"code": code, "message": "no", "class": class}})).unwrap()
}

#[test]
fn the_echo_agent_speaks_the_protocol() {
    let mut echo = launch("echo", &["echo_agent.py"], json!({}));
    echo.shake_hands();
    echo.give(json!({"action": "echo", "text": "über"}));
    echo.expect_done(&json!({"action": "echo", "text": "über"}));
    echo.give(json!(17));
    echo.expect_done(&json!(17));

    echo.give(json!({"action": "fetch", "url": "https://example.com/"}));
    let (step, args) = echo.answer("net.fetch", error("AOS-1401", "denied"));
    assert_eq!((step.as_str(), args), ("fetch", json!({"url": "https://example.com/"})));
    let WorkerFrame::Failed { class, message, .. } = echo.receive() else { panic!("not failed") };
    assert_eq!((class.as_str(), message.as_str()), ("denied", "AOS-1401: no"));

    echo.give(json!({"action": "read", "path": "/srv/a"}));
    let content = json!({"content": "text", "encoding": "utf-8", "bytes": 4, "size": 4, "modified_at": 1});
    echo.answer("file.read", Outcome::Ok(content.clone()));
    echo.expect_done(&content);
    echo.expect_shutdown();
}

#[test]
fn the_echo_agent_counts_again_after_a_conflict() {
    let mut echo = launch("echo", &["echo_agent.py"], json!({}));
    echo.shake_hands();
    echo.give(json!({"action": "count"}));
    echo.answer("kv.get", Outcome::Ok(json!({"value": null, "version": 0})));
    let (step, args) = echo.answer("kv.put", error("AOS-1610", "permanent"));
    assert_eq!((step.as_str(), args), ("put-0", json!({"key": "count", "value": 1, "if_version": 0})));
    echo.answer("kv.get", Outcome::Ok(json!({"value": 8, "version": 3})));
    let (step, args) = echo.answer("kv.put", Outcome::Ok(json!({"version": 4})));
    assert_eq!((step.as_str(), args), ("put-1", json!({"key": "count", "value": 9, "if_version": 3})));
    echo.expect_done(&json!(9));
    echo.expect_shutdown();
}

#[test]
fn the_echo_agent_answers_pings_while_it_works_and_cancels() {
    let mut echo = launch("echo", &["echo_agent.py"], json!({}));
    echo.shake_hands();
    echo.give(json!({"action": "sleep_until_canceled"}));
    assert!(matches!(echo.receive(), WorkerFrame::Progress { .. }));
    echo.expect_pong(1);
    echo.send(&frame(json!({"type": "cancel", "task": TASK, "grace_ms": 5_000})));
    assert!(matches!(echo.receive(), WorkerFrame::Canceled { .. }));
    // A cancel that crossed the answer is ignored.
    echo.send(&frame(json!({"type": "cancel", "task": TASK, "grace_ms": 5_000})));
    echo.expect_pong(2);
    echo.expect_shutdown();
}

#[test]
fn the_worker_of_the_documentation_works_as_printed() {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/src/reference/worker-protocol.md")).unwrap();
    let (_, rest) = page.split_once("```python\n").unwrap();
    let (program, _) = rest.split_once("```").unwrap();
    assert!(program.lines().count() <= 30, "the page promises thirty lines");
    let mut worker = launch("echo", &["-c", program], json!({}));
    worker.shake_hands();
    worker.give(json!({"any": "thing"}));
    worker.expect_done(&json!({"any": "thing"}));
    worker.expect_pong(3);
    worker.expect_shutdown();
}

#[test]
fn an_agent_that_looks_around_finds_nothing() {
    let mut rogue = launch("rogue", &["rogue_agent.py"], json!({"LC_ALL": "C.UTF-8"}));
    rogue.shake_hands();
    rogue.give(json!({"action": "look"}));
    let WorkerFrame::Done { output, .. } = rogue.receive() else { panic!("not done") };
    assert_eq!(output["environment"], json!({"LC_ALL": "C.UTF-8"}));
    assert!(!output.to_string().contains("hunter2"));
    let descriptors: Vec<_> = output["descriptors"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(descriptors, ["0", "1", "2", "3"]);
    assert_eq!(output["descriptors"]["0"], "/dev/null");
    rogue.expect_shutdown();
}

#[test]
fn the_rogue_misbehaves_as_ordered() {
    fn first_bytes(mode: &str, count: usize) -> Vec<u8> {
        let mut rogue = launch("rogue", &["rogue_agent.py"], json!({"ROGUE": mode}));
        let mut bytes = vec![0; count];
        rogue.socket.read_exact(&mut bytes).unwrap();
        bytes
    }
    fn first_frame(mode: &str) -> WorkerFrame {
        let mut rogue = launch("rogue", &["rogue_agent.py"], json!({"ROGUE": mode}));
        rogue.receive()
    }
    assert_eq!(first_bytes("garbage", 5), b"GET /");
    assert_eq!(first_bytes("oversized", 4), [0xff; 4]);
    assert_eq!(first_bytes("half-frame", 5), b"\0\0\x03\xe8{");
    assert_eq!(first_frame("early-ready"), WorkerFrame::Ready {});
    assert!(matches!(first_frame("early-call"), WorkerFrame::Call { .. }));
    assert!(matches!(first_frame("wrong-version"), WorkerFrame::Hello { protocol: 99, .. }));
    assert_eq!(launch("rogue", &["rogue_agent.py"], json!({"ROGUE": "exit"})).finish().0, End::Exited(7));

    let mut killed = launch("rogue", &["rogue_agent.py"], json!({}));
    killed.shake_hands();
    killed.give(json!({"action": "signal", "signal": libc::SIGSEGV}));
    assert_eq!(killed.finish().0, End::Signaled(libc::SIGSEGV));

    let mut flooding = launch("rogue", &["rogue_agent.py"], json!({}));
    flooding.shake_hands();
    flooding.give(json!({"action": "flood", "bytes": 1 << 20}));
    let mut printed = vec![0; 1 << 20];
    flooding.output.read_exact(&mut printed).unwrap();
    flooding.expect_done(&json!("flooded"));

    let mut limited = launch("rogue", &["rogue_agent.py"], json!({}));
    limited.shake_hands();
    limited.give(json!({"action": "allocate", "bytes": 3_u64 << 30}));
    limited.expect_done(&json!({"refused": 3_u64 << 30}));
    limited.expect_shutdown();
}
