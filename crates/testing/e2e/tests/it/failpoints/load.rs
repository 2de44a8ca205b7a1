//! The clients, the operator and the person who decides about doubts. Each beat asks for new work, looks at the old, and
//! does one of the chores of an operator. What the server acknowledged is remembered for the judge.

use std::collections::BTreeMap;

use agentos_api::body::{CreateToken, SecretValue, SubmitTask};
use agentos_client::{Client, TaskFilter};
use agentos_judge::Promise;
use agentos_kit::{Package, TestOs};
use agentos_types::{
    Code, Fault, Result, Role, Timestamp,
    task::{Task, TaskState},
};
use futures_util::future::join_all;
use serde_json::json;

use super::{
    plan::{Kind, Planner, Ticket},
    sink::Sink,
    thinking::Thinking,
};

/// Tasks that are open at the same time: more would only wait.
const OPEN_MAX: usize = 40;
/// New tasks of one beat.
const NEW_MAX: usize = 5;
/// Looks at a waiting task before it is canceled: longer than a renewal of leases takes.
const PATIENCE: u32 = 12;

pub struct Load {
    pub sink: Sink,
    pub thinking: Thinking,
    planner: Planner,
    tickets: Vec<Ticket>,
    beats: u64,
    deployed: u32,
}

impl Load {
    pub async fn new(seed: u64, file: &str) -> Self {
        let planner = Planner { seed, next: 0, file: file.into(), forbidden: "/etc/hostname".into() };
        let (sink, thinking) = (Sink::open().await, Thinking::new().await);
        Self { sink, thinking, planner, tickets: Vec::new(), beats: 0, deployed: 0 }
    }

    pub fn promises(&self) -> Vec<Promise> {
        self.tickets.iter().map(|ticket| ticket.promise.clone()).collect()
    }

    pub fn open(&self) -> usize {
        self.tickets.iter().filter(|ticket| !ticket.is_final).count()
    }

    /// What is still open, for the message of a run that does not come to rest.
    pub fn shown(&self) -> Vec<(&str, Kind)> {
        self.tickets.iter().filter(|ticket| !ticket.is_final).map(|t| (t.promise.key.as_str(), t.kind)).collect()
    }

    /// One round of everything. Fails when the server has stopped to answer.
    pub async fn beat(&mut self, client: &Client, url: &str) -> Result<()> {
        self.beats += 1;
        self.plan();
        self.submit(client).await?;
        self.thinking.ask(client, url).await?;
        self.look(client).await?;
        self.act(client).await?;
        self.chore(client).await
    }

    /// Only what brings open tasks to their end.
    pub async fn settle(&mut self, client: &Client) -> Result<()> {
        self.submit(client).await?;
        self.look(client).await?;
        self.act(client).await
    }

    fn plan(&mut self) {
        let room = OPEN_MAX.saturating_sub(self.open()).min(NEW_MAX);
        for _ in 0..room {
            let ticket = self.planner.ticket(&self.sink, now());
            self.tickets.push(ticket);
        }
    }

