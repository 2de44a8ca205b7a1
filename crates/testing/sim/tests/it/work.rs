//! Workers and people: what a worker does with its task, what it does when it should not, and what a person decides.

use std::{future::Future, pin::Pin};

use agentos_monitor::CallRequest;
use agentos_protocol::frame::CallError;
use agentos_tasks::{Ending, Lease};
use agentos_types::{
    Actor, Code, Result, TaskId,
    task::{ErrorClass, Failure, Task, TaskState},
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{
    deed::{Answer, Side},
    node::agent,
    play::Play,
    world::Stop,
};

type Flight = Pin<Box<dyn Future<Output = Result<Value, CallError>>>>;

/// A process with a task in its hands. It does not know whether its lease still holds.
pub struct Worker {
    pub side: Side,
    pub lease: Lease,
    pub script: Script,
    next: usize,
    /// A call that stands before or after its act.
    flight: Option<(Flight, oneshot::Sender<Answer>)>,
}

impl Worker {
    /// Does it live on when the server of the other node dies? A call that was under way dies with its connection.
    pub fn survives(&self) -> bool {
        self.side == Side::B && self.flight.is_none()
    }
}

/// What the input of a task asks for: steps, each of a kind. `edition` is another request under the same keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script {
    number: u64,
    pub edition: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Local,
    Get,
    Post,
    Webhook,
}

impl Script {
    pub fn of(task: &Task) -> Self {
        let number = |name: &str| task.input[name].as_u64().unwrap();
        Self { number: number("script"), edition: number("edition") }
    }

    /// One to four steps; two bits of the number each.
    pub fn steps(self) -> Vec<(String, Kind)> {
        let kinds = [Kind::Local, Kind::Post, Kind::Get, Kind::Webhook];
        let kind = |index: u64| kinds[usize::try_from((self.number >> (2 * index)) % 4).unwrap()];
        (0..=self.number % 4).map(|index| (format!("step-{index}"), kind(index))).collect()
    }

    fn request(self, step: &str, kind: Kind) -> CallRequest {
        let (edition, url) = (self.edition, format!("https://world.test/{}/{step}", self.edition));
        let (syscall, args) = match kind {
            Kind::Local => ("kv.put", json!({"key": format!("{step}/{edition}"), "value": 1})),
            Kind::Get => ("net.fetch", json!({"url": url})),
            Kind::Post => ("net.fetch", json!({"url": url, "method": "POST", "body": "1"})),
            Kind::Webhook => ("notify.webhook", json!({"url": url, "body": 1, "secret": "hook"})),
        };
        CallRequest { step: step.into(), syscall: syscall.into(), args }
    }
}

/// How far a call got.
enum Progress {
    Stopped(Stop),
    Done(Result<Value, CallError>),
}

impl Play {
    pub async fn claim(&mut self, side: Side, slots: usize) {
        let now = self.ambient.now();
        let mut ready: Vec<_> = self
            .rows
            .iter()
            .filter(|row| row.state == TaskState::Submitted && row.run_at <= now)
            .filter(|row| row.deadline_at.is_none_or(|deadline| deadline > now))
            .map(|row| (row.run_at, row.id.clone()))
            .collect();
        ready.sort();
        ready.truncate(slots);
        let claimed = match self.node().of(side).claim(&agent(), slots).await {
            Ok(claimed) => claimed,
            Err(fault) => return assert_eq!(fault.code, Code::AUDIT_UNAVAILABLE, "{fault}"),
        };
        let got: Vec<_> = claimed.iter().map(|one| (one.task.run_at, one.task.id.clone())).collect();
        assert_eq!(got, ready, "what is ready, oldest first, and nothing that somebody holds");
        for one in claimed {
            assert!(one.lease.fence > self.row(&one.task.id).fence, "the fence of {} rises", one.task.id);
            self.leases.push(one.lease.clone());
            let script = Script::of(&one.task);
            self.workers.push(Worker { side, lease: one.lease, script, next: 0, flight: None });
        }
    }

    fn any_worker(&self, pick: u16) -> Option<usize> {
        (!self.workers.is_empty()).then(|| usize::from(pick) % self.workers.len())
    }

