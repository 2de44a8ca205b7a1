//! Steps: what a task asked the world for, and what came of it. `started` before the act, `done` or `failed` after it.
//!
//! A recorded result is never asked for again. A step whose outcome nobody knows is sent again only if it was declared
//! idempotent or keyed; an unsafe one waits for a person.

use agentos_base::trace::TraceContext;
use agentos_failpoint::{Point, hit};
use agentos_store::{Conn, Tx};
use agentos_types::{
    Code, Envelope, Fault, Result, TaskId, Timestamp,
    limits::{STEP_KEY_BYTES_MAX, STEPS_PER_TASK_MAX},
    notify::Notice,
    task::Safety,
};
use serde_json::{Value, json};

use crate::{
    Lease, NewStep, StepStart, Tasks,
    payload::corrupt,
    spans::StepTold,
    transition::{self, insert_event, lease_lost},
    worker::next_event_of,
};

/// Faults that are raised before anything is sent, so that an unsafe step which ended in one of them has not happened.
/// Everything else leaves an unsafe step in doubt: a timeout or a broken answer says nothing about the other side.
const BEFORE_THE_ACT: &[Code] = &[
    Code::STORE_UNAVAILABLE,
    Code::STORE_BUSY,
    Code::PAYLOAD_TOO_LARGE,
    Code::NOT_GRANTED,
    Code::SYSCALL_UNKNOWN,
    Code::SYSCALL_INVALID,
    Code::RATE_LIMITED,
    Code::AUDIT_UNAVAILABLE,
    Code::ADDRESS_DENIED,
    Code::NAME_UNRESOLVED,
    Code::CONNECT_FAILED,
    Code::URL_INVALID,
    Code::FILE_DENIED,
    Code::FILE_UNAVAILABLE,
    Code::KV_CONFLICT,
    Code::KV_LIMIT,
    Code::SECRET_NOT_FOUND,
    Code::SECRET_KEY_UNUSABLE,
];

/// A step as it stands in the journal.
struct Found {
    seq: i64,
    syscall: String,
    status: Status,
    safety: Safety,
    request_hash: String,
    fence: i64,
    traceparent: String,
    started_at: Timestamp,
    /// Set on a started step when its act ended without telling whether it happened.
    finished: bool,
    result: Option<Envelope>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Started,
    Done,
    Failed,
}

/// What the row says about the attempt that wants to go on.
pub(crate) struct Held {
    step_seq: i64,
    input_fence: i64,
}

impl Tasks {
    /// Before the act, in the transaction that also records the intent.
    pub fn begin_step(&self, tx: &mut Tx<'_>, lease: &Lease, step: &NewStep) -> Result<StepStart> {
        if step.key.is_empty() || step.key.len() > STEP_KEY_BYTES_MAX {
            return Err(Fault::new(Code::SYSCALL_INVALID, format!("a step key has 1 to {STEP_KEY_BYTES_MAX} bytes")));
        }
        let now = self.core.ambient.now();
        let held = check_lease(tx, lease, now)?;
        let found = find(tx, &lease.task, &step.key)?;
        let traceparent = self.core.ambient.child_traceparent(&lease.traceparent);
        let seq = match found {
            None => insert(tx, lease, step, &held, &traceparent, now)?,
            Some(found) => match judge(found, step, lease, &held)? {
                Judgement::Recorded(result, traceparent) => {
                    self.core.trace_replay(tx, lease, &step.key, step.syscall, &traceparent);
                    return Ok(StepStart::Recorded(result.open_value()?));
                }
                Judgement::Again(seq) => {
                    start_again(tx, lease, step, &traceparent, now)?;
                    seq
                }
            },
        };
        if let Some(context) = self.core.ambient.tracer().wanted(&traceparent) {
            tx.traced(context, "intent");
        }
        Ok(StepStart::Fresh { seq, traceparent })
    }