    /// Asks for everything that was not acknowledged, again under the same key; at times also for what was.
    async fn submit(&mut self, client: &Client) -> Result<()> {
        let again = usize::try_from(self.beats).unwrap() % 7;
        let count = self.tickets.len();
        let waiting: Vec<usize> = (0..count)
            .filter(|index| {
                let ticket = &self.tickets[*index];
                // A sample of the newest is asked for again although it was answered.
                (ticket.id.is_none() && !ticket.is_final) || (count - index < 60 && (count - index) % 29 == again + 1)
            })
            .collect();
        let tickets = &self.tickets;
        let answers = join_all(waiting.iter().map(|index| {
            let ticket = &tickets[*index];
            let body: SubmitTask = serde_json::from_value(ticket.body.clone()).unwrap();
            async move { client.submit_task(&body, Some(&ticket.promise.key)).await }
        }))
        .await;
        let mut failed = None;
        for (index, answer) in waiting.into_iter().zip(answers) {
            let ticket = &mut self.tickets[index];
            match answer {
                Ok(task) => ticket.acknowledge(task),
                // A deadline that passed before the server took it: as good as never asked for.
                Err(fault) if fault.code == Code::BODY_INVALID && ticket.kind == Kind::Late => ticket.is_final = true,
                Err(fault) => failed = Some(fault),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The newest tasks in one page. What was final stays final, which the judge compares.
    async fn look(&mut self, client: &Client) -> Result<()> {
        let filter = TaskFilter { limit: Some(500), ..TaskFilter::default() };
        let page = client.list_tasks(&filter).await?;
        let states: BTreeMap<_, _> = page.items.iter().map(|task| (task.id.clone(), task.state)).collect();
        for ticket in self.tickets.iter_mut().filter(|ticket| !ticket.is_final) {
            let Some(id) = &ticket.id else { continue };
            let state = match states.get(id) {
                Some(state) => *state,
                None => client.get_task(id).await?.state,
            };
            ticket.age += 1;
            ticket.state = Some(state);
            if state.is_terminal() {
                let to_redrive = ticket.kind == Kind::Dead && state == TaskState::Failed && !ticket.redriven;
                ticket.is_final = !to_redrive;
                ticket.promise.seen_final = (!to_redrive).then(|| state.as_str().to_owned());
            }
        }
        Ok(())
    }

    /// Cancels, redrives, and the person's word on what waits for one.
    async fn act(&mut self, client: &Client) -> Result<()> {
        for index in 0..self.tickets.len() {
            let ticket = &self.tickets[index];
            let Some(id) = ticket.id.clone().filter(|_| !ticket.is_final) else { continue };
            let number = index % 4;
            let due = match ticket.kind {
                Kind::Wait => ticket.age >= PATIENCE,
                Kind::Later => number == 3 && ticket.age >= 2,
                _ => false,
            };
            if due {
                self.cancel(client, index).await?;
            } else if ticket.kind == Kind::Dead && !ticket.redriven {
                match client.redrive_task(&id, None).await {
                    Ok(_) => self.tickets[index].redriven = true,
                    // Not failed yet, or redriven by a request whose answer was lost.
                    Err(fault) if fault.code == Code::TASK_NOT_WAITING => {
                        let task = client.get_task(&id).await?;
                        self.tickets[index].redriven = task.redrives > 0;
                    }
                    Err(fault) => return Err(fault),
                }
            } else if ticket.state == Some(TaskState::InputRequired) {
                self.decide(client, index).await?;
            }
        }
        Ok(())
    }

    async fn cancel(&mut self, client: &Client, index: usize) -> Result<()> {
        let Some(id) = self.tickets[index].id.clone() else { return Ok(()) };
        match client.cancel_task(&id).await {
            Ok(task) => {
                self.tickets[index].promise.canceled = task.state == TaskState::Canceled;
                Ok(())
            }
            Err(fault) if fault.code == Code::TASK_FINAL => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// The person: looks at what the receiver has, and sends again or gives up. Only for tasks that wait.
    async fn decide(&mut self, client: &Client, index: usize) -> Result<()> {
        let ticket = &self.tickets[index];
        let Some(id) = ticket.id.clone() else { return Ok(()) };
        let steps = client.task_steps(&id).await?;
        let open = steps.iter().find(|step| step.status == "started").expect("a step is in doubt");
        self.sink.has_caught_up().await;
        if self.sink.has_seen(&ticket.promise.key, &open.key) {
            return self.cancel(client, index).await;
        }
        match client.retry_task(&id).await {
            Ok(_) => Ok(()),
            // An earlier word of ours was taken and its answer lost.
            Err(fault) if fault.code == Code::TASK_NOT_WAITING => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// One of the things that an operator does beside the work.
    async fn chore(&mut self, client: &Client) -> Result<()> {
        match self.beats % 5 {
            0 => {
                let value = SecretValue { value: format!("whsec-{}-{}", self.planner.seed, self.beats) };
                client.rotate_secret(&"hook".parse().unwrap(), &value).await.map(drop)
            }
            1 => {
                let body: CreateToken =
                    serde_json::from_value(json!({"name": format!("beat {}", self.beats), "role": Role::Viewer}))
                        .unwrap();
                client.create_token(&body).await.map(drop)
            }
            2 => self.misuse_a_key(client).await,
            3 => {
                for schedule in client.list_schedules().await? {
                    if schedule.paused || self.beats % 10 == 3 {
                        client.pause_schedule(&schedule.id, !schedule.paused).await?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The same key for another request is refused, which takes its savepoint back.
    async fn misuse_a_key(&self, client: &Client) -> Result<()> {
        let Some(ticket) = self.tickets.iter().rev().find(|ticket| ticket.id.is_some()) else { return Ok(()) };
        let other = serde_json::from_value(json!({"agent": "steady", "input": {"steps": []}})).unwrap();
        match client.submit_task(&other, Some(&ticket.promise.key)).await {
            Ok(task) => panic!("{} was made for the key of another request", task.id),
            Err(fault) if fault.code == Code::IDEMPOTENCY_CONFLICT => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// The next version of an agent that does nothing. The server may end in the middle.
    pub async fn deploy(&mut self, os: &TestOs) {
        self.deployed += 1;
        let package = Package::echo("idle", "").with_version(&format!("1.{}.0", self.deployed));
        let directory = package.path().to_str().unwrap().to_owned();
        os.cli_ok(&["sign", &directory]).await;
        os.cli(&["agent", "deploy", &directory]).await;
    }
}

impl Ticket {
    fn acknowledge(&mut self, task: Task) {
        let id = task.id.to_string();
        match &self.promise.id {
            Some(first) if *first != id => self.promise.other_id = Some(id),
            Some(_) => {}
            None => {
                self.promise.id = Some(id);
                self.id = Some(task.id);
            }
        }
    }
}

/// Wall clock of the test, for run_at and deadline_at.
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_micros()).unwrap())
}

/// Whether a fault can be what a client of a dying server gets to see.
pub fn is_an_end(fault: &Fault) -> bool {
    matches!(fault.code, Code::NOT_RUNNING | Code::CONNECT_FAILED | Code::CONNECTION_LOST)
}
