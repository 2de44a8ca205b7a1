//! What each frame of a worker means at each point. Anything else breaks the protocol and ends the life.

use agentos_base::trace::{Scope, scoped};
use agentos_failpoint::{Point, hit};
use agentos_protocol::{
    KernelFrame, PROTOCOL_VERSION, WorkerFrame,
    frame::{CallError, Outcome},
};
use agentos_tasks::Ending;
use agentos_types::{
    Code, Fault, TaskId,
    agent::AgentState,
    json,
    limits::{FRAME_BYTES_MAX, JSON_DEPTH_MAX},
    task::{ErrorClass, Failure},
};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    assign::left,
    desk::Standing,
    failure_of,
    life::{Life, Phase, Verdict},
};
use crate::lifecycle::Event;

/// Text of a failure; more does not help a reader.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

impl Life<'_> {
    pub(super) async fn on_frame(&mut self, frame: WorkerFrame) -> Result<(), Verdict> {
        match (self.phase, frame) {
            (Phase::Launched, WorkerFrame::Hello { protocol: PROTOCOL_VERSION, .. }) => self.welcome(),
            (Phase::Launched, WorkerFrame::Hello { protocol, .. }) => Err(Verdict::Broken(Fault::new(
                Code::PROTOCOL_VERSION,
                format!("the worker speaks protocol {protocol}, this server {PROTOCOL_VERSION}"),
            ))),
            (Phase::Greeted, WorkerFrame::Ready {}) => {
                self.become_ready().await;
                Ok(())
            }
            (Phase::Ready, frame) => self.on_work(frame),
            (phase, frame) => Err(out_of_order(&frame, phase)),
        }
    }

    fn welcome(&mut self) -> Result<(), Verdict> {
        self.phase = Phase::Greeted;
        self.send(&KernelFrame::Welcome {
            protocol: PROTOCOL_VERSION,
            agent: self.caller.agent.clone(),
            instance: self.caller.instance.clone(),
            heartbeat_ms: self.manifest.health.heartbeat_ms,
            frame_bytes_max: FRAME_BYTES_MAX,
        })
    }

    async fn become_ready(&mut self) {
        self.phase = Phase::Ready;
        hit(Point::SupervisorReady);
        self.ready_since = Some(Instant::now());
        // A worker that is told to exit already no longer changes the agent's state.
        if self.leave_by.is_none() && matches!(self.run.state, AgentState::Starting | AgentState::Paused) {
            self.note(Event::Ready).await;
        }
        self.claim();
    }

    pub(super) fn on_work(&mut self, frame: WorkerFrame) -> Result<(), Verdict> {
        match frame {
            WorkerFrame::Pong { n } if self.heart.pong(n) => Ok(()),
            WorkerFrame::Call { id, task, step, syscall, args } => self.on_call(id, &task, step, syscall, args),
            WorkerFrame::Progress { task, data } => {
                if self.is_about_held(&task, "progress")? {
                    shallow(&data)?;
                    self.desk.progress(&task, data);
                }
                Ok(())
            }
            WorkerFrame::Done { task, output } => {
                shallow(&output)?;
                self.end(&task, "done", Ending::Completed(output))
            }
            WorkerFrame::Failed { task, class, message, retry_after_s } => {
                let message = crate::agents::clip(&message, MESSAGE_BYTES_MAX).to_owned();
                self.end(&task, "failed", Ending::Failed(Failure { class, code: None, message, retry_after_s }))
            }
            WorkerFrame::Canceled { task } => self.on_canceled(&task),
            frame => Err(out_of_order(&frame, Phase::Ready)),
        }
    }

    fn end(&mut self, task: &TaskId, frame: &str, ending: Ending) -> Result<(), Verdict> {
        if self.is_about_held(task, frame)? {
            hit(Point::SupervisorEndingReceived);
            self.desk.finish(task, ending);
            self.rest();
        }
        Ok(())
    }

    /// The answer to `cancel`. A worker that was told to exit may give its tasks up with it as well.
    fn on_canceled(&mut self, task: &TaskId) -> Result<(), Verdict> {
        let asked = self.desk.get(task).is_some_and(|held| held.cancel_by.is_some());
        match (asked, self.leave_by) {
            (true, _) => self.end(task, "canceled", Ending::Canceled),
            // Settled with the other tasks of this life when the process has ended.
            (false, Some(_)) if self.run.shared.stop.is_cancelled() => Ok(()),
            (false, Some(_)) => self.end(task, "canceled", Ending::Failed(failure_of(&left()))),
            (false, None) if self.desk.standing(task) == Standing::Past => Ok(()),
            (false, None) => Err(Verdict::Broken(Fault::new(
                Code::PROTOCOL_ORDER,
                format!("'canceled' for {task}, which nobody asked to cancel"),
            ))),
        }
    }

    /// A frame about a task that is over may have crossed with our word about it; one that it never had is a defect.
    fn is_about_held(&self, task: &TaskId, frame: &str) -> Result<bool, Verdict> {
        match self.desk.standing(task) {
            Standing::Held => Ok(true),
            Standing::Past => Ok(false),
            Standing::Unknown => Err(Verdict::Broken(Fault::new(
                Code::PROTOCOL_ORDER,
                format!("'{frame}' for {task}, which the worker does not hold"),
            ))),
        }
    }

    /// Hands the call on. It runs beside everything else and outlives this worker if it must.
    fn on_call(&mut self, id: u64, task: &TaskId, step: String, syscall: String, args: Value) -> Result<(), Verdict> {
        let Some(lease) = self.desk.get(task).map(|held| held.lease.clone()) else {
            let fault = Fault::new(Code::TASK_UNKNOWN_TO_WORKER, format!("the worker does not hold {task}"));
            let outcome = Outcome::Error(CallError::new(&fault, ErrorClass::Denied));
            return self.send(&KernelFrame::Reply { id, outcome });
        };
        hit(Point::SupervisorCallReceived);
        let open = self.calls.open(id, task).map_err(Verdict::Broken)?;
        let (syscalls, caller) = (self.run.shared.syscalls.clone(), self.caller.clone());
        let scope = Scope::of_trace(&lease.traceparent);
        let work = async move {
            let outcome = syscalls.call(&caller, &lease, step, syscall, args).await;
            open.answer(outcome).await;
            hit(Point::SupervisorCallAnswered);
        };
        self.run.shared.background.spawn("system call", scoped(scope, work));
        Ok(())
    }
}

fn out_of_order(frame: &WorkerFrame, phase: Phase) -> Verdict {
    let name = match frame {
        WorkerFrame::Hello { .. } => "hello",
        WorkerFrame::Ready {} => "ready",
        WorkerFrame::Call { .. } => "call",
        WorkerFrame::Progress { .. } => "progress",
        WorkerFrame::Done { .. } => "done",
        WorkerFrame::Failed { .. } => "failed",
        WorkerFrame::Canceled { .. } => "canceled",
        WorkerFrame::Pong { .. } => "pong",
    };
    let point = match phase {
        Phase::Launched => "before 'hello'",
        Phase::Greeted => "before 'ready'",
        Phase::Ready => "here",
    };
    Verdict::Broken(Fault::new(Code::PROTOCOL_ORDER, format!("'{name}' is not allowed {point}")))
}

/// What is stored is read by others, whose parsers have a limit.
fn shallow(value: &Value) -> Result<(), Verdict> {
    match json::depth(value) > JSON_DEPTH_MAX {
        false => Ok(()),
        true => Err(Verdict::Broken(Fault::new(
            Code::FRAME_MALFORMED,
            format!("JSON is nested deeper than {JSON_DEPTH_MAX} levels"),
        ))),
    }
}
