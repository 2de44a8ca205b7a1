//! The spans of tasks, made from their rows in the transaction that ends what they tell of.
//!
//! The id of a submission and of a step stands in its row, that of an attempt follows from the submission and the fence.
//! So the attempt that a crash cut short can be told of by the next start, with the ids that its steps already named as
//! their parent. What was on its way to the collector when the process died is told again from the rows, under the same
//! ids: receivers keep one of two spans with one id. Nothing is computed for a trace that nobody records.

use agentos_base::{
    names,
    trace::{Kind, Span, TraceContext},
};
use agentos_store::{Conn, Tx};
use agentos_types::{
    Envelope, Result, TaskId, Timestamp,
    task::{Task, TaskState},
};

use crate::{Core, Lease};

/// Steps of one interrupted attempt that are told again; the newest are the ones that may be lost.
const STEPS_TOLD_AGAIN_MAX: i64 = 1_000;
/// `state` events that are looked through for the start of an attempt: a request to cancel writes one as well.
const STATES_LOOKED_AT: i64 = 4;

/// What a span of a step tells.
pub(crate) struct StepTold<'a> {
    pub(crate) lease_of: (&'a TaskId, i64),
    pub(crate) key: &'a str,
    pub(crate) syscall: &'a str,
    pub(crate) traceparent: &'a str,
    pub(crate) started_at: Timestamp,
    pub(crate) status: &'static str,
    pub(crate) code: Option<String>,
}

/// The span of the attempt with this fence.
pub(crate) fn attempt_context(task: TraceContext, fence: i64) -> TraceContext {
    task.derived(fence)
}

impl Core {
    /// A task was taken in. Ends at once: the wait for a worker is the gap up to the first attempt.
    pub(crate) fn trace_submission(&self, tx: &mut Tx<'_>, task: &Task, parent: Option<&str>) {
        let Some(context) = self.ambient.tracer().wanted(&task.traceparent) else { return };
        let span =
            Span::new(format!("{} {}", names::spans::SUBMIT, task.agent), Kind::Producer, context, task.submitted_at)
                .parent(parent.and_then(TraceContext::parse))
                .ended(self.ambient.now());
        tx.trace(about(span, &task.id).text(names::GEN_AI_AGENT_NAME, task.agent.to_string()));
        tx.traced(context, "submit");
    }

    /// An attempt is over: it ended, or its lease did. `fence` is the one that it held.
    pub(crate) fn trace_attempt(&self, tx: &mut Tx<'_>, task: &Task, fence: i64, interrupted: bool) -> Result<()> {
        let Some(submission) = self.ambient.tracer().wanted(&task.traceparent) else { return Ok(()) };
        let (context, now) = (attempt_context(submission, fence), self.ambient.now());
        let (started_at, attempt) = attempt_start(tx, &task.id)?.unwrap_or((task.updated_at, task.attempt));
        let failed = match (&task.failure, task.state) {
            _ if interrupted => Some("interrupted".to_owned()),
            (_, TaskState::Completed | TaskState::Canceled) | (None, _) => None,
            (Some(failure), _) => {
                Some(failure.code.map_or_else(|| failure.class.as_str().to_owned(), |code| code.to_string()))
            }
        };
        let mut span =
            Span::new(format!("{} {}", names::spans::INVOKE_AGENT, task.agent), Kind::Internal, context, started_at)
                .parent(Some(submission))
                .link((fence > 1).then(|| attempt_context(submission, fence - 1)))
                .ended(now)
                .text(names::GEN_AI_OPERATION_NAME, "invoke_agent")
                .text(names::GEN_AI_AGENT_NAME, task.agent.to_string())
                .text(names::TASK_STATE, task.state.as_str())
                .integer(names::TASK_ATTEMPT, attempt)
                .integer(names::TASK_FENCE, fence)
                .failed(failed);
        if interrupted {
            span = span.flag(names::INTERRUPTED, true);
            self.trace_steps_again(tx, &task.id, fence, context)?;
        }
        tx.trace(about(span, &task.id));
        tx.traced(context, "finish");
        Ok(())
    }

