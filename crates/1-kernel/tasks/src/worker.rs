//! The worker's side: claim, renew, report, finish; and what a broken attempt turns into. Every write names the fence.

use agentos_base::trace::TraceContext;
use agentos_failpoint::{Point, hit};
use agentos_store::{Arg, Conn, Dialect, Tx};
use agentos_types::{
    Actor, AgentName, Code, Envelope, Fault, Result, TaskId, Timestamp,
    limits::PAGE_MAX,
    notify::Notice,
    task::{ErrorClass, Failure, Task, TaskState},
};
use serde_json::{Value, json};

use crate::{
    Claimed, Core, Ending, Lease, Tasks, journal, payload,
    retry::{self, Verdict},
    spans::attempt_context,
    transition::{self, Record, insert_event, lease_lost, task_columns},
};

/// Events of one task before `progress` is refused: a worker that reports in a loop must not fill the disk.
const EVENTS_PER_TASK_MAX: i64 = 100_000;

/// Takes the oldest waiting tasks of an agent. `MATERIALIZED`: a planner that runs the inner query once for each row
/// of the outer one would find the next tasks each time, and take more than the limit.
macro_rules! claim {
    ($lock:literal) => {
        concat!(
            "WITH oldest AS MATERIALIZED (SELECT id FROM task WHERE agent = $1 AND state = 'submitted' AND run_at <= $2
               AND (deadline_at IS NULL OR deadline_at > $2) ORDER BY run_at, id LIMIT $5 ",
            $lock,
            ") UPDATE task SET state = 'working', attempt = attempt + 1, fence = fence + 1, event_seq = event_seq + 1,
               lease_node = $3, lease_until = $4, updated_at = $2
             WHERE id IN (SELECT id FROM oldest) RETURNING ",
            task_columns!()
        )
    };
}
pub(crate) const CLAIM: &str = claim!("");
/// With many writers at once each passes over what another one is just taking.
pub(crate) const CLAIM_POSTGRES: &str = claim!("FOR UPDATE SKIP LOCKED");

const COMPLETE: &str = concat!(
    "UPDATE task SET state = 'completed', output_key = $3, output = $4, failure_class = NULL, failure_code = NULL,
       failure_message = NULL, failure_retry_after_s = NULL, updated_at = $5, event_seq = event_seq + 1,
       lease_node = NULL, lease_until = NULL
     WHERE id = $1 AND fence = $2 AND state = 'working' RETURNING ",
    task_columns!()
);

impl Tasks {
    /// The hold that this node has on a task of this agent, for what its program does beside its worker's socket. `None`: the
    /// task is at work elsewhere, or nowhere.
    pub fn held_lease(&self, conn: &Conn<'_>, agent: &AgentName, task: &TaskId) -> Result<Option<Lease>> {
        conn.query_one(
            "SELECT fence, lease_until, traceparent FROM task
             WHERE id = $1 AND agent = $2 AND state = 'working' AND lease_node = $3",
            &[task.into(), agent.into(), self.core.options.node.as_str().into()],
            |row| {
                let (fence, until, submitted) = (row.integer(0)?, row.time_or_null(1)?, row.text(2)?);
                let submission = TraceContext::parse(&submitted).unwrap_or_else(|| self.core.ambient.root());
                let traceparent = attempt_context(submission, fence).to_string();
                let until = until.unwrap_or(Timestamp::ZERO);
                Ok(Lease { task: task.clone(), agent: agent.clone(), fence, until, traceparent })
            },
        )
    }

    /// Takes up to `slots` waiting tasks of `agent` whose time has come, oldest first.
    pub async fn claim(&self, agent: &AgentName, slots: usize) -> Result<Vec<Claimed>> {
        if slots == 0 {
            return Ok(Vec::new());
        }
        let (core, agent) = (self.core.clone(), agent.clone());
        self.store.write(move |tx| core.claim(tx, &agent, slots.min(PAGE_MAX))).await
    }

