//! One task row in a transaction: load it, change it, save it under the guard of the fence and state that were read.
//!
//! Every change of state passes [`Core::save`], which also appends the `state` event and wakes whoever waits for it.

use agentos_failpoint::{Point, hit};
use agentos_store::{Conn, Row, Tx};
use agentos_types::{
    Actor, Code, Envelope, Fault, Result, TaskId, Timestamp,
    audit::{AuditEvent, Decision},
    notify::Notice,
    task::{ErrorClass, Failure, Task, TaskState},
};
use serde_json::{Map, Value, json};

use crate::{Core, payload::corrupt, sweep::LOOK_EVERY};

/// Output up to this size rides in the `state` event; readers fetch larger ones from the task.
const EVENT_OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// Columns in the order that [`Record::read`] expects.
macro_rules! task_columns {
    () => {
        "id, agent, state, input_key, input, output_key, output, failure_class, failure_code, failure_message, \
         failure_retry_after_s, attempt, attempts_max, submitted_by, submitted_at, updated_at, run_at, deadline_at, \
         cancel_asked_at, schedule, traceparent, redrives, fence, input_fence, event_seq"
    };
}
pub(crate) use task_columns;

/// A task with what readers do not see.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) task: Task,
    pub(crate) fence: i64,
    pub(crate) input_fence: i64,
    pub(crate) event_seq: i64,
}

/// What a row must still be when it is saved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    fence: i64,
    state: TaskState,
}

impl Guard {
    pub(crate) fn fence(self) -> i64 {
        self.fence
    }

    pub(crate) fn state(self) -> TaskState {
        self.state
    }
}

impl Record {
    pub(crate) fn read(row: &Row<'_>) -> Result<Self> {
        let state = row.text(2)?;
        let output = match row.integer_or_null(5)? {
            Some(key_id) => Some(Envelope { key_id, bytes: row.bytes(6)? }.open_value()?),
            None => None,
        };
        let task = Task {
            id: row.parsed(0)?,
            agent: row.parsed(1)?,
            state: TaskState::parse(&state).ok_or_else(|| corrupt("state", &state))?,
            input: Envelope { key_id: row.integer(3)?, bytes: row.bytes(4)? }.open_value()?,
            output,
            failure: read_failure(row)?,
            attempt: row.integer(11)?,
            attempts_max: row.integer(12)?,
            submitted_by: row.text(13)?,
            submitted_at: row.time(14)?,
            updated_at: row.time(15)?,
            run_at: row.time(16)?,
            deadline_at: row.time_or_null(17)?,
            cancel_asked_at: row.time_or_null(18)?,
            schedule: row.parsed_or_null(19)?,
            traceparent: row.text(20)?,
            redrives: row.integer(21)?,
        };
        Ok(Self { task, fence: row.integer(22)?, input_fence: row.integer(23)?, event_seq: row.integer(24)? })
    }

    pub(crate) fn guard(&self) -> Guard {
        Guard { fence: self.fence, state: self.task.state }
    }
}

fn read_failure(row: &Row<'_>) -> Result<Option<Failure>> {
    let Some(class) = row.text_or_null(7)? else { return Ok(None) };
    Ok(Some(Failure {
        class: ErrorClass::parse(&class).ok_or_else(|| corrupt("failure class", &class))?,
        code: row.parsed_or_null(8)?,
        message: row.text_or_null(9)?.unwrap_or_default(),
        retry_after_s: row.integer_or_null(10)?.and_then(|seconds| u64::try_from(seconds).ok()),
    }))
}

/// The row of a task, or AOS-1201.
pub(crate) fn load(conn: &Conn<'_>, id: &TaskId) -> Result<Record> {
    conn.query_one(concat!("SELECT ", task_columns!(), " FROM task WHERE id = $1"), &[id.into()], Record::read)?
        .ok_or_else(|| not_found(id))
}

pub(crate) fn not_found(id: &TaskId) -> Fault {
    Fault::new(Code::TASK_NOT_FOUND, format!("there is no task {id}")).hint("list tasks with: agent-os task list")
}

pub(crate) fn lease_lost(id: &TaskId, fence: i64) -> Fault {
    Fault::new(Code::LEASE_LOST, format!("lease {fence} of {id} is over"))
        .hint("stop work on the task; whoever holds it now goes on")
}

/// Appends one event. The caller has taken `seq` from the task's row in this transaction.
pub(crate) fn insert_event(
    conn: &Conn<'_>,
    id: &TaskId,
    seq: i64,
    at: Timestamp,
    kind: &str,
    data: &Value,
) -> Result<()> {
    let sealed = Envelope::seal(data)?;
    conn.execute_later(
        "INSERT INTO task_event (task, seq, at, kind, data_key, data) VALUES ($1, $2, $3, $4, $5, $6)",
        &[id.into(), seq.into(), at.into(), kind.into(), sealed.key_id.into(), (&sealed.bytes).into()],
    )
}