    /// A step ended. Made from its row, so that ids and times are those of the journal.
    pub(crate) fn trace_step(
        &self,
        tx: &mut Tx<'_>,
        attempt: Option<TraceContext>,
        told: &StepTold<'_>,
        ended_at: Timestamp,
    ) {
        let Some(context) = self.ambient.tracer().wanted(told.traceparent) else { return };
        let (task, fence) = told.lease_of;
        let span = tool_span(told.syscall, told.key, context, told.started_at)
            .parent(attempt)
            .ended(ended_at)
            .text(names::DECISION, "allowed")
            .text(names::STEP_STATUS, told.status)
            .integer(names::TASK_FENCE, fence)
            .failed(told.code.clone().or_else(|| (told.status == "interrupted").then(|| told.status.to_owned())));
        tx.trace(about(span, task));
    }

    /// A later attempt asked for a step that is done: the journal answered.
    pub(crate) fn trace_replay(&self, tx: &mut Tx<'_>, lease: &Lease, key: &str, syscall: &str, done: &str) {
        let Some(attempt) = self.ambient.tracer().wanted(&lease.traceparent) else { return };
        let span = tool_span(syscall, key, attempt.child(&self.ambient), self.ambient.now())
            .parent(Some(attempt))
            .link(TraceContext::parse(done))
            .text(names::DECISION, "allowed")
            .text(names::STEP_STATUS, "done")
            .flag(names::STEP_REPLAYED, true)
            .integer(names::TASK_FENCE, lease.fence);
        tx.trace(about(span, &lease.task));
    }

    /// The steps of an attempt that a crash cut short, from their rows: those that are done may not have been told before
    /// the process died; those that are open ended with it, nobody knows how.
    fn trace_steps_again(&self, tx: &mut Tx<'_>, task: &TaskId, fence: i64, attempt: TraceContext) -> Result<()> {
        let rows = tx.query(
            "SELECT key, syscall, traceparent, started_at, finished_at, status FROM step WHERE task = $1 AND fence = $2
             ORDER BY seq DESC LIMIT $3",
            &[task.into(), fence.into(), STEPS_TOLD_AGAIN_MAX.into()],
            |row| Ok((row.text(0)?, row.text(1)?, row.text(2)?, row.time(3)?, row.time_or_null(4)?, row.text(5)?)),
        )?;
        for (key, syscall, traceparent, started_at, finished_at, status) in rows {
            let status = match (status.as_str(), finished_at) {
                ("done", _) => "done",
                ("failed", _) => "failed",
                (_, Some(_)) => "in-doubt",
                (_, None) => "interrupted",
            };
            let told = StepTold {
                lease_of: (task, fence),
                key: &key,
                syscall: &syscall,
                traceparent: &traceparent,
                started_at,
                status,
                // The code is in the task's events; the row tells that there was one.
                code: matches!(status, "failed" | "in-doubt").then(|| status.to_owned()),
            };
            self.trace_step(tx, Some(attempt), &told, finished_at.unwrap_or_else(|| self.ambient.now()));
        }
        Ok(())
    }
}

fn tool_span(syscall: &str, key: &str, context: TraceContext, started_at: Timestamp) -> Span {
    Span::new(format!("{} {syscall}", names::spans::EXECUTE_TOOL), Kind::Internal, context, started_at)
        .text(names::GEN_AI_OPERATION_NAME, "execute_tool")
        .text(names::GEN_AI_TOOL_NAME, syscall.to_owned())
        .text(names::GEN_AI_TOOL_TYPE, "function")
        .text(names::GEN_AI_TOOL_CALL_ID, key.to_owned())
}

fn about(span: Span, task: &TaskId) -> Span {
    span.text(names::TASK_ID, task.to_string())
}

/// When the present attempt was claimed, and its number, from the journal of events.
fn attempt_start(conn: &Conn<'_>, task: &TaskId) -> Result<Option<(Timestamp, i64)>> {
    let events = conn.query(
        "SELECT at, data_key, data FROM task_event WHERE task = $1 AND kind = 'state' ORDER BY seq DESC LIMIT $2",
        &[task.into(), STATES_LOOKED_AT.into()],
        |row| Ok((row.time(0)?, Envelope { key_id: row.integer(1)?, bytes: row.bytes(2)? })),
    )?;
    for (at, sealed) in events {
        let data = sealed.open_value()?;
        let is_claim = data["state"] == TaskState::Working.as_str() && data.get("cancel_asked").is_none();
        if let Some(attempt) = data["attempt"].as_i64().filter(|_| is_claim) {
            return Ok(Some((at, attempt)));
        }
    }
    Ok(None)
}