    /// Moves the end of each lease. Returns the tasks whose lease is lost; their workers must stop.
    pub async fn renew(&self, leases: &[Lease]) -> Result<Vec<TaskId>> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let (core, leases) = (self.core.clone(), leases.to_vec());
        self.store
            .write(move |tx| {
                let until = tx.now(&core.ambient).after(core.options.lease);
                let mut lost = Vec::new();
                for lease in leases {
                    let renewed = tx.execute(
                        "UPDATE task SET lease_until = $3 WHERE id = $1 AND fence = $2 AND state = 'working'",
                        &[(&lease.task).into(), lease.fence.into(), until.into()],
                    )?;
                    if renewed == 0 {
                        lost.push(lease.task);
                    }
                    hit(Point::TasksRenewHalf);
                }
                Ok(lost)
            })
            .await
    }

    /// Records how the attempt ended. The returned task is final, waits for its next attempt, or waits for a person.
    pub async fn finish(&self, actor: &Actor, lease: &Lease, ending: Ending) -> Result<Task> {
        let (core, actor, lease) = (self.core.clone(), actor.clone(), lease.clone());
        self.store.write(move |tx| core.finish(tx, &actor, &lease, ending)).await
    }

    /// Appends a `progress` event.
    pub async fn progress(&self, lease: &Lease, data: Value) -> Result<()> {
        let (core, lease) = (self.core.clone(), lease.clone());
        self.store
            .write(move |tx| {
                payload::seal("progress", &data)?;
                let seq = next_event_of(tx, &lease, core.ambient.now())?;
                if seq > EVENTS_PER_TASK_MAX {
                    return Err(Fault::new(
                        Code::STEP_LIMIT,
                        format!("the task has {EVENTS_PER_TASK_MAX} events already, progress is no longer recorded"),
                    ));
                }
                hit(Point::TasksProgressNumbered);
                insert_event(tx, &lease.task, seq, core.ambient.now(), "progress", &data)?;
                tx.announce(Notice::TaskEvents(lease.task));
                Ok(())
            })
            .await
    }

    /// The worker crashed, hung or was killed: the same policy as an attempt that failed with this failure.
    pub async fn release(&self, lease: &Lease, failure: Failure) -> Result<Task> {
        self.finish(&Actor::System, lease, Ending::Failed(failure)).await
    }

    /// Refuses a lease that is lost, canceled or past its deadline. For the monitor, before a call is decided.
    pub fn check_lease(&self, conn: &Conn<'_>, lease: &Lease) -> Result<()> {
        journal::check_lease(conn, lease, self.core.ambient.now()).map(drop)
    }

    /// Appends an event that is not a change of state. Returns its sequence number.
    pub fn append_event(&self, tx: &mut Tx<'_>, task: &TaskId, kind: &str, data: &Value) -> Result<i64> {
        payload::seal("event", data)?;
        let seq = tx
            .query_one(
                "UPDATE task SET event_seq = event_seq + 1 WHERE id = $1 RETURNING event_seq",
                &[task.into()],
                |row| row.integer(0),
            )?
            .ok_or_else(|| transition::not_found(task))?;
        insert_event(tx, task, seq, self.core.ambient.now(), kind, data)?;
        tx.announce(Notice::TaskEvents(task.clone()));
        Ok(seq)
    }
}

impl Core {
    fn claim(&self, tx: &mut Tx<'_>, agent: &AgentName, slots: usize) -> Result<Vec<Claimed>> {
        let now = self.ambient.now();
        let until = tx.now(&self.ambient).after(self.options.lease);
        let claim = match tx.dialect() {
            Dialect::Sqlite => CLAIM,
            Dialect::Postgres => CLAIM_POSTGRES,
        };
        let mut records = tx.query(
            claim,
            &[
                agent.into(),
                now.into(),
                (&self.options.node).into(),
                until.into(),
                Arg::Integer(i64::try_from(slots).unwrap_or(0)),
            ],
            Record::read,
        )?;
        if !records.is_empty() {
            hit(Point::TasksClaimTaken);
        }
        // RETURNING promises no order.
        records.sort_by(|a, b| (a.task.run_at, &a.task.id).cmp(&(b.task.run_at, &b.task.id)));
        let mut claimed = Vec::with_capacity(records.len());
        for record in records {
            let task = record.task;
            let data = json!({"state": task.state, "attempt": task.attempt});
            insert_event(tx, &task.id, record.event_seq, now, "state", &data)?;
            tx.announce(Notice::TaskEvents(task.id.clone()));
            let submission = TraceContext::parse(&task.traceparent).unwrap_or_else(|| self.ambient.root());
            let attempt = attempt_context(submission, record.fence);
            if self.ambient.tracer().wants(&attempt) {
                tx.traced(attempt, "claim");
            }
            let lease = Lease {
                task: task.id.clone(),
                agent: task.agent.clone(),
                fence: record.fence,
                until,
                traceparent: attempt.to_string(),
            };
            claimed.push(Claimed { task, lease });
            hit(Point::TasksClaimWritten);
        }
        Ok(claimed)
    }

    fn finish(&self, tx: &mut Tx<'_>, actor: &Actor, lease: &Lease, ending: Ending) -> Result<Task> {
        let task = match ending {
            Ending::Completed(output) => match payload::seal("output", &output) {
                Ok(sealed) => self.complete(tx, lease, &sealed)?,
                // The worker cannot mend this; leaving the task to its lease would only repeat the work.
                Err(fault) => self.fall_short(tx, lease, Some(permanent(Some(fault.code), fault.message)))?,
            },
            Ending::Failed(failure) => self.fall_short(tx, lease, Some(failure))?,
            Ending::Canceled => self.fall_short(tx, lease, None)?,
        };
        self.trace_attempt(tx, &task, lease.fence, false)?;
        tx.record(self.audit(actor, action_of(task.state), &task));
        hit(Point::TasksFinishWritten);
        Ok(task)
    }