    /// After the act, in the transaction that also records the outcome. Only the attempt that began the step can end it.
    pub fn finish_step(
        &self,
        tx: &mut Tx<'_>,
        lease: &Lease,
        key: &str,
        outcome: std::result::Result<&Value, &Fault>,
    ) -> Result<()> {
        let now = self.core.ambient.now();
        let seq = next_event_of(tx, lease, now)?;
        let found = find(tx, &lease.task, key)?
            .filter(|found| found.status == Status::Started && found.fence == lease.fence && !found.finished)
            .ok_or_else(|| Fault::new(Code::STEP_CONFLICT, format!("step '{key}' was not begun by this attempt")))?;
        let result = outcome.ok().map(Envelope::seal).transpose()?;
        let (status, shown) = match outcome {
            Ok(_) => (Status::Done, "done"),
            Err(fault) if found.safety == Safety::Unsafe && !BEFORE_THE_ACT.contains(&fault.code) => {
                (Status::Started, "in-doubt")
            }
            Err(_) => (Status::Failed, "failed"),
        };
        tx.execute(
            "UPDATE step SET status = $4, result_key = $5, result = $6, finished_at = $7
             WHERE task = $1 AND key = $2 AND fence = $3",
            &[
                (&lease.task).into(),
                key.into(),
                lease.fence.into(),
                status.as_str().into(),
                result.as_ref().map(|sealed| sealed.key_id).into(),
                result.as_ref().map(|sealed| &sealed.bytes).into(),
                now.into(),
            ],
        )?;
        hit(Point::TasksStepFinished);
        let mut data = json!({"key": key, "syscall": found.syscall, "status": shown});
        if let (Err(fault), Some(data)) = (outcome, data.as_object_mut()) {
            data.insert("code".into(), json!(fault.code));
        }
        insert_event(tx, &lease.task, seq, now, "step", &data)?;
        if let Some(context) = self.core.ambient.tracer().wanted(&found.traceparent) {
            let told = StepTold {
                lease_of: (&lease.task, lease.fence),
                key,
                syscall: &found.syscall,
                traceparent: &found.traceparent,
                started_at: found.started_at,
                status: shown,
                code: outcome.err().map(|fault| fault.code.to_string()),
            };
            self.core.trace_step(tx, TraceContext::parse(&lease.traceparent), &told, now);
            tx.traced(context, "outcome");
        }
        tx.announce(Notice::TaskEvents(lease.task.clone()));
        Ok(())
    }
}

impl Tasks {
    /// Whether this attempt has written already what came of the step. For whoever lost the answer to that write.
    pub fn is_step_settled(&self, conn: &Conn<'_>, lease: &Lease, key: &str) -> Result<bool> {
        let found = find(conn, &lease.task, key)?;
        Ok(found.is_some_and(|found| found.fence == lease.fence && found.finished))
    }
}

/// The lease is held, nobody asked to cancel, the deadline has not passed.
pub(crate) fn check_lease(conn: &Conn<'_>, lease: &Lease, now: Timestamp) -> Result<Held> {
    let found = conn.query_one(
        "SELECT cancel_asked_at, deadline_at, step_seq, input_fence FROM task
         WHERE id = $1 AND fence = $2 AND state = 'working'",
        &[(&lease.task).into(), lease.fence.into()],
        |row| {
            let held = Held { step_seq: row.integer(2)?, input_fence: row.integer(3)? };
            Ok((row.time_or_null(0)?, row.time_or_null(1)?, held))
        },
    )?;
    match found {
        None => Err(lease_lost(&lease.task, lease.fence)),
        Some((Some(_), _, _)) => {
            Err(Fault::new(Code::TASK_CANCELED, format!("{} is being canceled", lease.task))
                .hint("stop work on the task"))
        }
        Some((_, Some(deadline), _)) if deadline <= now => {
            Err(Fault::new(Code::TASK_DEADLINE, format!("the deadline {deadline} of {} has passed", lease.task)))
        }
        Some((_, _, held)) => Ok(held),
    }
}

/// The key of an unsafe step of the task whose outcome is unknown, if there is one.
pub(crate) fn step_in_doubt(conn: &Conn<'_>, task: &TaskId) -> Result<Option<String>> {
    conn.query_one(
        "SELECT key FROM step WHERE task = $1 AND status = 'started' AND safety = 'unsafe' ORDER BY seq LIMIT 1",
        &[task.into()],
        |row| row.text(0),
    )
}

/// A person decided that steps in doubt are to be sent again.
pub(crate) fn send_again(conn: &Conn<'_>, task: &TaskId) -> Result<usize> {
    conn.execute("UPDATE step SET status = 'failed' WHERE task = $1 AND status = 'started'", &[task.into()])
}

enum Judgement {
    /// The result, and the traceparent of the span that got it.
    Recorded(Envelope, String),
    Again(i64),
}

/// What a step that is already in the journal means for a call with its key.
fn judge(found: Found, step: &NewStep, lease: &Lease, held: &Held) -> Result<Judgement> {
    let same = found.request_hash == step.request_hash && found.syscall == step.syscall;
    // After the input was edited, what earlier attempts asked for under this key no longer binds.
    let outdated = found.fence <= held.input_fence;
    match found.status {
        Status::Done if same => {
            let result = found.result.ok_or_else(|| corrupt("result of step", &step.key))?;
            Ok(Judgement::Recorded(result, found.traceparent))
        }
        Status::Done if outdated => Ok(Judgement::Again(found.seq)),
        Status::Done => Err(conflict(step, "was used for another request")),
        Status::Failed => Ok(Judgement::Again(found.seq)),
        Status::Started if found.fence == lease.fence && !found.finished => {
            Err(conflict(step, "is in progress in this very attempt"))
        }
        Status::Started if found.safety == Safety::Unsafe => Err(in_doubt(step)),
        Status::Started if same || outdated => Ok(Judgement::Again(found.seq)),
        Status::Started => Err(conflict(step, "was used for another request")),
    }
}

