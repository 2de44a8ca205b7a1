//! The other end of the socket: sends frames of the kernel and expects frames of the worker.

use std::{future::Future, time::Duration};

use agentos_protocol::{KernelFrame, PROTOCOL_VERSION, WorkerFrame, frame::Outcome, wire};
use agentos_sdk::{Fault, TaskContext, TaskError, TaskId, Timestamp, Value};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::JoinHandle,
    time::timeout,
};

/// Far above what any step needs; only a defect lets a test wait this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Kernel {
    pub socket: UnixStream,
    worker: Option<JoinHandle<Result<(), Fault>>>,
}

impl Kernel {
    /// Starts a worker that has said nothing yet.
    pub fn spawn<H, F>(handler: H) -> Self
    where
        H: Fn(TaskContext, Value) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Value, TaskError>> + Send + 'static,
    {
        let (socket, theirs) = UnixStream::pair().unwrap();
        Self { socket, worker: Some(tokio::spawn(agentos_sdk::run_on(theirs, handler))) }
    }

    /// For a worker in another process.
    pub fn over(socket: UnixStream) -> Self {
        Self { socket, worker: None }
    }

    /// Starts a worker and shakes hands.
    pub async fn ready<H, F>(handler: H) -> Self
    where
        H: Fn(TaskContext, Value) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Value, TaskError>> + Send + 'static,
    {
        let mut kernel = Self::spawn(handler);
        kernel.shake_hands().await;
        kernel
    }

    pub async fn shake_hands(&mut self) {
        let WorkerFrame::Hello { protocol, sdk } = self.receive().await else { panic!("no hello") };
        assert!(protocol == PROTOCOL_VERSION && sdk.starts_with("agentos-sdk/"));
        self.send(&welcome(PROTOCOL_VERSION)).await;
        assert_eq!(self.receive().await, WorkerFrame::Ready {});
    }

    pub async fn send(&mut self, frame: &KernelFrame) {
        self.socket.write_all(&wire::encode(frame).unwrap()).await.unwrap();
    }

    pub async fn receive(&mut self) -> WorkerFrame {
        let reading = async {
            let length = self.socket.read_u32().await.unwrap();
            let mut payload = vec![0; length as usize];
            self.socket.read_exact(&mut payload).await.unwrap();
            wire::decode(&payload).unwrap()
        };
        timeout(PATIENCE, reading).await.expect("no frame came")
    }

    pub async fn give(&mut self, task: &TaskId, attempt: i64, input: Value) {
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into();
        let deadline_at = Some(Timestamp::from_millis(5));
        self.send(&KernelFrame::Task { task: task.clone(), input, attempt, deadline_at, traceparent }).await;
    }

    pub async fn reply(&mut self, id: u64, outcome: Outcome) {
        self.send(&KernelFrame::Reply { id, outcome }).await;
    }

    /// A ping and nothing but its pong: whatever the worker was doing, it is alive and has sent nothing else.
    pub async fn expect_quiet(&mut self, n: u64) {
        self.send(&KernelFrame::Ping { n }).await;
        assert_eq!(self.receive().await, WorkerFrame::Pong { n });
    }

    /// Closes the socket and returns what `run_on` returned.
    pub async fn end(mut self) -> Result<(), Fault> {
        drop(self.socket);
        joined(self.worker.take()).await
    }

    /// What `run_on` returned, with the socket still open.
    pub async fn outcome(&mut self) -> Result<(), Fault> {
        joined(self.worker.take()).await
    }
}

async fn joined(worker: Option<JoinHandle<Result<(), Fault>>>) -> Result<(), Fault> {
    timeout(PATIENCE, worker.unwrap()).await.expect("the worker did not end").unwrap()
}

pub fn welcome(protocol: u32) -> KernelFrame {
    serde_json::from_value(serde_json::json!({
        "type": "welcome", "protocol": protocol, "agent": "tester", "heartbeat_ms": 5000, "frame_bytes_max": 4_194_304,
        "instance": "inst_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E",
    }))
    .unwrap()
}

/// Different for each `n`.
pub fn task(n: u64) -> TaskId {
    TaskId::generate(Timestamp::from_millis(1), n.into())
}