    /// The common end, in one statement: it needs nothing of the row but that the lease still holds.
    fn complete(&self, tx: &mut Tx<'_>, lease: &Lease, output: &Envelope) -> Result<Task> {
        let now = self.ambient.now();
        let record = tx
            .query_one(
                COMPLETE,
                &[(&lease.task).into(), lease.fence.into(), output.key_id.into(), (&output.bytes).into(), now.into()],
                Record::read,
            )?
            .ok_or_else(|| lease_lost(&lease.task, lease.fence))?;
        hit(Point::TasksCompleteUpdated);
        let data = transition::state_event(&record.task, Some(output));
        insert_event(tx, &lease.task, record.event_seq, now, "state", &data)?;
        tx.announce(Notice::TaskEvents(lease.task.clone()));
        Ok(record.task)
    }

    /// Any other end: with this failure, or by a cancellation.
    fn fall_short(&self, tx: &mut Tx<'_>, lease: &Lease, failure: Option<Failure>) -> Result<Task> {
        let mut record = transition::load(tx, &lease.task)?;
        if record.fence != lease.fence || record.task.state != TaskState::Working {
            return Err(lease_lost(&lease.task, lease.fence));
        }
        let guard = record.guard();
        match failure {
            Some(failure) => self.fall(tx, &mut record, failure)?,
            None if record.task.cancel_asked_at.is_some() => cancel(&mut record.task),
            None => {
                let message = "the worker reported a cancellation that nobody asked for";
                self.fall(tx, &mut record, permanent(None, message.into()))?;
            }
        }
        hit(Point::TasksFinishDecided);
        self.save(tx, guard, &mut record)?;
        Ok(record.task)
    }

    /// Decides what a task becomes whose attempt ended badly. The caller saves it.
    pub(crate) fn fall(&self, conn: &Conn<'_>, record: &mut Record, failure: Failure) -> Result<()> {
        let task = &mut record.task;
        // Whoever asked to cancel does not want another attempt, whatever the reason of the end.
        if task.cancel_asked_at.is_some() {
            cancel(task);
            return Ok(());
        }
        let mut failure = payload::clip(failure);
        let open = if retry::may_repeat(failure.class) { journal::step_in_doubt(conn, &task.id)? } else { None };
        if let Some(key) = open {
            failure = in_doubt(&key);
        }
        let verdict = retry::verdict(&failure, task.attempt, task.attempts_max, |max| self.ambient.random_up_to(max));
        match verdict {
            Verdict::Again { after } => {
                task.state = TaskState::Submitted;
                task.run_at = self.ambient.now().after(after);
            }
            Verdict::AskPerson => task.state = TaskState::InputRequired,
            Verdict::GiveUp => {
                task.state = TaskState::Failed;
                if failure.class == ErrorClass::Crash && failure.code.is_none() {
                    failure.code = Some(Code::TASK_CRASHED);
                }
            }
        }
        task.failure = Some(failure);
        Ok(())
    }
}

/// Takes the next event number under the fence, or AOS-1205.
pub(crate) fn next_event_of(conn: &Conn<'_>, lease: &Lease, now: Timestamp) -> Result<i64> {
    conn.query_one(
        "UPDATE task SET event_seq = event_seq + 1, updated_at = $3 WHERE id = $1 AND fence = $2 AND state = 'working'
         RETURNING event_seq",
        &[(&lease.task).into(), lease.fence.into(), now.into()],
        |row| row.integer(0),
    )?
    .ok_or_else(|| lease_lost(&lease.task, lease.fence))
}

pub(crate) fn cancel(task: &mut Task) {
    task.state = TaskState::Canceled;
    task.failure = None;
}

pub(crate) fn in_doubt(key: &str) -> Failure {
    Failure {
        class: ErrorClass::InDoubt,
        code: Some(Code::STEP_IN_DOUBT),
        message: format!("step '{key}' may or may not have happened, and may not be repeated unasked"),
        retry_after_s: None,
    }
}

fn permanent(code: Option<Code>, message: String) -> Failure {
    Failure { class: ErrorClass::Permanent, code, message, retry_after_s: None }
}

/// The audit action of the end of an attempt.
pub(crate) fn action_of(state: TaskState) -> &'static str {
    match state {
        TaskState::Submitted | TaskState::Working => "task.requeue",
        TaskState::InputRequired | TaskState::AuthRequired => "task.park",
        _ => "task.finish",
    }
}
