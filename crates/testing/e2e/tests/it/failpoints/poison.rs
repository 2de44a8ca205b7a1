//! A task that kills its server each time that it is worked on.

use agentos_kit::{Package, TestOs, eventually};
use agentos_types::{
    Code,
    task::{ErrorClass, TaskState},
};
use serde_json::json;

use super::field::{ARMED, VARIABLE};

const AT_PROGRESS: [(&str, &str); 1] = [(VARIABLE, "tasks.progress.numbered")];

#[tokio::test]
async fn a_task_that_kills_the_server_becomes_a_dead_letter() {
    let mut os = TestOs::start_with("[tasks]\nattempts_max = 3\n").await;
    os.deploy(&Package::python("reader", READER, "")).await;
    assert_eq!(os.down().await, 0);
    os.serve_with(ARMED);
    let body = serde_json::from_value(json!({"agent": "reader", "input": {}})).unwrap();
    for attempt in 1..=3 {
        let is_up = os.try_up(&AT_PROGRESS).await;
        // Later ones may die before they say that they are ready: the agent has its task again by then.
        assert!(is_up || attempt > 1, "attempt {attempt}: {}", os.log());
        if attempt == 1 {
            // The answer may be lost with the server; the key finds the task again.
            let _ = os.client().submit_task(&body, Some("poison")).await;
        }
        eventually(&format!("end {attempt} of the server"), || {
            let ended = os.has_ended();
            async move { if ended { Ok(()) } else { Err("it lives") } }
        })
        .await;
    }
    // The cause stands ready to strike again, and is not touched any more.
    assert!(os.try_up(&AT_PROGRESS).await);
    let task = os.client().submit_task(&body, Some("poison")).await.unwrap();
    let failure = task.failure.unwrap();
    assert_eq!((task.state, task.attempt), (TaskState::Failed, 3), "{failure:?}");
    assert_eq!((failure.class, failure.code), (ErrorClass::Crash, Some(Code::TASK_CRASHED)));
}

/// Reports progress of each task, which is where the server dies.
const READER: &str = r#"
import json, socket, struct
kernel = socket.socket(fileno=3)
def send(**frame):
    payload = json.dumps(frame).encode()
    kernel.sendall(struct.pack(">I", len(payload)) + payload)
def receive():
    length = struct.unpack(">I", kernel.recv(4, socket.MSG_WAITALL))[0]
    return json.loads(kernel.recv(length, socket.MSG_WAITALL))
send(type="hello", protocol=1, sdk="test")
receive()
send(type="ready")
while True:
    frame = receive()
    if frame["type"] == "ping":
        send(type="pong", n=frame["n"])
    elif frame["type"] == "task":
        send(type="progress", task=frame["task"], data={})
        send(type="done", task=frame["task"], output={})
"#;
