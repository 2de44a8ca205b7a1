//! A kernel in memory: values, schedules, alerts and a journal that outlive a worker, and sources to look at.
//!
//! A worker can be killed at any of its calls: before the effect, after the effect but before its record (for calls that
//! reach outside), or after the record. Its own store commits effect and record together, as the real kernel does.

use std::{
    collections::BTreeMap,
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use agentos_sdk::{
    CallError, Code, ErrorClass, FetchResult, FileEntry, FileListResult, FileReadResult, NotifyEvent, NotifyWebhook,
    SchedulePut, Syscall, TaskError, TaskId, Timestamp, Value, json,
};

use crate::{handle, kernel::Kernel, record::Watch};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    BeforeEffect,
    BeforeRecord,
    AfterRecord,
}

pub const DEATHS: [Death; 3] = [Death::BeforeEffect, Death::BeforeRecord, Death::AfterRecord];

#[derive(Default)]
pub struct World {
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    pub kv: BTreeMap<String, (Value, i64)>,
    pub schedules: BTreeMap<String, SchedulePut>,
    /// Published events only.
    pub events: Vec<NotifyEvent>,
    /// With the idempotency key that the receiver sees.
    pub webhooks: Vec<(String, NotifyWebhook)>,
    pub pages: BTreeMap<String, Result<FetchResult, CallError>>,
    pub files: BTreeMap<String, (Vec<u8>, Timestamp)>,
    pub directories: BTreeMap<String, Vec<FileEntry>>,
    pub webhook_fails: Option<CallError>,
    pub event_fails: Option<CallError>,
    pub journal: BTreeMap<(TaskId, String), (String, Value)>,
    /// Calls that were carried out, by name.
    pub done: Vec<&'static str>,
}

/// One attempt of one task.
pub struct Worker<'w> {
    world: &'w World,
    task: TaskId,
    attempt: i64,
    calls: AtomicUsize,
    /// Dies at the call of this number, from 0.
    dies: Option<(usize, Death)>,
    /// Waits once before the call of this number.
    pub pauses: Option<usize>,
}

pub fn task(number: u64) -> TaskId {
    let at = Timestamp::from_millis(1_795_392_000_000 + i64::try_from(number).unwrap() * 1_000);
    TaskId::generate(at, u128::from(number))
}

pub fn failing(code: Code, class: ErrorClass) -> CallError {
    CallError { code, message: "as the test wishes".into(), class, retry_after_ms: None }
}

/// Runs until the future is done, dead or paused: nothing here ever waits for time.
pub fn step<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

impl World {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn worker(&self, number: u64, attempt: i64) -> Worker<'_> {
        Worker { world: self, task: task(number), attempt, calls: AtomicUsize::new(0), dies: None, pauses: None }
    }

    /// A whole task on a worker that lives.
    pub fn run(&self, number: u64, input: Value) -> Result<Value, TaskError> {
        self.attempt(number, 1, None, input).unwrap()
    }

    /// `None`: the worker died.
    pub fn attempt(
        &self,
        number: u64,
        attempt: i64,
        dies: Option<(usize, Death)>,
        input: Value,
    ) -> Option<Result<Value, TaskError>> {
        let worker = Worker { dies, ..self.worker(number, attempt) };
        step(pin!(handle(&worker, input)))
    }

    pub fn page(&self, url: &str, body: &str) {
        let headers = BTreeMap::from([
            ("content-type".to_owned(), "text/html".to_owned()),
            ("etag".to_owned(), format!("\"{}\"", crate::hash::short(body))),
        ]);
        self.page_with(url, 200, headers, body);
    }

    pub fn page_with(&self, url: &str, status: u16, headers: BTreeMap<String, String>, body: &str) {
        let (bytes, encoding) = (body.len() as u64, "utf-8".to_owned());
        let answer = FetchResult { status, url: url.into(), headers, body: body.into(), encoding, bytes };
        self.state().pages.insert(url.into(), Ok(answer));
    }

    pub fn page_fails(&self, url: &str, error: CallError) {
        self.state().pages.insert(url.into(), Err(error));
    }

    pub fn watch(&self, name: &str) -> Watch {
        let state = self.state();
        serde_json::from_value(state.kv[&format!("watch/{name}")].0.clone()).unwrap()
    }

    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.state().kv.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    pub fn events(&self, kind: &str) -> Vec<Value> {
        self.state().events.iter().filter(|event| event.kind == kind).map(|event| event.data.clone()).collect()
    }
}

