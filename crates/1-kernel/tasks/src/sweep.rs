//! What time does to tasks: leases run out, deadlines pass, waiting tasks become ready; and the loop that watches for it.
//!
//! All of it is idempotent, so that two nodes which both believe to be in charge do no harm.

use std::time::Duration;

use agentos_base::Ambient;
use agentos_failpoint::{Point, hit};
use agentos_store::{Conn, Dialect, Tx};
use agentos_types::{
    Actor, AgentName, Code, Fault, Result, TaskId, Timestamp,
    notify::Notice,
    task::{ErrorClass, Failure, TaskState},
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Core, Tasks,
    clock::Mark,
    journal,
    transition::{self, Record},
    worker::{self, action_of, in_doubt},
};

/// What becomes of one task whose lease is given back.
type GiveBack = fn(&Core, &Conn<'_>, &mut Record) -> Result<()>;

/// Rows that one transaction settles: the writer is shared with everybody else.
const BATCH: i64 = 200;
/// Transactions of one call; what is left then is settled by the next.
const ROUNDS_MAX: usize = 500;
/// The loop looks at the clock this often, because a wall clock can be moved.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Each kind of instant that the sweeper waits for, and 1 beside the one that is measured by the clock of leases. One
/// branch a state, so that each reads one entry of an index.
pub(crate) const NEXT_DUE: &str = "SELECT 0, min(run_at) FROM task WHERE state = 'submitted' AND run_at > $1
         UNION ALL SELECT 1, min(lease_until) FROM task WHERE state = 'working'
         UNION ALL SELECT 0, min(deadline_at) FROM task WHERE state = 'submitted' AND deadline_at IS NOT NULL
         UNION ALL SELECT 0, min(deadline_at) FROM task WHERE state = 'working' AND deadline_at IS NOT NULL
         UNION ALL SELECT 0, min(deadline_at) FROM task WHERE state = 'input-required' AND deadline_at IS NOT NULL
         UNION ALL SELECT 0, min(deadline_at) FROM task WHERE state = 'auth-required' AND deadline_at IS NOT NULL";

/// Tasks whose deadline has passed.
pub(crate) const LATE: &str = "SELECT id FROM task WHERE deadline_at IS NOT NULL AND deadline_at <= $1
               AND state IN ('submitted', 'working', 'input-required', 'auth-required') LIMIT $2";

/// Tasks whose lease has run out.
pub(crate) const EXPIRED: &str = "SELECT id FROM task WHERE state = 'working' AND lease_until <= $1 LIMIT $2";

/// Agents whose tasks became ready between two looks.
pub(crate) const READY: &str =
    "SELECT DISTINCT agent FROM task WHERE state = 'submitted' AND run_at > $1 AND run_at <= $2";

/// Agents that have ready tasks, however those came there. Each step of the recursion reads the first entry of the next
/// agent in `task_ready`; in another form the planner walks the backlog. Only Postgres has it to run.
pub(crate) const WAITING_AGENTS: &str = "WITH RECURSIVE waiting (agent, run_at) AS (
           (SELECT agent, run_at FROM task WHERE state = 'submitted' ORDER BY agent, run_at, id LIMIT 1)
           UNION ALL SELECT next.agent, next.run_at FROM waiting CROSS JOIN LATERAL
             (SELECT task.agent, task.run_at FROM task WHERE state = 'submitted' AND task.agent > waiting.agent
              ORDER BY task.agent, task.run_at, task.id LIMIT 1) AS next)
         SELECT agent FROM waiting WHERE run_at <= $1";

impl Tasks {
    /// Gives back every lease of this node. Called once at start, before anything claims: whoever held them is gone with
    /// the process. Each was a failed attempt, because one of them may be what the process died of: a task that kills its
    /// server becomes a dead letter like one that kills its worker.
    pub async fn recover(&self) -> Result<u64> {
        self.give_back(Core::recover_one).await
    }

    /// Gives back every lease of this node at no cost of an attempt. Called at the end of an orderly stop, when nothing of
    /// the tasks runs any more: they are known not to be the reason.
    pub async fn hand_back(&self) -> Result<u64> {
        self.give_back(Core::hand_back_one).await
    }

