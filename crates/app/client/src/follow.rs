//! Streams that go on: after a lost connection the reader asks again from the last sequence number that it has seen, so
//! that nothing is missed and nothing comes twice.

use std::{collections::VecDeque, time::Duration};

use agentos_api::body::AuditRecord;
use agentos_types::{
    Code, Fault, Result, TaskId,
    limits::PAGE_MAX,
    task::{TaskEvent, TaskState},
};
use reqwest::{Method, Response, header::ACCEPT};
use serde::de::DeserializeOwned;

use crate::{Client, answer, sse::Parser};

/// Servers send a comment at least every 15 s; after four of them are missing the connection is dead.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How a lost connection is taken up again.
#[derive(Clone, Copy, Debug)]
pub struct Reconnect {
    /// First wait; doubles with each attempt that brings nothing.
    pub wait_min: Duration,
    pub wait_max: Duration,
    /// Attempts in a row that may bring nothing before the loss is reported.
    pub attempts_max: u32,
}

/// Twenty attempts are a minute and a half: time for a server to be restarted.
impl Default for Reconnect {
    fn default() -> Self {
        Self { wait_min: Duration::from_millis(200), wait_max: Duration::from_secs(5), attempts_max: 20 }
    }
}

trait Sequenced: DeserializeOwned {
    fn seq(&self) -> i64;
}

impl Sequenced for TaskEvent {
    fn seq(&self) -> i64 {
        self.seq
    }
}

impl Sequenced for AuditRecord {
    fn seq(&self) -> i64 {
        self.seq
    }
}

enum Signal<T> {
    Item(T),
    /// The server ended the stream in good order.
    Closed,
}

struct Follow<T> {
    client: Client,
    path: String,
    /// Sequence number of the last item that was handed out.
    last_seq: Option<i64>,
    reconnect: Reconnect,
    failures: u32,
    /// How long to wait before the next connection.
    wait: Duration,
    ever_connected: bool,
    open: Option<(Response, Parser)>,
    /// What has arrived and was not handed out. An event that cannot be read keeps its place behind those before it.
    ready: VecDeque<Result<T>>,
}

impl<T: Sequenced> Follow<T> {
    fn new(client: Client, path: String, last_seq: Option<i64>) -> Self {
        let reconnect = Reconnect::default();
        Self {
            client,
            path,
            last_seq,
            reconnect,
            failures: 0,
            wait: Duration::ZERO,
            ever_connected: false,
            open: None,
            ready: VecDeque::new(),
        }
    }

    async fn next(&mut self) -> Result<Signal<T>> {
        loop {
            while let Some(item) = self.ready.pop_front().transpose()? {
                // After a reconnect a server may repeat the item that the reader has; it is dropped here.
                if self.last_seq.is_none_or(|last| item.seq() > last) {
                    self.last_seq = Some(item.seq());
                    return Ok(Signal::Item(item));
                }
            }
            let outcome = match self.open.take() {
                None => self.connect().await.map(|()| None),
                Some((response, parser)) => self.read(response, parser).await,
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(signal)) => {
                    self.note_failure(answer::closed(&self.client))?;
                    return Ok(signal);
                }
                Err(fault) if self.ever_connected && is_passing(&fault) => self.note_failure(fault)?,
                Err(fault) => return Err(fault),
            }
        }
    }

    async fn connect(&mut self) -> Result<()> {
        tokio::time::sleep(std::mem::take(&mut self.wait)).await;
        let mut request = self.client.request(Method::GET, &self.path, &[])?.header(ACCEPT, "text/event-stream");
        if let Some(last) = self.last_seq {
            request = request.header("Last-Event-ID", last);
        }
        // Only the head of the answer is waited for; the body has no end.
        let response = tokio::time::timeout(IDLE_TIMEOUT, self.client.send(request));
        let response = response.await.unwrap_or_else(|_| Err(answer::silent(&self.client)))?;
        let response = answer::success(&self.client, response).await?;
        self.ever_connected = true;
        self.open = Some((response, Parser::default()));
        Ok(())
    }

    async fn read(&mut self, mut response: Response, mut parser: Parser) -> Result<Option<Signal<T>>> {
        let chunk = tokio::time::timeout(IDLE_TIMEOUT, response.chunk()).await;
        let chunk = chunk.map_err(|_| answer::silent(&self.client))?;
        let Some(bytes) = chunk.map_err(|error| answer::unreached(&self.client, &error))? else {
            return Ok(Some(Signal::Closed));
        };
        self.failures = 0;
        for message in parser.feed(&bytes)? {
            self.ready.push_back(serde_json::from_str(&message.data).map_err(|error| {
                let what = format!("an event '{}' of another shape", message.event);
                answer::malformed(&self.client, &what).detail(error)
            }));
        }
        self.open = Some((response, parser));
        Ok(None)
    }

    /// Makes the next attempt wait, or gives up with the reason of the last one.
    fn note_failure(&mut self, reason: Fault) -> Result<()> {
        self.failures += 1;
        if self.failures > self.reconnect.attempts_max {
            return Err(reason);
        }
        let doubled = self.reconnect.wait_min.saturating_mul(1 << (self.failures - 1).min(16));
        self.wait = doubled.max(reason.retry_after.unwrap_or_default()).min(self.reconnect.wait_max);
        Ok(())
    }
}

