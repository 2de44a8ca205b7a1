//! Submission: idempotency, admission, the first event. One function for callers and schedules alike.

use agentos_failpoint::{Point, hit};
use agentos_store::{Arg, Conn, Tx};
use agentos_types::{
    Actor, AgentName, Code, Fault, Result, ScheduleId,
    agent::AgentState,
    audit::Decision,
    hex, json,
    notify::Notice,
    task::{Task, TaskState},
};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    Core, NewTask, Submitted, Tasks, payload,
    transition::{self, insert_event},
};

/// Bytes of an idempotency key.
const KEY_BYTES_MAX: usize = 255;
/// Most attempts that a caller may ask for; the setting has the same range.
const ATTEMPTS_MAX: i64 = 100;
/// Submissions between two counts of a queue. A count walks the queue's index, so it must not happen each time; this is
/// also by how much several handles together may pass the limit.
const RECOUNT_AFTER: u64 = 1_000;

/// Tasks that wait for an agent, counted up to a bound.
pub(crate) const WAITING: &str =
    "SELECT count(*) FROM (SELECT 1 FROM task WHERE agent = $1 AND state = 'submitted' LIMIT $2) AS bounded";

/// Who chose the idempotency key, and which schedule asks, if one does.
pub(crate) struct Origin<'a> {
    pub(crate) scope: String,
    pub(crate) submitted_by: String,
    pub(crate) actor: &'a Actor,
    pub(crate) schedule: Option<&'a ScheduleId>,
}

impl Tasks {
    /// Returns when the task is durable. The same key with the same request gives the same task again.
    pub async fn submit(&self, actor: &Actor, new: NewTask) -> Result<Submitted> {
        self.submit_for(actor, actor.label(), new).await
    }

    /// The same on behalf of `owner`, who keeps its tasks and idempotency keys although the actor may change: a token that
    /// was rotated is another actor and the same owner.
    pub async fn submit_for(&self, actor: &Actor, owner: String, new: NewTask) -> Result<Submitted> {
        let (core, actor) = (self.core.clone(), actor.clone());
        self.store
            .write(move |tx| {
                let origin = Origin { scope: owner.clone(), submitted_by: owner, actor: &actor, schedule: None };
                core.admit(tx, &origin, new)
            })
            .await
    }
}