    async fn give_back(&self, one: GiveBack) -> Result<u64> {
        let mut given_back = 0;
        // Ends because each round takes its tasks out of the state that the next one looks for.
        loop {
            let core = self.core.clone();
            let count = self.store.write(move |tx| core.give_back_batch(tx, one)).await?;
            if count == 0 {
                return Ok(given_back);
            }
            given_back += count;
        }
    }

    /// Settles leases and deadlines that have passed and wakes agents whose tasks became ready. Returns the next instant
    /// at which any of it can happen.
    pub async fn sweep(&self) -> Result<Option<Timestamp>> {
        self.sweep_since(None).await
    }

    /// Settles nothing by a clock that was set since `mark`: that has to be followed first.
    async fn sweep_since(&self, mark: Option<Mark>) -> Result<Option<Timestamp>> {
        for _ in 0..ROUNDS_MAX {
            let core = self.core.clone();
            let settled = self.store.write(move |tx| core.sweep_batch(tx, mark)).await?;
            if settled < BATCH {
                break;
            }
        }
        let core = self.core.clone();
        let next = self
            .store
            .write(move |tx| {
                core.wake_ready(tx)?;
                next_due(tx, &core.ambient)
            })
            .await;
        if next.is_err() {
            // The announcements did not go out: the next look announces everything again.
            self.core.forget_woken();
        }
        next
    }

    /// The scheduler and sweeper of this node, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut notices = self.store.subscribe();
        let mut mark = Mark::new(self.core.ambient.now(), Instant::now());
        loop {
            mark = self.look_at_clock(mark).await;
            let next = match self.turn(mark).await {
                Ok(next) => next,
                Err(fault) => {
                    tracing::warn!(code = %fault.code, detail = fault.detail, "the scheduler could not do its turn");
                    None
                }
            };
            let now = self.core.ambient.now();
            // Something that stays due (a full queue) must not make the loop spin.
            let wait = next.filter(|next| *next > now).map_or(LOOK_EVERY, |next| next.since(now).min(LOOK_EVERY));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.core.wake.notified() => {}
                () = schedules_changed(&mut notices) => {}
            }
            if is_behind(mark.age().saturating_sub(wait), self.core.options.lease)
                && let Err(fault) = self.keep_leases().await
            {
                tracing::warn!(code = %fault.code, detail = fault.detail, "leases may be lost because the server stood still");
            }
        }
    }

    /// Gives every lease of this node its full length again. For a server that was stopped and goes on: whoever holds a
    /// lease here could not renew it either, and lives as well. What another node has taken meanwhile is not ours any more.
    pub async fn keep_leases(&self) -> Result<()> {
        let core = self.core.clone();
        let kept = self
            .store
            .write(move |tx| {
                let until = tx.now(&core.ambient).after(core.options.lease);
                tx.execute(
                    "UPDATE task SET lease_until = $2 WHERE state = 'working' AND lease_node = $1 AND lease_until < $2",
                    &[(&core.options.node).into(), until.into()],
                )
            })
            .await?;
        if kept > 0 {
            tracing::warn!(kept, "the server stood still; its leases begin anew");
        }
        Ok(())
    }

    /// Before anything is settled by the clock. A step that could not be written is seen again at the next look.
    async fn look_at_clock(&self, mark: Mark) -> Mark {
        let (wall, monotonic) = (self.core.ambient.now(), Instant::now());
        if let Some(step) = mark.step(wall, monotonic, self.core.options.lease)
            && let Err(fault) = self.follow_clock(step).await
        {
            tracing::warn!(code = %fault.code, detail = fault.detail, "a step of the clock could not be followed yet");
            return mark;
        }
        Mark::new(wall, monotonic)
    }

    async fn turn(&self, mark: Mark) -> Result<Option<Timestamp>> {
        // A schedule that cannot fire must not keep leases and deadlines from being settled.
        let (fire, sweep) = (self.fire_due().await, self.sweep_since(Some(mark)).await);
        Ok([fire?, sweep?].into_iter().flatten().min())
    }
}