impl Kernel for Worker<'_> {
    fn task(&self) -> &TaskId {
        &self.task
    }

    fn attempt(&self) -> i64 {
        self.attempt
    }

    async fn call(&self, step: String, call: Syscall) -> Result<Value, CallError> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let dies = |death| self.dies == Some((number, death));
        if self.pauses == Some(number) {
            let mut waited = false;
            poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        }
        if dies(Death::BeforeEffect) {
            pending::<()>().await;
        }
        assert!(step.len() <= 200, "step key too long: {step}");
        let outside = matches!(call, Syscall::NetFetch(_) | Syscall::NotifyWebhook(_));
        let result = self.world.state().perform(&self.task, &step, call, outside && dies(Death::BeforeRecord));
        if dies(Death::BeforeRecord) || dies(Death::AfterRecord) {
            pending::<()>().await;
        }
        result
    }
}

impl State {
    fn perform(&mut self, task: &TaskId, step: &str, call: Syscall, unrecorded: bool) -> Result<Value, CallError> {
        let request = serde_json::to_string(&call).unwrap();
        let key = (task.clone(), step.to_owned());
        if let Some((recorded, result)) = self.journal.get(&key) {
            assert_eq!(*recorded, request, "step {step} was used for two different calls");
            return Ok(result.clone());
        }
        self.done.push(call.name());
        let result = self.carry_out(&format!("{task} {step}"), call)?;
        if !unrecorded {
            self.journal.insert(key, (request, result.clone()));
        }
        Ok(result)
    }

    fn carry_out(&mut self, idempotency_key: &str, call: Syscall) -> Result<Value, CallError> {
        let missing = || failing(Code::FILE_UNAVAILABLE, ErrorClass::Permanent);
        Ok(match call {
            Syscall::NetFetch(fetch) => {
                let unknown = || Err(failing(Code::CONNECT_FAILED, ErrorClass::Transient));
                let mut answer = self.pages.get(&fetch.url).cloned().unwrap_or_else(unknown)?;
                if fetch.headers.contains_key("if-none-match")
                    && fetch.headers.get("if-none-match") == answer.headers.get("etag")
                {
                    (answer.status, answer.body) = (304, String::new());
                }
                json!(answer)
            }
            Syscall::FileRead(read) => {
                let (bytes, modified_at) = self.files.get(&read.path).ok_or_else(missing)?;
                let rest = &bytes[bytes.len().min(read.offset as usize)..];
                let piece = &rest[..rest.len().min(read.max_bytes.unwrap_or(u64::MAX) as usize)];
                json!(FileReadResult {
                    content: base64::Engine::encode(&base64::engine::general_purpose::STANDARD, piece),
                    encoding: "base64".into(),
                    bytes: piece.len() as u64,
                    size: bytes.len() as u64,
                    modified_at: *modified_at,
                })
            }
            // Its manifest grants none of them.
            Syscall::ShellExec(_) | Syscall::CodeRun(_) | Syscall::ModelCall(_) => {
                return Err(failing(Code::NOT_GRANTED, ErrorClass::Denied));
            }
            Syscall::FileList(list) => {
                let entries = self.directories.get(&list.path).ok_or_else(missing)?.clone();
                json!(FileListResult { entries, truncated: false })
            }
            Syscall::NotifyEvent(event) => {
                if let Some(error) = &self.event_fails {
                    return Err(error.clone());
                }
                let published = self.events.iter().all(|known| known.dedupe_key != event.dedupe_key);
                if published {
                    self.events.push(event);
                }
                json!({"published": published})
            }
            Syscall::NotifyWebhook(webhook) => {
                if let Some(error) = &self.webhook_fails {
                    return Err(error.clone());
                }
                self.webhooks.push((idempotency_key.to_owned(), webhook));
                json!({"status": 200})
            }
            Syscall::KvGet(get) => {
                let found = self.kv.get(&get.key).cloned();
                let version = found.as_ref().map_or(0, |(_, version)| *version);
                json!({"value": found.map(|(value, _)| value), "version": version})
            }
            Syscall::KvPut(put) => {
                let version = self.kv.get(&put.key).map_or(0, |(_, version)| *version);
                if put.if_version.is_some_and(|wanted| wanted != version) {
                    return Err(failing(Code::KV_CONFLICT, ErrorClass::Permanent));
                }
                assert!(put.value.to_string().len() <= 1024 * 1024, "value of {} is too large", put.key);
                self.kv.insert(put.key, (put.value, version + 1));
                json!({"version": version + 1})
            }
            Syscall::KvDelete(delete) => json!({"existed": self.kv.remove(&delete.key).is_some()}),
            Syscall::KvList(list) => {
                let keys: Vec<_> = self.kv.keys().filter(|key| key.starts_with(&list.prefix)).collect();
                json!({"keys": keys, "truncated": false})
            }
            Syscall::SchedulePut(put) => {
                self.schedules.insert(put.name.clone(), put);
                json!({"next_at": 0})
            }
            Syscall::ScheduleDelete(delete) => json!({"existed": self.schedules.remove(&delete.name).is_some()}),
            Syscall::ScheduleList(_) => json!({"schedules": []}),
        })
    }
}
