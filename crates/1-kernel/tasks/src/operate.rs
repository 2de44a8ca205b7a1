//! What a person does to a task: cancel it, send it on after a doubt, bring a dead letter back to work.

use agentos_failpoint::{Point, hit};
use agentos_types::{
    Actor, Code, Fault, Result, TaskId,
    notify::Notice,
    task::{Task, TaskState},
};
use serde_json::Value;

use crate::{
    Tasks,
    intake::refuse_unable_agent,
    journal, payload,
    transition::{self, Record},
    worker,
};

impl Tasks {
    /// A waiting task is canceled at once. A working one is asked to stop; the supervisor ends it after its grace.
    /// Asking again changes nothing.
    pub async fn cancel(&self, actor: &Actor, id: &TaskId) -> Result<Task> {
        let (core, actor, id) = (self.core.clone(), actor.clone(), id.clone());
        self.store
            .write(move |tx| {
                let mut record = transition::load(tx, &id)?;
                let guard = record.guard();
                match record.task.state {
                    state if state.is_terminal() => return Err(is_final(&record.task)),
                    TaskState::Working if record.task.cancel_asked_at.is_some() => return Ok(record.task),
                    TaskState::Working => {
                        record.task.cancel_asked_at = Some(core.ambient.now());
                        let agent = record.task.agent.clone();
                        tx.announce(Notice::CancelAsked { agent, task: id });
                    }
                    _ => {
                        record.task.cancel_asked_at = Some(core.ambient.now());
                        worker::cancel(&mut record.task);
                    }
                }
                hit(Point::TasksCancelMarked);
                core.save(tx, guard, &mut record)?;
                tx.record(core.audit(&actor, "task.cancel", &record.task));
                Ok(record.task)
            })
            .await
    }

    /// Sends on a task that waits for a person. Steps in doubt count as not done and will be sent again.
    pub async fn retry(&self, actor: &Actor, id: &TaskId) -> Result<Task> {
        let (core, actor, id) = (self.core.clone(), actor.clone(), id.clone());
        self.store
            .write(move |tx| {
                let mut record = transition::load(tx, &id)?;
                if !matches!(record.task.state, TaskState::InputRequired | TaskState::AuthRequired) {
                    return Err(not_waiting(&record.task, "only a task that waits for a person can be retried"));
                }
                refuse_unable_agent(tx, &record.task.agent)?;
                let guard = record.guard();
                let sent_again = journal::send_again(tx, &id)?;
                hit(Point::TasksRetryReleased);
                let task = &mut record.task;
                // A person's word is worth at least one more attempt.
                task.attempts_max = task.attempts_max.max(task.attempt.saturating_add(1));
                back_to_work(&mut record, core.ambient.now());
                core.save(tx, guard, &mut record)?;
                tx.record(core.audit(&actor, "task.retry", &record.task).fact("steps_sent_again", sent_again));
                Ok(record.task)
            })
            .await
    }

    /// Brings a dead letter back, with other input if given. Recorded steps stay recorded; with other input a step may
    /// ask for something else under its old key. A deadline that has passed is dropped.
    pub async fn redrive(&self, actor: &Actor, id: &TaskId, input: Option<Value>) -> Result<Task> {
        let (core, actor, id) = (self.core.clone(), actor.clone(), id.clone());
        self.store
            .write(move |tx| {
                let mut record = transition::load(tx, &id)?;
                if record.task.state != TaskState::Failed {
                    return Err(not_waiting(&record.task, "only a failed task can be redriven"));
                }
                refuse_unable_agent(tx, &record.task.agent)?;
                let guard = record.guard();
                let edited = input.is_some();
                if let Some(input) = input {
                    payload::seal("input", &input)?;
                    record.task.input = input;
                    record.input_fence = record.fence;
                }
                record.task.attempt = 0;
                record.task.redrives += 1;
                back_to_work(&mut record, core.ambient.now());
                hit(Point::TasksRedriveReset);
                core.save(tx, guard, &mut record)?;
                tx.record(
                    core.audit(&actor, "task.redrive", &record.task)
                        .fact("redrives", record.task.redrives)
                        .fact("input_edited", edited),
                );
                Ok(record.task)
            })
            .await
    }
}

fn back_to_work(record: &mut Record, now: agentos_types::Timestamp) {
    let task = &mut record.task;
    task.state = TaskState::Submitted;
    task.run_at = now;
    // The events keep what went wrong; the row begins anew.
    task.failure = None;
    task.cancel_asked_at = None;
    task.deadline_at = task.deadline_at.filter(|deadline| *deadline > now);
}

fn is_final(task: &Task) -> Fault {
    let fault = Fault::new(Code::TASK_FINAL, format!("{} is {} already", task.id, task.state));
    match task.state {
        TaskState::Failed => fault.hint("a failed task can be brought back with: agent-os task redrive"),
        _ => fault.hint("submit a new task"),
    }
}

fn not_waiting(task: &Task, rule: &str) -> Fault {
    let fault = Fault::new(Code::TASK_NOT_WAITING, format!("{} is {}: {rule}", task.id, task.state));
    match task.state {
        TaskState::Failed => fault.hint("use: agent-os task redrive"),
        TaskState::InputRequired | TaskState::AuthRequired => fault.hint("use: agent-os task retry"),
        _ => fault,
    }
}
