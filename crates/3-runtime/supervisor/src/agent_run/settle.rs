//! The end of a life: kill what is left, take the last readings and the last words, and give the tasks back.

use agentos_failpoint::{Point, hit};
use agentos_protocol::{
    KernelFrame, WorkerFrame,
    sandbox::{End as Exit, Rusage},
};
use agentos_sandbox::{Ended, Reason};
use agentos_tasks::{Ending, Lease};
use agentos_types::{Actor, Code, Fault, TaskId, manifest::Limits};
use tokio::{
    task::spawn_blocking,
    time::{Duration, Instant, timeout, timeout_at},
};

use super::{
    assign::left,
    desk::{Effect, write_ending},
    failure_of,
    life::{End, Life, Phase, Verdict},
    link::Received,
};
use crate::{lifecycle::Event, surroundings::Surroundings};

/// For a process that has closed its socket to end by itself, so that its status can be told. The kernel takes its sandbox apart
/// first, which takes long on a busy machine.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);
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
        let reason = self.take_last_reading(gone, by_itself).await;
        // Pipes that a descendant holds open are dropped with the pumps.
        let _ = timeout(LEFTOVERS, async { while self.pumps.join_next().await.is_some() {} }).await;
        let reason = if matches!(verdict, Verdict::Overfull(_)) { Reason::Disk } else { reason };
        // Where nobody hears of single kills, each one ends its agent.
        if self.kills.is_deaf() && reason == Reason::Memory {
            self.on_kill();
        }
        let end = self.judge(verdict, by_itself.then_some(reason));
        if !matches!(end, End::Stopped) {
            self.run.shared.ends.count(reason);
            self.run.ended = Some(reason);
        }
        self.settle(&end).await;
        let surroundings = self.process.surroundings().clone();
        // The last who holds them; the next life makes its own.
        drop(self);
        Surroundings::remove(surroundings).await;
        end
    }

    /// What it used and why it ended, while its group still knows.
    async fn take_last_reading(&mut self, gone: bool, by_itself: bool) -> Reason {
        let (ended, reason) = match gone {
            true => self.process.told(by_itself).await,
            false => {
                tracing::error!(agent = %self.run.name, pid = self.process.id(), "a killed worker hangs in the kernel");
                (Ended { end: Exit::Killed, rusage: Rusage::default(), is_launcher_lost: false }, Reason::Killed)
            }
        };
        self.process.surroundings().end_way_out().await;
        let card = self.run.card.clone();
        match spawn_blocking(move || card.meter.end(&ended)).await {
            Ok(usage) => self.store_usage(usage).await,
            Err(error) => tracing::error!(agent = %self.run.name, %error, "the last reading was lost"),
        }
        reason
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
                (_, WorkerFrame::Hello { protocol, .. }) if protocol == agentos_protocol::PROTOCOL_VERSION => Ok(()),
                (_, frame) => self.on_frame(frame).await,
            };
            if let Err(verdict) = outcome {
                return Some(verdict);
            }
        }
        None
    }

    /// `reason` is that of a process that ended by itself.
    fn judge(&self, verdict: Verdict, reason: Option<Reason>) -> End {
        if self.leave_by.is_some() {
            return End::Stopped;
        }
        if reason == Some(Reason::LauncherLost) {
            return End::Lost(ended_as(Reason::LauncherLost, &self.manifest.limits));
        }
        if matches!(verdict, Verdict::CommandLost) {
            return End::Lost(Fault::new(
                Code::LAUNCHER_LOST,
                "the launcher ended while it ran a command of this agent",
            ));
        }
        let killed = reason.is_some_and(|reason| !matches!(reason, Reason::Exit(_)));
        let (event, fault) = match verdict {
            Verdict::Stubborn(task) => return End::Stubborn(task),
            Verdict::Hung(fault) => (Event::Hang, fault),
            Verdict::Broken(fault) | Verdict::Overfull(fault) => (Event::Crash, fault),
            // Whoever is killed has no time to finish a frame.
            Verdict::Closed { partial: true } if !killed => (
                Event::Crash,
                Fault::new(Code::FRAME_MALFORMED, "the worker closed its socket in the middle of a frame"),
            ),
            Verdict::Exited | Verdict::Closed { .. } | Verdict::Overdue | Verdict::CommandLost => {
                let fault = match reason {
                    Some(reason) => ended_as(reason, &self.manifest.limits),
                    None => Fault::new(Code::WORKER_EXITED, "the worker closed its socket"),
                };
                (Event::Crash, fault)
            }
        };
        End::Failed { event, fault, healthy: self.ready_since.map(|since| since.elapsed()) }
    }

    /// Waits for the writes under way, then gives back every task that the worker still held.
    async fn settle(&mut self, end: &End) {
        let fault = match end {
            End::Failed { fault, .. } | End::Refused(fault) | End::Lost(fault) => fault.clone(),
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

/// Whoever reads it learns which limit to raise, and what it is now.
fn ended_as(reason: Reason, limits: &Limits) -> Fault {
    let value = match reason {
        Reason::Memory => limits.memory_bytes,
        Reason::Processes => u64::from(limits.processes),
        Reason::Disk => limits.workspace_bytes,
        Reason::FileSize => limits.file_bytes,
        Reason::CpuTime => limits.cpu_seconds,
        Reason::LauncherLost => return Fault::new(Code::LAUNCHER_LOST, format!("the worker {reason}")),
        Reason::Seccomp => return Fault::new(Code::WORKER_CALL_REFUSED, format!("the worker {reason}")),
        _ => return Fault::new(Code::WORKER_EXITED, format!("the worker {reason}")),
    };
    let limit = reason.limit().unwrap_or_default();
    Fault::new(Code::WORKER_LIMIT, format!("the worker {reason} ({limit} is {value})"))
}

fn stubborn(canceled: &TaskId) -> Fault {
    Fault::new(Code::WORKER_EXITED, format!("the worker was ended because it did not cancel {canceled} in time"))
}