impl Core {
    /// Writes `record` if its row is still as `guard` says, appends its `state` event, announces it.
    pub(crate) fn save(&self, tx: &mut Tx<'_>, guard: Guard, record: &mut Record) -> Result<()> {
        let now = self.ambient.now();
        record.task.updated_at = now;
        let task = &record.task;
        let input = Envelope::seal(&task.input)?;
        let output = task.output.as_ref().map(Envelope::seal).transpose()?;
        let failure = task.failure.as_ref();
        let code = failure.and_then(|failure| failure.code).map(|code| code.to_string());
        let wait_s = failure.and_then(|failure| failure.retry_after_s).and_then(|wait| i64::try_from(wait).ok());
        let seq = tx.query_one(
            "UPDATE task SET state = $4, input_key = $5, input = $6, output_key = $7, output = $8, failure_class = $9,
               failure_code = $10, failure_message = $11, failure_retry_after_s = $12, attempt = $13,
               attempts_max = $14, updated_at = $15, run_at = $16, deadline_at = $17, cancel_asked_at = $18,
               redrives = $19, fence = $20, input_fence = $21, event_seq = event_seq + 1,
               lease_node = CASE WHEN $4 = 'working' THEN lease_node END,
               lease_until = CASE WHEN $4 = 'working' THEN lease_until END
             WHERE id = $1 AND fence = $2 AND state = $3 RETURNING event_seq",
            &[
                (&task.id).into(),
                guard.fence.into(),
                guard.state.as_str().into(),
                task.state.as_str().into(),
                input.key_id.into(),
                (&input.bytes).into(),
                output.as_ref().map(|sealed| sealed.key_id).into(),
                output.as_ref().map(|sealed| &sealed.bytes).into(),
                failure.map(|failure| failure.class.as_str()).into(),
                code.as_ref().into(),
                failure.map(|failure| &failure.message).into(),
                wait_s.into(),
                task.attempt.into(),
                task.attempts_max.into(),
                now.into(),
                task.run_at.into(),
                task.deadline_at.into(),
                task.cancel_asked_at.into(),
                task.redrives.into(),
                record.fence.into(),
                record.input_fence.into(),
            ],
            |row| row.integer(0),
        )?;
        let seq = seq.ok_or_else(|| lease_lost(&task.id, guard.fence))?;
        hit(Point::TasksSaveUpdated);
        insert_event(tx, &task.id, seq, now, "state", &state_event(task, output.as_ref()))?;
        record.event_seq = seq;
        tx.announce(Notice::TaskEvents(record.task.id.clone()));
        self.announce_work(tx, &record.task);
        hit(Point::TasksSaveAnnounced);
        Ok(())
    }

    /// A waiting task wakes its agent now, or the sweeper when its time comes.
    pub(crate) fn announce_work(&self, tx: &mut Tx<'_>, task: &Task) {
        if task.state != TaskState::Submitted {
            return;
        }
        if task.run_at <= self.ambient.now() {
            tx.announce(Notice::WorkFor(task.agent.clone()));
        } else {
            self.wake_before(task.run_at);
        }
    }

    /// Rings the sweeper if `at` comes before it looks by itself.
    pub(crate) fn wake_before(&self, at: Timestamp) {
        if at <= self.ambient.now().after(LOOK_EVERY) {
            self.wake.notify_one();
        }
    }

    /// The audit fact of a change of a task.
    pub(crate) fn audit(&self, actor: &Actor, action: &str, task: &Task) -> AuditEvent {
        let event = AuditEvent::new(
            self.ambient.event_id(),
            self.ambient.now(),
            actor.clone(),
            action.to_owned(),
            task.id.to_string(),
        )
        .task(Some(task.id.clone()))
        .fact("agent", task.agent.as_str())
        .fact("state", task.state.as_str())
        .fact("attempt", task.attempt);
        match &task.failure {
            Some(failure) if task.state != TaskState::Completed => {
                let event = event.decision(Decision::Failed).fact("class", failure.class.as_str());
                match failure.code {
                    Some(code) => event.fact("code", code.to_string()),
                    None => event,
                }
            }
            _ => event,
        }
    }
}

/// What observers of the task learn from a change of its state.
pub(crate) fn state_event(task: &Task, output: Option<&Envelope>) -> Value {
    let mut data = Map::new();
    data.insert("state".into(), json!(task.state));
    data.insert("attempt".into(), json!(task.attempt));
    if let (Some(value), Some(sealed)) = (&task.output, output) {
        if sealed.bytes.len() <= EVENT_OUTPUT_BYTES_MAX {
            data.insert("output".into(), value.clone());
        } else {
            data.insert("output_bytes".into(), json!(sealed.bytes.len()));
        }
    }
    if let Some(failure) = &task.failure {
        data.insert("failure".into(), json!(failure));
    }
    if task.state == TaskState::Submitted && task.run_at > task.updated_at {
        data.insert("run_at".into(), json!(task.run_at));
    }
    if task.state == TaskState::Working && task.cancel_asked_at.is_some() {
        data.insert("cancel_asked".into(), json!(true));
    }
    Value::Object(data)
}