fn conflict(step: &NewStep, how: &str) -> Fault {
    Fault::new(Code::STEP_CONFLICT, format!("step key '{}' {how}", step.key))
        .hint("give every call of a task its own key, the same on each attempt")
}

fn in_doubt(step: &NewStep) -> Fault {
    Fault::new(
        Code::STEP_IN_DOUBT,
        format!("step '{}' ({}) was started before, its outcome is unknown", step.key, step.syscall),
    )
    .hint("check at the receiver, then: agent-os task retry, or agent-os task cancel")
}

fn find(conn: &Conn<'_>, task: &TaskId, key: &str) -> Result<Option<Found>> {
    conn.query_one(
        "SELECT seq, syscall, status, safety, request_hash, fence, finished_at, result_key, result, traceparent, started_at
         FROM step WHERE task = $1 AND key = $2",
        &[task.into(), key.into()],
        |row| {
            let (status, safety) = (row.text(2)?, row.text(3)?);
            let result = match (row.integer_or_null(7)?, row.bytes_or_null(8)?) {
                (Some(key_id), Some(bytes)) => Some(Envelope { key_id, bytes }),
                _ => None,
            };
            Ok(Found {
                seq: row.integer(0)?,
                syscall: row.text(1)?,
                status: Status::parse(&status).ok_or_else(|| corrupt("step status", &status))?,
                safety: Safety::parse(&safety).ok_or_else(|| corrupt("safety", &safety))?,
                request_hash: row.text(4)?,
                fence: row.integer(5)?,
                traceparent: row.text(9)?,
                started_at: row.time(10)?,
                finished: row.integer_or_null(6)?.is_some(),
                result,
            })
        },
    )
}

fn insert(
    conn: &Conn<'_>,
    lease: &Lease,
    step: &NewStep,
    held: &Held,
    traceparent: &str,
    now: Timestamp,
) -> Result<i64> {
    if held.step_seq >= STEPS_PER_TASK_MAX {
        return Err(Fault::new(Code::STEP_LIMIT, format!("the task used all of its {STEPS_PER_TASK_MAX} steps"))
            .hint("look for a loop in the agent, or split the work into several tasks"));
    }
    let seq = conn
        .query_one(
            "UPDATE task SET step_seq = step_seq + 1 WHERE id = $1 AND fence = $2 AND state = 'working'
             RETURNING step_seq",
            &[(&lease.task).into(), lease.fence.into()],
            |row| row.integer(0),
        )?
        .ok_or_else(|| transition::lease_lost(&lease.task, lease.fence))?;
    conn.execute(
        "INSERT INTO step (task, key, seq, syscall, status, safety, request_hash, fence, traceparent, started_at)
         VALUES ($1, $2, $3, $4, 'started', $5, $6, $7, $8, $9)",
        &[
            (&lease.task).into(),
            (&step.key).into(),
            seq.into(),
            step.syscall.into(),
            step.safety.as_str().into(),
            (&step.request_hash).into(),
            lease.fence.into(),
            traceparent.into(),
            now.into(),
        ],
    )?;
    hit(Point::TasksStepInserted);
    Ok(seq)
}

fn start_again(conn: &Conn<'_>, lease: &Lease, step: &NewStep, traceparent: &str, now: Timestamp) -> Result<()> {
    conn.execute(
        "UPDATE step SET status = 'started', syscall = $3, safety = $4, request_hash = $5, fence = $6, traceparent = $7,
           started_at = $8, finished_at = NULL, result_key = NULL, result = NULL
         WHERE task = $1 AND key = $2",
        &[
            (&lease.task).into(),
            (&step.key).into(),
            step.syscall.into(),
            step.safety.as_str().into(),
            (&step.request_hash).into(),
            lease.fence.into(),
            traceparent.into(),
            now.into(),
        ],
    )?;
    hit(Point::TasksStepAgain);
    Ok(())
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Status::Started => "started",
            Status::Done => "done",
            Status::Failed => "failed",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Status::Started, Status::Done, Status::Failed].into_iter().find(|status| status.as_str() == text)
    }
}
