//! Random work on the journal beside a model of it that is small enough to be obviously right. The same seed must tell the
//! same story on each database.

use std::{collections::BTreeMap, time::Duration};

use agentos_base::Ambient;
use agentos_tasks::{Ending, Lease, NewTask};
use agentos_types::{
    Actor, Code, TaskId, Timestamp,
    task::{ErrorClass, Task, TaskState},
};
use serde_json::json;

use super::bench::*;

const OPERATIONS: usize = 120;
/// A second failure is the last: what falls at the same instant then draws no waits in an order of its own.
const ATTEMPTS_MAX: i64 = 2;

/// What the model knows of a task.
#[derive(Clone, Debug)]
struct Known {
    state: TaskState,
    attempt: i64,
    fence: i64,
    run_at: Timestamp,
    lease_until: Timestamp,
    cancel_asked: bool,
    key: Option<String>,
}

impl Known {
    /// The worker or its server is gone. With two attempts there is no pause: the first crash goes on at once.
    fn crash(&mut self, now: Timestamp) {
        self.state = match self.attempt < ATTEMPTS_MAX {
            _ if self.cancel_asked => TaskState::Canceled,
            true => TaskState::Submitted,
            false => TaskState::Failed,
        };
        if self.state == TaskState::Submitted {
            self.run_at = now;
        }
    }
}

struct Machine {
    bench: Bench,
    dice: Ambient,
    model: BTreeMap<TaskId, Known>,
    /// Every lease that was ever given; most of them are stale.
    leases: Vec<Lease>,
    told: Vec<String>,
}

/// Runs the operations of one seed and returns what happened, step by step.
pub async fn story(seed: u64) -> Vec<String> {
    let mut settings = options("node-a");
    settings.attempts_max = ATTEMPTS_MAX;
    let bench = bench_with(settings).await;
    let (dice, _) = Ambient::fake(seed, START);
    let mut machine = Machine { bench, dice, model: BTreeMap::new(), leases: Vec::new(), told: Vec::new() };
    for _ in 0..OPERATIONS {
        let said = match machine.roll(9) {
            0 | 1 => machine.submit().await,
            2 | 3 => machine.claim().await,
            4 => machine.complete().await,
            5 => machine.fail().await,
            6 => machine.renew().await,
            7 => machine.cancel().await,
            8 => machine.wait().await,
            _ => machine.recover_or_redrive().await,
        };
        machine.told.push(said);
        machine.compare().await;
    }
    for id in machine.model.keys() {
        let history = machine.bench.history(id).await;
        assert_eq!(history.last().map(String::as_str), Some(machine.model[id].state.as_str()), "{id}");
    }
    machine.told
}

impl Machine {
    fn roll(&self, most: u64) -> u64 {
        self.dice.random_up_to(most)
    }

    fn now(&self) -> Timestamp {
        self.bench.ambient.now()
    }

    fn any_task(&self) -> Option<TaskId> {
        let most = u64::try_from(self.model.len()).unwrap().checked_sub(1)?;
        self.model.keys().nth(usize::try_from(self.roll(most)).unwrap()).cloned()
    }

    fn any_lease(&self) -> Option<Lease> {
        let most = u64::try_from(self.leases.len()).unwrap().checked_sub(1)?;
        // The newest one half of the time, so that something gets done.
        let index = if self.roll(1) == 0 { most } else { self.roll(most) };
        self.leases.get(usize::try_from(index).unwrap()).cloned()
    }

    /// Does this lease still hold?
    fn holds(&self, lease: &Lease) -> bool {
        let known = &self.model[&lease.task];
        known.state == TaskState::Working && known.fence == lease.fence
    }

    async fn submit(&mut self) -> String {
        let mut new = NewTask::new(echo(), json!({"n": 1}));
        new.idempotency_key = (self.roll(2) == 0).then(|| format!("key-{}", self.roll(5)));
        new.run_at = (self.roll(3) == 0).then(|| self.now().after(Duration::from_secs(self.roll(20))));
        // The same request under the same key: its time must not differ.
        if new.idempotency_key.is_some() {
            new.run_at = None;
        }
        let key = new.idempotency_key.clone();
        let earlier = key.as_ref().and_then(|key| self.model.iter().find(|(_, known)| known.key.as_ref() == Some(key)));
        let earlier = earlier.map(|(id, _)| id.clone());
        let done = self.bench.tasks.submit(&person(), new).await.unwrap();
        assert_eq!(done.replayed, earlier.is_some(), "{key:?}");
        if let Some(earlier) = earlier {
            assert_eq!(done.task.id, earlier);
            return format!("submit: {earlier} again");
        }
        let Task { id, state, attempt, run_at, .. } = done.task;
        let told = format!("submit: {id} at {run_at}");
        let (fence, lease_until) = (0, Timestamp::ZERO);
        self.model.insert(id, Known { state, attempt, fence, run_at, lease_until, cancel_asked: false, key });
        told
    }

    async fn claim(&mut self) -> String {
        let (now, slots) = (self.now(), usize::try_from(1 + self.roll(2)).unwrap());
        let ready = |known: &Known| known.state == TaskState::Submitted && known.run_at <= now;
        let mut expected: Vec<(Timestamp, TaskId)> =
            self.model.iter().filter(|(_, known)| ready(known)).map(|(id, known)| (known.run_at, id.clone())).collect();
        expected.sort();
        expected.truncate(slots);
        let claimed = self.bench.tasks.claim(&echo(), slots).await.unwrap();
        let got: Vec<_> = claimed.iter().map(|one| (one.task.run_at, one.task.id.clone())).collect();
        assert_eq!(got, expected, "what is ready, oldest first");
        for one in claimed {
            let known = self.model.get_mut(&one.task.id).unwrap();
            (known.state, known.attempt) = (TaskState::Working, known.attempt + 1);
            assert!(one.lease.fence > known.fence, "the fence rises");
            (known.fence, known.lease_until) = (one.lease.fence, now.after(LEASE));
            self.leases.push(one.lease);
        }
        format!("claim: {got:?}")
    }