/// So much time was lost that a renewal was missed as well: nobody here had the processor.
fn is_behind(lost: Duration, lease: Duration) -> bool {
    lost >= lease / 3
}

/// Returns when a schedule changed, or when notices were missed and one may have.
async fn schedules_changed(notices: &mut broadcast::Receiver<Notice>) {
    loop {
        match notices.recv().await {
            Ok(Notice::Schedules | Notice::Missed) | Err(RecvError::Lagged(_)) => return,
            Ok(_) => {}
            // The store is closing; the sleep beside this goes on until the shutdown comes.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// The earliest instant, by our own clock, at which a task becomes ready, a lease runs out or a deadline passes.
fn next_due(conn: &Conn<'_>, ambient: &Ambient) -> Result<Option<Timestamp>> {
    let (own, of_leases) = (ambient.now(), conn.now(ambient));
    let ahead = own.as_micros().saturating_sub(of_leases.as_micros());
    let instants = conn.query(NEXT_DUE, &[own.into()], |row| {
        let ahead = if row.integer(0)? == 1 { ahead } else { 0 };
        Ok(row.time_or_null(1)?.map(|instant| Timestamp(instant.as_micros().saturating_add(ahead))))
    })?;
    Ok(instants.into_iter().flatten().min())
}

impl Core {
    fn give_back_batch(&self, tx: &mut Tx<'_>, one: GiveBack) -> Result<u64> {
        let ids: Vec<TaskId> = tx.query(
            "SELECT id FROM task WHERE state = 'working' AND lease_node = $1 LIMIT $2",
            &[(&self.options.node).into(), BATCH.into()],
            |row| row.parsed(0),
        )?;
        for id in &ids {
            let mut record = transition::load(tx, id)?;
            let guard = record.guard();
            one(self, tx, &mut record)?;
            self.trace_attempt(tx, &record.task, guard.fence(), true)?;
            self.save(tx, guard, &mut record)?;
            tx.record(self.audit(&Actor::System, action_of(record.task.state), &record.task).fact("recovered", true));
            hit(Point::TasksRecoverOne);
        }
        Ok(ids.len() as u64)
    }

    fn recover_one(&self, conn: &Conn<'_>, record: &mut Record) -> Result<()> {
        let failure = Failure {
            class: ErrorClass::Crash,
            code: Some(Code::TASK_CRASHED),
            message: "the server ended while the task was being worked on".into(),
            retry_after_s: None,
        };
        self.fall(conn, record, failure)
    }

    fn hand_back_one(&self, conn: &Conn<'_>, record: &mut Record) -> Result<()> {
        let task = &mut record.task;
        task.attempt = task.attempt.saturating_sub(1);
        if task.cancel_asked_at.is_some() {
            worker::cancel(task);
        } else if let Some(key) = journal::step_in_doubt(conn, &task.id)? {
            task.state = TaskState::InputRequired;
            task.failure = Some(in_doubt(&key));
        } else {
            task.state = TaskState::Submitted;
        }
        Ok(())
    }

    fn sweep_batch(&self, tx: &mut Tx<'_>, mark: Option<Mark>) -> Result<i64> {
        let now = self.ambient.now();
        if mark.is_some_and(|mark| mark.step(now, Instant::now(), self.options.lease).is_some()) {
            return Ok(0);
        }
        let late: Vec<TaskId> = tx.query(LATE, &[now.into(), BATCH.into()], |row| row.parsed(0))?;
        for id in &late {
            hit(Point::TasksSweepLate);
            self.pass_deadline(tx, id, now)?;
            hit(Point::TasksSweepEnded);
        }
        // A server that stood still since the mark gives its own workers time to renew first; the next look settles the rest.
        if mark.is_some_and(|mark| is_behind(mark.age(), self.options.lease)) {
            return Ok(i64::try_from(late.len()).unwrap_or(BATCH));
        }
        let by_leases = tx.now(&self.ambient);
        let expired: Vec<TaskId> = tx.query(EXPIRED, &[by_leases.into(), BATCH.into()], |row| row.parsed(0))?;
        for id in &expired {
            self.expire_lease(tx, id)?;
        }
        Ok(i64::try_from(late.len().max(expired.len())).unwrap_or(BATCH))
    }

    fn pass_deadline(&self, tx: &mut Tx<'_>, id: &TaskId, now: Timestamp) -> Result<()> {
        let mut record = transition::load(tx, id)?;
        let guard = record.guard();
        let task = &mut record.task;
        let deadline = task.deadline_at.unwrap_or(now);
        let canceling = task.cancel_asked_at.is_some();
        if task.state == TaskState::Working {
            if !canceling {
                task.cancel_asked_at = Some(now);
            }
            // The worker may still be at it: tell it, and let its late writes fail.
            tx.announce(Notice::CancelAsked { agent: task.agent.clone(), task: id.clone() });
            record.fence += 1;
        }
        if canceling {
            worker::cancel(&mut record.task);
        } else {
            record.task.state = TaskState::Failed;
            record.task.failure = Some(Failure {
                class: ErrorClass::Deadline,
                code: Some(Code::TASK_DEADLINE),
                message: format!("the deadline {deadline} passed while the task was {}", guard.state()),
                retry_after_s: None,
            });
        }
        if guard.state() == TaskState::Working {
            self.trace_attempt(tx, &record.task, guard.fence(), false)?;
        }
        self.save(tx, guard, &mut record)?;
        tx.record(self.audit(&Actor::System, action_of(record.task.state), &record.task));
        Ok(())
    }

    fn expire_lease(&self, tx: &mut Tx<'_>, id: &TaskId) -> Result<()> {
        let mut record = transition::load(tx, id)?;
        let guard = record.guard();
        let failure = Failure {
            class: ErrorClass::Crash,
            code: Some(Code::TASK_CRASHED),
            message: "the lease ran out: the worker or its node stopped renewing it".into(),
            retry_after_s: None,
        };
        self.fall(tx, &mut record, failure)?;
        self.trace_attempt(tx, &record.task, guard.fence(), true)?;
        self.save(tx, guard, &mut record)?;
        tx.record(self.audit(&Actor::System, action_of(record.task.state), &record.task).fact("lease_expired", true));
        tracing::warn!(task = %id, attempt = record.task.attempt, state = %record.task.state, "lease ran out");
        Ok(())
    }

    /// Announces each agent once whose tasks became ready since the last look. Runs on the writer, so that no submission
    /// can slip between two looks. Where others may write as well, their tasks are looked for too, at most once in
    /// [`LOOK_EVERY`]: a hint about them may be lost. Every node looks for itself.
    fn wake_ready(&self, tx: &mut Tx<'_>) -> Result<()> {
        let now = self.ambient.now();
        let mut woken = self.woken_until.lock().map_err(|_| Fault::internal("the sweeper's mark is poisoned"))?;
        let mut polled = self.polled_at.lock().map_err(|_| Fault::internal("the sweeper's mark is poisoned"))?;
        // A clock that was set back must not put the look off.
        let is_time = now >= polled.after(LOOK_EVERY) || now < *polled;
        let agents: Vec<AgentName> = if is_time && tx.dialect() == Dialect::Postgres {
            *polled = now;
            tx.query(WAITING_AGENTS, &[now.into()], |row| row.parsed(0))?
        } else {
            tx.query(READY, &[(*woken).into(), now.into()], |row| row.parsed(0))?
        };
        for agent in agents {
            tx.announce_here(Notice::WorkFor(agent));
            hit(Point::TasksSweepWoken);
        }
        *woken = now;
        Ok(())
    }

    pub(crate) fn forget_woken(&self) {
        for mark in [&self.woken_until, &self.polled_at] {
            if let Ok(mut mark) = mark.lock() {
                *mark = Timestamp(i64::MIN);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_late_by_a_renewal_stood_still() {
        for (lost_ms, expected) in [(0, false), (4_999, false), (5_000, true), (60_000, true)] {
            assert_eq!(is_behind(Duration::from_millis(lost_ms), Duration::from_secs(15)), expected, "{lost_ms} ms");
        }
    }
}
