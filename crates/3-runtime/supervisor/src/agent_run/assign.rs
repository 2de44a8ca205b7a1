//! Tasks on their way to the worker and away from it: claims, cancels, lost leases.

use agentos_failpoint::{Point, hit};
use agentos_protocol::KernelFrame;
use agentos_tasks::Claimed;
use agentos_types::{Code, Fault, TaskId, agent::AgentState};
use tokio::time::Instant;

use super::{
    desk::Effect,
    failure_of,
    life::{Life, Phase, Verdict, millis},
};
use crate::{lifecycle::Event, mailbox::Mail};

impl Life<'_> {
    /// Asks for work, if the agent may have any.
    pub(super) fn claim(&mut self) {
        let at_work = matches!(self.run.state, AgentState::Ready | AgentState::Running);
        if at_work && self.phase == Phase::Ready && self.leave_by.is_none() && !self.over {
            self.desk.claim();
        }
    }

    pub(super) fn on_mail(&mut self, mail: Mail) -> Result<(), Verdict> {
        for task in mail.cancels {
            self.cancel(task)?;
        }
        if mail.missed {
            self.desk.look();
        }
        if mail.work || mail.missed {
            self.claim();
        }
        Ok(())
    }

    /// Tells the worker to stop; its time runs from here.
    fn cancel(&mut self, task: TaskId) -> Result<(), Verdict> {
        let grace = self.run.shared.options.cancel_grace;
        match self.desk.get_mut(&task) {
            Some(held) if held.cancel_by.is_some() => Ok(()),
            Some(held) => {
                held.cancel_by = Some(Instant::now() + grace);
                self.send(&KernelFrame::Cancel { task, grace_ms: millis(grace) })?;
                hit(Point::SupervisorCancelSent);
                Ok(())
            }
            None => {
                self.desk.remember_cancel(task);
                Ok(())
            }
        }
    }

    pub(super) async fn on_effect(&mut self, effect: Effect) -> Result<(), Verdict> {
        match effect {
            Effect::Claimed(claimed) => {
                let claimed = claimed.unwrap_or_else(|fault| {
                    tracing::warn!(agent = %self.run.name, %fault, detail = fault.detail, "no work could be claimed");
                    Vec::new()
                });
                self.hand_out(claimed).await
            }
            Effect::Renewed(lost) => {
                self.desk.renewed();
                let lost = lost.unwrap_or_else(|fault| {
                    tracing::warn!(agent = %self.run.name, %fault, detail = fault.detail, "leases not renewed");
                    Vec::new()
                });
                lost.into_iter().try_for_each(|(task, fence)| self.on_lost(task, fence))
            }
            Effect::Looked(tasks) => tasks
                .into_iter()
                .filter(|task| task.cancel_asked_at.is_some())
                .try_for_each(|task| self.cancel(task.id)),
            Effect::Written => Ok(()),
        }
    }

    async fn hand_out(&mut self, claimed: Vec<Claimed>) -> Result<(), Verdict> {
        if self.leave_by.is_some() {
            // A stopping server keeps the leases until its very end, and gives them back without a cost.
            if !self.run.shared.stop.is_cancelled() {
                self.desk.give_back(claimed, &failure_of(&left()));
            }
            return Ok(());
        }
        let (tasks, again) = self.desk.take_in(claimed);
        let some = !tasks.is_empty();
        if some {
            hit(Point::SupervisorClaimed);
        }
        for task in tasks {
            let Some(held) = self.desk.get(&task.id) else { continue };
            let traceparent = held.lease.traceparent.clone();
            self.send(&KernelFrame::Task {
                task: task.id,
                input: task.input,
                attempt: task.attempt,
                deadline_at: task.deadline_at,
                traceparent,
            })?;
        }
        if some {
            hit(Point::SupervisorAssigned);
            self.idle_since = None;
            if self.run.state == AgentState::Ready {
                self.note(Event::TaskAssigned).await;
            }
        }
        if again {
            self.claim();
        }
        Ok(())
    }

    /// Somebody else holds the task now, or it is over. The worker keeps its slot until it has let go, or is ended.
    fn on_lost(&mut self, task: TaskId, fence: i64) -> Result<(), Verdict> {
        // It may have been claimed anew in the meantime.
        let Some(held) = self.desk.get_mut(&task).filter(|held| held.lease.fence == fence) else { return Ok(()) };
        held.lost = true;
        tracing::info!(agent = %self.run.name, %task, "lease lost");
        self.cancel(task)
    }

    /// A slot is free again.
    pub(super) fn rest(&mut self) {
        if self.desk.is_empty() {
            self.idle_since = Some(Instant::now());
        }
        self.claim();
    }
}

/// What becomes of the tasks of a worker that was told to exit.
pub(super) fn left() -> Fault {
    Fault::new(Code::WORKER_EXITED, "the agent was restarted or terminated before the task was done")
}