    pub async fn work(&mut self, pick: u16, answer: Answer) {
        let Some(index) = self.any_worker(pick) else { return };
        let mut worker = self.workers.remove(index);
        let steps = worker.script.steps();
        let progress = match worker.flight.take() {
            Some((flight, go)) => {
                go.send(answer).unwrap();
                self.drive(flight).await
            }
            None => match steps.get(worker.next) {
                None => return self.finish(worker).await,
                Some((step, kind)) => {
                    let (step, kind) = (step.clone(), *kind);
                    self.ask(&worker, &step, kind).await
                }
            },
        };
        match progress {
            (Progress::Stopped(stop), flight) => {
                worker.flight = Some((flight, stop.go));
                self.workers.insert(index, worker);
            }
            (Progress::Done(Ok(value)), _) => {
                assert!(self.holds(&worker.lease), "a call under a stale lease of {} succeeded", worker.lease.task);
                let step = steps[worker.next].0.clone();
                let place = (worker.lease.task.clone(), step, worker.script.edition);
                // An answer that nobody got is not remembered: the process died with it.
                if !self.node().trap.has_sprung() {
                    let first = self.told.entry(place.clone()).or_insert(value.clone());
                    assert_eq!(*first, value, "another answer for {place:?}");
                }
                worker.next += 1;
                self.workers.insert(index, worker);
            }
            (Progress::Done(Err(error)), _) => self.broken(worker, error).await,
        }
    }

    /// Asks for a step. One that is done is not asked for again: it answers at once, and the world hears nothing.
    async fn ask(&mut self, worker: &Worker, step: &str, kind: Kind) -> (Progress, Flight) {
        let task = worker.lease.task.clone();
        let place = (task.clone(), step.to_owned(), worker.script.edition);
        let done = self.told.contains_key(&place);
        let (monitor, caller, lease) = (self.node().monitor.clone(), self.caller.clone(), worker.lease.clone());
        let request = worker.script.request(step, kind);
        let flight: Flight = Box::pin(async move { monitor.call(&caller, &lease, request).await });
        let (progress, flight) = self.drive(flight).await;
        if let Progress::Stopped(stop) = &progress {
            assert!(!stop.acted);
            assert!(!done, "step {step} of {task} is done and was asked for again");
            if !self.node().trap.has_sprung() {
                let steps = self.node().of(Side::A).steps(&task).await.unwrap();
                let intent = steps.iter().any(|found| found.key == step && found.status == "started");
                assert!(intent, "{step} of {task} would act without a durable intent");
            }
        } else if done {
            self.count("recorded step answered");
        }
        (progress, flight)
    }

    async fn drive(&mut self, mut flight: Flight) -> (Progress, Flight) {
        let stops = &mut self.node_mut().stops;
        let progress = tokio::select! {
            biased;
            outcome = &mut flight => Progress::Done(outcome),
            Some(stop) = stops.recv() => Progress::Stopped(stop),
        };
        (progress, flight)
    }

    /// The worker reads the error as the SDK does.
    async fn broken(&mut self, worker: Worker, error: CallError) {
        let lease = worker.lease;
        match error.code {
            Code::LEASE_LOST => {
                assert!(!self.holds(&lease), "the lease of {} holds and was refused", lease.task);
                self.count("call under a stale lease refused");
            }
            Code::TASK_CANCELED => {
                let outcome = self.node().of(worker.side).finish(&Actor::System, &lease, Ending::Canceled).await;
                self.judge(&lease, outcome);
            }
            // The sweeper ends it.
            Code::TASK_DEADLINE => {}
            code => {
                if code == Code::STEP_IN_DOUBT {
                    self.count("step in doubt");
                }
                let failure =
                    Failure { class: error.class, code: Some(code), message: error.message, retry_after_s: None };
                let outcome = self.node().of(worker.side).release(&lease, failure).await;
                self.judge(&lease, outcome);
            }
        }
    }

    /// A write under a lease is accepted if and only if the lease holds.
    fn judge(&mut self, lease: &Lease, outcome: Result<Task>) {
        if self.forced(&outcome) {
            return;
        }
        match outcome {
            Ok(_) => assert!(self.holds(lease), "a stale write on {} was accepted", lease.task),
            Err(fault) => {
                assert_eq!(fault.code, Code::LEASE_LOST, "{fault}");
                assert!(!self.holds(lease), "the lease of {} holds and was refused", lease.task);
                self.count("stale write refused");
            }
        }
    }

    async fn finish(&mut self, worker: Worker) {
        let output = json!({"steps": worker.next});
        let outcome =
            self.node().of(worker.side).finish(&Actor::System, &worker.lease, Ending::Completed(output)).await;
        self.judge(&worker.lease, outcome);
        self.count("worker finished");
    }