impl Core {
    pub(crate) fn admit(&self, tx: &mut Tx<'_>, origin: &Origin<'_>, new: NewTask) -> Result<Submitted> {
        let input = payload::seal("input", &new.input)?;
        let hash = new.idempotency_key.as_ref().map(|_| request_hash(&new));
        if let (Some(key), Some(hash)) = (&new.idempotency_key, &hash)
            && let Some(task) = replayed(tx, &origin.scope, key, hash)?
        {
            return Ok(Submitted { task, replayed: true });
        }
        self.check(&new)?;
        refuse_unable_agent(tx, &new.agent)?;
        self.take_room(tx, &new.agent)?;
        let now = self.ambient.now();
        let task = Task {
            id: self.ambient.task_id(),
            agent: new.agent,
            state: TaskState::Submitted,
            input: new.input,
            output: None,
            failure: None,
            attempt: 0,
            attempts_max: new.attempts_max.unwrap_or(self.options.attempts_max),
            submitted_by: origin.submitted_by.clone(),
            submitted_at: now,
            updated_at: now,
            run_at: new.run_at.unwrap_or(now).max(now),
            deadline_at: new.deadline_at,
            cancel_asked_at: None,
            schedule: origin.schedule.cloned(),
            traceparent: match &new.traceparent {
                Some(parent) => self.ambient.child_traceparent(parent),
                None => self.ambient.traceparent(),
            },
            redrives: 0,
        };
        let scope = new.idempotency_key.as_ref().map(|_| &origin.scope);
        tx.execute(
            "INSERT INTO task (id, agent, state, input_key, input, attempts_max, submitted_by, submitted_at, updated_at,
               run_at, deadline_at, idem_scope, idem_key, idem_hash, schedule, traceparent, event_seq)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11, $12, $13, $14, $15, 1)",
            &[
                (&task.id).into(),
                (&task.agent).into(),
                task.state.as_str().into(),
                input.key_id.into(),
                (&input.bytes).into(),
                task.attempts_max.into(),
                (&task.submitted_by).into(),
                now.into(),
                task.run_at.into(),
                task.deadline_at.into(),
                scope.into(),
                new.idempotency_key.as_ref().into(),
                hash.as_ref().into(),
                origin.schedule.into(),
                (&task.traceparent).into(),
            ],
        )?;
        hit(Point::TasksSubmitInserted);
        insert_event(tx, &task.id, 1, now, "state", &json!({"state": task.state}))?;
        let mut fact = self.audit(origin.actor, "task.submit", &task).decision(Decision::Allowed);
        if let Some(schedule) = origin.schedule {
            fact = fact.fact("schedule", schedule.as_str());
        }
        tx.record(fact);
        self.trace_submission(tx, &task, new.traceparent.as_deref());
        tx.announce(Notice::TaskEvents(task.id.clone()));
        self.announce_work(tx, &task);
        hit(Point::TasksSubmitAnnounced);
        if let Some(deadline) = task.deadline_at {
            self.wake_before(deadline);
        }
        Ok(Submitted { task, replayed: false })
    }

    fn check(&self, new: &NewTask) -> Result<()> {
        let invalid = |message: String| Err(Fault::new(Code::BODY_INVALID, message));
        if new.idempotency_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > KEY_BYTES_MAX) {
            return invalid(format!("an idempotency key has 1 to {KEY_BYTES_MAX} bytes"));
        }
        if new.attempts_max.is_some_and(|attempts| !(1..=ATTEMPTS_MAX).contains(&attempts)) {
            return invalid(format!("attempts_max must be 1 to {ATTEMPTS_MAX}"));
        }
        let start = new.run_at.unwrap_or(self.ambient.now()).max(self.ambient.now());
        match new.deadline_at {
            Some(deadline) if deadline <= start => {
                invalid(format!("deadline_at {deadline} is not after the earliest start {start}"))
            }
            _ => Ok(()),
        }
    }

    /// One place in the agent's queue. Counts only when the room found by the last count is used up.
    fn take_room(&self, conn: &Conn<'_>, agent: &AgentName) -> Result<()> {
        let mut rooms = self.room.lock().map_err(|_| Fault::internal("the queue counts are poisoned"))?;
        if let Some(left) = rooms.get_mut(agent).filter(|left| **left > 0) {
            *left -= 1;
            return Ok(());
        }
        let queue_max = self.options.queue_max;
        let waiting = conn.query_one(
            WAITING,
            &[agent.into(), Arg::Integer(i64::try_from(queue_max).unwrap_or(i64::MAX))],
            |row| row.integer(0),
        )?;
        let waiting = waiting.and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
        let left = queue_max.saturating_sub(waiting);
        if left == 0 {
            return Err(Fault::new(
                Code::QUEUE_FULL,
                format!("{queue_max} tasks wait for {agent} already (tasks.queue_max)"),
            )
            .retry_after(std::time::Duration::from_secs(5)));
        }
        rooms.insert(agent.clone(), (left - 1).min(RECOUNT_AFTER));
        Ok(())
    }
}

/// What makes two submissions the same request; the trace context does not.
fn request_hash(new: &NewTask) -> String {
    let request = json!({
        "agent": new.agent, "input": new.input, "run_at": new.run_at, "deadline_at": new.deadline_at,
        "attempts_max": new.attempts_max,
    });
    hex::encode(&Sha256::digest(json::canonical(&request)))
}

fn replayed(conn: &Conn<'_>, scope: &str, key: &str, hash: &str) -> Result<Option<Task>> {
    let found = conn.query_one(
        "SELECT id, idem_hash FROM task WHERE idem_scope = $1 AND idem_key = $2 AND idem_key IS NOT NULL",
        &[scope.into(), key.into()],
        |row| Ok((row.parsed(0)?, row.text(1)?)),
    )?;
    match found {
        None => Ok(None),
        Some((id, first)) if first == hash => Ok(Some(transition::load(conn, &id)?.task)),
        Some((id, _)) => Err(Fault::new(
            Code::IDEMPOTENCY_CONFLICT,
            format!("the idempotency key was used for another request, which made {id}"),
        )
        .hint("use a new key for a new request")),
    }
}

/// Work is taken for every agent that is deployed and not terminated; one that is paused or failed gets it later.
pub(crate) fn refuse_unable_agent(conn: &Conn<'_>, agent: &AgentName) -> Result<()> {
    let found = conn.query_one("SELECT state, desired FROM agent WHERE name = $1", &[agent.into()], |row| {
        Ok((row.text(0)?, row.text(1)?))
    })?;
    let Some((state, desired)) = found else {
        return Err(Fault::new(Code::AGENT_NOT_FOUND, format!("there is no agent {agent}"))
            .hint("list agents with: agent-os agent list"));
    };
    let terminated = AgentState::Terminated.as_str();
    if state == terminated || desired == terminated {
        return Err(Fault::new(Code::AGENT_STATE, format!("agent {agent} is terminated and takes no work"))
            .hint("deploy it again first"));
    }
    Ok(())
}
