//! The end of a life: kill what is left, take the last readings and the last words, and give the tasks back.

use std::process::ExitStatus;

use agentos_failpoint::{Point, hit};
use agentos_protocol::{KernelFrame, WorkerFrame};
use agentos_tasks::{Ending, Lease};
use agentos_types::{Actor, Code, Fault, TaskId};
use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::{
    assign::left,
    desk::{Effect, write_ending},
    failure_of,
    life::{End, Life, Phase, Verdict},
    link::Received,
};
use crate::{lifecycle::Event, process::describe};

/// For a process that has closed its socket to end by itself, so that its status can be told.
const EXIT_PATIENCE: Duration = Duration::from_millis(200);
/// For what a dead worker has left in its socket and pipes. Only a descendant that escaped keeps them open longer.
const LEFTOVERS: Duration = Duration::from_millis(200);
/// Frames read from a dead worker's socket; no more fit into its buffer in practice.
const LEFTOVER_FRAMES_MAX: usize = 1_024;
/// For writes to the journal that are under way.
const WRITES: Duration = Duration::from_secs(5);

impl Life<'_> {
    pub(super) async fn conclude(mut self, verdict: Verdict) -> End {
        self.over = true;
        let by_itself = self.has_ended(&verdict).await;
        if let Verdict::Broken(fault) = &verdict {
            self.link.send_last(&KernelFrame::Fatal { code: fault.code, message: fault.message.clone() }).await;
        }
        let gone = self.process.end().await;
        let verdict = match verdict {
            Verdict::Exited | Verdict::Closed { .. } => self.read_leftovers().await.unwrap_or(verdict),
            verdict => verdict,
        };
        self.store_usage().await;
        self.run.card.meter.end();
        let status = self.process.reap();
        if !gone {
            tracing::error!(agent = %self.run.name, pid = self.process.id(), "a killed worker hangs in the kernel");
        }
        // Pipes that a descendant holds open are dropped with the pumps.
        let _ = timeout(LEFTOVERS, async { while self.pumps.join_next().await.is_some() {} }).await;
        let end = self.judge(verdict, status.filter(|_| by_itself));
        self.settle(&end).await;
        end
    }

    /// Whether the process has ended without our kill. A socket that closes is most often the first sign of it.
    async fn has_ended(&self, verdict: &Verdict) -> bool {
        match verdict {
            Verdict::Exited => true,
            Verdict::Closed { .. } => timeout(EXIT_PATIENCE, self.process.exited()).await.is_ok(),
            _ => false,
        }
    }

    /// A worker may report and exit at once; its report counts. A breach among its last words says more than its exit.
    async fn read_leftovers(&mut self) -> Option<Verdict> {
        let until = Instant::now() + LEFTOVERS;
        for _ in 0..LEFTOVER_FRAMES_MAX {
            let frame = match timeout_at(until, self.link.next()).await {
                Ok(Ok(Received::Frame(frame))) => frame,
                Ok(Ok(Received::Closed { partial: true })) => return Some(Verdict::Closed { partial: true }),
                Ok(Ok(Received::Closed { partial: false })) | Err(_) => return None,
                Ok(Err(fault)) => return Some(Verdict::Broken(fault)),
            };
            let outcome = match (self.phase, frame) {
                // Nobody is left to hear the answers.
                (_, WorkerFrame::Call { .. } | WorkerFrame::Pong { .. } | WorkerFrame::Ready {}) => Ok(()),
                (Phase::Ready, frame) => self.on_work(frame),
                (_, frame @ WorkerFrame::LaunchFailed { .. }) => self.on_frame(frame).await,
                (_, WorkerFrame::Hello { protocol, .. }) if protocol == agentos_protocol::PROTOCOL_VERSION => Ok(()),
                (_, frame) => self.on_frame(frame).await,
            };
            if let Err(verdict) = outcome {
                return Some(verdict);
            }
        }
        None
    }

    /// `status` is that of a process that ended by itself.
    fn judge(&self, verdict: Verdict, status: Option<ExitStatus>) -> End {
        if self.leave_by.is_some() {
            return End::Stopped;
        }
        let how = status.map_or_else(|| "closed its socket".to_owned(), describe);
        let killed = status.is_some_and(|status| status.code().is_none());
        let (event, fault) = match verdict {
            Verdict::Stubborn(task) => return End::Stubborn(task),
            Verdict::Hung(fault) => (Event::Hang, fault),
            Verdict::NotLaunched(fault) => (Event::LaunchFailed, fault),
            Verdict::Broken(fault) => (Event::Crash, fault),
            // Whoever is killed has no time to finish a frame.
            Verdict::Closed { partial: true } if !killed => (
                Event::Crash,
                Fault::new(Code::FRAME_MALFORMED, "the worker closed its socket in the middle of a frame"),
            ),
            Verdict::Exited | Verdict::Closed { .. } | Verdict::Overdue => {
                (Event::Crash, Fault::new(Code::WORKER_EXITED, format!("the worker {how}")))
            }
        };
        End::Failed { event, fault, healthy: self.ready_since.map(|since| since.elapsed()) }
    }

    /// Waits for the writes under way, then gives back every task that the worker still held.
    async fn settle(&mut self, end: &End) {
        let fault = match end {
            End::Failed { fault, .. } | End::Refused(fault) => fault.clone(),
            End::Stubborn(task) => stubborn(task),
            End::Stopped => left(),
        };
        let stopping = self.run.shared.stop.is_cancelled();
        let quiet = timeout(WRITES, async {
            while !self.desk.is_quiet() {
                match self.desk.next_effect().await {
                    Effect::Claimed(Ok(claimed)) if !stopping => self.desk.give_back(claimed, &failure_of(&fault)),
                    _ => {}
                }
            }
        });
        if quiet.await.is_err() {
            tracing::warn!(agent = %self.run.name, "writes for tasks are still under way after the worker's end");
        }
        let leases = self.desk.clear();
        // A stopping server leaves them: it gives them back at its very end, at no cost of an attempt.
        if !stopping {
            if !leases.is_empty() {
                hit(Point::SupervisorWorkerGone);
            }
            leases.into_iter().for_each(|lease| self.give_back(lease, &fault));
        }
    }

    /// Beside the next life: a call of the task may still be under way, and its outcome must be recorded first. Half a
    /// lease is the most that can be waited, because nobody renews it any more.
    fn give_back(&self, lease: Lease, fault: &Fault) {
        let (calls, tasks) = (self.calls.clone(), self.run.shared.tasks.clone());
        let patience = tasks.options().lease / 2;
        let failure = failure_of(fault);
        self.run.shared.background.spawn("task given back", async move {
            let _ = timeout(patience, calls.settled(&lease.task)).await;
            // One that was asked to cancel ends canceled, whatever the reason.
            write_ending(&tasks, &Actor::System, &lease, Ending::Failed(failure)).await;
            hit(Point::SupervisorTaskGivenBack);
        });
    }
}

fn stubborn(canceled: &TaskId) -> Fault {
    Fault::new(Code::WORKER_EXITED, format!("the worker was ended because it did not cancel {canceled} in time"))
}