    pub async fn give_up(&mut self, pick: u16, class: u16) {
        let Some(index) = self.any_worker(pick) else { return };
        let worker = self.workers.remove(index);
        let classes = [
            ErrorClass::Permanent,
            ErrorClass::Crash,
            ErrorClass::Permanent,
            ErrorClass::RateLimited,
            ErrorClass::Transient,
        ];
        let class = classes[usize::from(class) % classes.len()];
        let failure = Failure { class, code: None, message: "on purpose".into(), retry_after_s: None };
        let outcome = self.node().of(worker.side).release(&worker.lease, failure).await;
        self.judge(&worker.lease, outcome);
    }

    pub async fn renew(&mut self, side: Side) {
        let leases: Vec<Lease> =
            self.workers.iter().filter(|worker| worker.side == side).map(|worker| worker.lease.clone()).collect();
        let expected: Vec<TaskId> =
            leases.iter().filter(|lease| !self.holds(lease)).map(|lease| lease.task.clone()).collect();
        if let Ok(lost) = self.node().of(side).renew(&leases).await {
            assert_eq!(lost, expected, "leases that are lost");
        }
    }

    /// Somebody who should be dead writes.
    pub async fn stale(&mut self, pick: u16, write: u16) {
        let stale: Vec<Lease> = self.leases.iter().filter(|lease| !self.holds(lease)).cloned().collect();
        let Some(lease) = stale.get(usize::from(pick) % stale.len().max(1)).cloned() else { return };
        let tasks = self.node().of(Side::B).clone();
        let refused = match write % 5 {
            0 => tasks.finish(&Actor::System, &lease, Ending::Completed(json!("stale"))).await.map(drop),
            1 => tasks.progress(&lease, json!("stale")).await,
            2 => tasks.finish(&Actor::System, &lease, Ending::Canceled).await.map(drop),
            3 => {
                assert_eq!(tasks.renew(std::slice::from_ref(&lease)).await.unwrap_or_default().len(), 1);
                return;
            }
            _ => {
                let (monitor, caller) = (self.node().monitor.clone(), self.caller.clone());
                let request = Script { number: 0, edition: 99 }.request("stale", Kind::Local);
                let outcome = monitor.call(&caller, &lease, request).await;
                outcome.map(drop).map_err(|error| agentos_types::Fault::new(error.code, error.message))
            }
        };
        if self.forced(&refused) {
            return;
        }
        assert_eq!(refused.unwrap_err().code, Code::LEASE_LOST, "a stale write");
        self.count("stale write refused");
    }

    fn any_task(&self, pick: u16) -> Option<TaskId> {
        self.rows.get(usize::from(pick) % self.rows.len().max(1)).map(|row| row.id.clone())
    }

    fn any_in(&self, state: TaskState, pick: u16) -> Option<TaskId> {
        let those: Vec<_> = self.rows.iter().filter(|row| row.state == state).collect();
        those.get(usize::from(pick) % those.len().max(1)).map(|row| row.id.clone())
    }

    pub async fn cancel(&mut self, pick: u16) {
        let Some(id) = self.any_task(pick) else { return };
        let state = self.row(&id).state;
        let outcome = self.node().of(Side::A).cancel(&Actor::System, &id).await;
        if self.forced(&outcome) {
            return;
        }
        match (state, outcome) {
            (state, Err(fault)) => {
                assert!(state.is_terminal() && fault.code == Code::TASK_FINAL, "{state}: {fault}");
            }
            (TaskState::Working, Ok(task)) => assert!(task.cancel_asked_at.is_some()),
            (_, Ok(task)) => assert_eq!(task.state, TaskState::Canceled),
        }
    }

    pub async fn decide(&mut self, pick: u16, again: bool) {
        let Some(id) = self.any_in(TaskState::InputRequired, pick) else { return };
        self.count("person decided");
        let tasks = self.node().of(Side::A).clone();
        let outcome = if again {
            // Also if the answer is lost: it may have counted.
            self.world.decide(&id);
            tasks.retry(&Actor::System, &id).await
        } else {
            tasks.cancel(&Actor::System, &id).await
        };
        assert!(self.forced(&outcome) || outcome.is_ok(), "{outcome:?}");
    }

    pub async fn redrive(&mut self, pick: u16, edit: bool) {
        let id = self.any_in(TaskState::Failed, pick).or_else(|| self.any_task(pick));
        let Some(id) = id else { return };
        let tasks = self.node().of(Side::A).clone();
        let edition = self.row(&id).redrives + 1;
        let input = edit.then(|| json!({"script": pick, "edition": edition}));
        let outcome = tasks.redrive(&Actor::System, &id, input).await;
        if self.forced(&outcome) {
            return;
        }
        assert_eq!(outcome.is_ok(), self.row(&id).state == TaskState::Failed, "{outcome:?}");
    }
}