    async fn complete(&mut self) -> String {
        let Some(lease) = self.any_lease() else { return "complete: nothing".into() };
        let holds = self.holds(&lease);
        let outcome = self.bench.tasks.finish(&Actor::System, &lease, Ending::Completed(json!("done"))).await;
        if holds {
            assert_eq!(outcome.unwrap().state, TaskState::Completed);
            self.model.get_mut(&lease.task).unwrap().state = TaskState::Completed;
        } else {
            assert_eq!(outcome.unwrap_err().code, Code::LEASE_LOST);
        }
        format!("complete: {} {} {holds}", lease.task, lease.fence)
    }

    async fn fail(&mut self) -> String {
        let Some(lease) = self.any_lease() else { return "fail: nothing".into() };
        let class = if self.roll(1) == 0 { ErrorClass::Transient } else { ErrorClass::Permanent };
        let holds = self.holds(&lease);
        let outcome = self.bench.tasks.release(&lease, failure(class)).await;
        if !holds {
            assert_eq!(outcome.unwrap_err().code, Code::LEASE_LOST);
            return format!("fail: {} {} stale", lease.task, lease.fence);
        }
        let task = outcome.unwrap();
        let now = self.now();
        let known = self.model.get_mut(&lease.task).unwrap();
        known.state = match class {
            _ if known.cancel_asked => TaskState::Canceled,
            ErrorClass::Transient if known.attempt < ATTEMPTS_MAX => TaskState::Submitted,
            _ => TaskState::Failed,
        };
        if known.state == TaskState::Submitted {
            assert!(task.run_at >= now && task.run_at <= now.after(Duration::from_secs(1)));
            known.run_at = task.run_at;
        }
        format!("fail: {} {} {class:?} {}", lease.task, task.state, task.run_at)
    }

    async fn renew(&mut self) -> String {
        let leases: Vec<Lease> = (0..=self.roll(2)).filter_map(|_| self.any_lease()).collect();
        let lost = self.bench.tasks.renew(&leases).await.unwrap();
        let expected: Vec<TaskId> =
            leases.iter().filter(|lease| !self.holds(lease)).map(|lease| lease.task.clone()).collect();
        assert_eq!(lost, expected);
        let until = self.now().after(LEASE);
        for lease in leases.iter().filter(|lease| self.holds(lease)).cloned().collect::<Vec<_>>() {
            self.model.get_mut(&lease.task).unwrap().lease_until = until;
        }
        format!("renew: lost {lost:?}")
    }

    async fn cancel(&mut self) -> String {
        let Some(id) = self.any_task() else { return "cancel: nothing".into() };
        let outcome = self.bench.tasks.cancel(&person(), &id).await;
        let known = self.model.get_mut(&id).unwrap();
        match known.state {
            state if state.is_terminal() => assert_eq!(outcome.unwrap_err().code, Code::TASK_FINAL),
            TaskState::Working => known.cancel_asked = true,
            _ => (known.state, known.cancel_asked) = (TaskState::Canceled, true),
        }
        format!("cancel: {id} {}", known.state)
    }

    /// Time passes, and leases that run out with it fall.
    async fn wait(&mut self) -> String {
        self.bench.clock.advance(Duration::from_secs(self.roll(12)));
        self.bench.tasks.sweep().await.unwrap();
        let now = self.now();
        let expired =
            self.model.values_mut().filter(|known| known.state == TaskState::Working && known.lease_until <= now);
        expired.for_each(|known| known.crash(now));
        format!("wait: until {now}")
    }

    async fn recover_or_redrive(&mut self) -> String {
        if self.roll(3) == 0 {
            let orderly = self.roll(1) == 0;
            let tasks = &self.bench.tasks;
            let count = if orderly { tasks.hand_back().await } else { tasks.recover().await }.unwrap();
            let now = self.now();
            let working: Vec<_> = self.model.values_mut().filter(|known| known.state == TaskState::Working).collect();
            assert_eq!(count, working.len() as u64);
            for known in working {
                if orderly {
                    known.state = if known.cancel_asked { TaskState::Canceled } else { TaskState::Submitted };
                    known.attempt -= 1;
                } else {
                    known.crash(now);
                }
            }
            return format!("{}: {count}", if orderly { "hand back" } else { "recover" });
        }
        let Some(id) = self.any_task() else { return "redrive: nothing".into() };
        let outcome = self.bench.tasks.redrive(&person(), &id, None).await;
        let now = self.now();
        let known = self.model.get_mut(&id).unwrap();
        if known.state != TaskState::Failed {
            assert!(outcome.is_err(), "{id} {}", known.state);
            return format!("redrive: {id} refused");
        }
        (known.state, known.attempt, known.run_at, known.cancel_asked) = (TaskState::Submitted, 0, now, false);
        format!("redrive: {id}")
    }

    /// Every task is what the model says.
    async fn compare(&self) {
        for (id, known) in &self.model {
            let task = self.bench.tasks.get(id).await.unwrap();
            let seen = (task.state, task.attempt, task.run_at, task.cancel_asked_at.is_some());
            let expected = (known.state, known.attempt, known.run_at, known.cancel_asked);
            assert_eq!(seen, expected, "{id} after {:#?}", self.told);
        }
    }
}