/// Whether the same request may succeed a little later.
fn is_passing(fault: &Fault) -> bool {
    const LOST: [Code; 2] = [Code::NOT_RUNNING, Code::CONNECT_FAILED];
    LOST.contains(&fault.code) || matches!(fault.code.entry().http_status, 429 | 503)
}

/// Events of one task in order, until the task has ended.
pub struct TaskEvents {
    task: TaskId,
    follow: Follow<TaskEvent>,
    /// A final state was reported; whether it still holds is asked before the stream is called ended.
    check_end: bool,
    ended: bool,
}

impl TaskEvents {
    pub(crate) fn new(client: Client, task: &TaskId, after_seq: i64) -> Self {
        let path = format!("/api/v1/tasks/{task}/events");
        let follow = Follow::new(client, path, Some(after_seq));
        Self { task: task.clone(), follow, check_end: false, ended: false }
    }

    #[must_use]
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.follow.reconnect = reconnect;
        self
    }

    /// The next event; `None` once the task is final and all its events were handed out.
    pub async fn next(&mut self) -> Result<Option<TaskEvent>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            if self.check_end && self.follow.ready.is_empty() {
                self.check_end = false;
                match self.has_ended().await {
                    Ok(ended) => self.ended = ended,
                    // The server went away just now; the stream's own reconnect finds out when it is back.
                    Err(fault) if is_passing(&fault) => self.follow.note_failure(fault)?,
                    Err(fault) => return Err(fault),
                }
                continue;
            }
            match self.follow.next().await? {
                Signal::Closed => self.check_end = true,
                Signal::Item(event) => {
                    self.check_end = event.state().is_some_and(TaskState::is_terminal);
                    return Ok(Some(event));
                }
            }
        }
    }

    /// A redriven task has a final state in the middle of its events, and a server may close a stream before its end:
    /// the task itself decides, and events that were not seen yet are fetched first.
    async fn has_ended(&mut self) -> Result<bool> {
        let client = self.follow.client.clone();
        if !client.get_task(&self.task).await?.state.is_terminal() {
            return Ok(false);
        }
        let last = self.follow.last_seq.unwrap_or(0);
        let rest = client.task_events(&self.task, last, PAGE_MAX).await?;
        let ended = rest.is_empty();
        self.check_end = !ended;
        self.follow.ready.extend(rest.into_iter().map(Ok));
        Ok(ended)
    }
}

impl std::fmt::Debug for TaskEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TaskEvents").field(&self.task).finish()
    }
}

/// Records of the audit log as they are written; never ends by itself.
pub struct AuditRecords {
    follow: Follow<AuditRecord>,
}

impl AuditRecords {
    pub(crate) fn new(client: Client, after_seq: Option<i64>) -> Self {
        Self { follow: Follow::new(client, "/api/v1/audit/stream".to_owned(), after_seq) }
    }

    #[must_use]
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.follow.reconnect = reconnect;
        self
    }

    /// The next record. A stream that the server closed is taken up again.
    pub async fn next(&mut self) -> Result<AuditRecord> {
        loop {
            if let Signal::Item(record) = self.follow.next().await? {
                return Ok(record);
            }
        }
    }
}

impl std::fmt::Debug for AuditRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditRecords")
    }
}
