//! A run: deeds one after the other, each followed by the checks of what may never be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use agentos_base::{Ambient, ambient::FakeClock};
use agentos_scratch::Backend;
use agentos_tasks::{Lease, NewSchedule, NewTask};
use agentos_types::{
    Actor, Code, Fault as Refusal, Result, ScheduleId, TaskId,
    task::{Cadence, TaskState},
};
use serde_json::json;

use crate::{
    deed::{Deed, Fault, Side},
    disk,
    node::{Ground, Node, START, agent, caller},
    view::{self, Row},
    work::Worker,
    world::World,
};

/// Tasks of one run; more would only make it slower.
const TASKS_MAX: usize = 20;
const FIRED_MAX: usize = 8;
const SECOND: i64 = 1_000_000;

/// What must hold of a task whatever comes.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub ended: Option<TaskState>,
    fence: i64,
    events: i64,
    redrives: i64,
}

pub struct Play {
    pub ground: Ground,
    pub ambient: Ambient,
    pub clock: Arc<FakeClock>,
    pub dice: Ambient,
    pub world: World,
    /// Absent only while it dies and comes back.
    life: Option<Node>,
    pub caller: agentos_authority::Caller,
    pub workers: Vec<Worker>,
    /// Every lease that was ever given.
    pub leases: Vec<Lease>,
    pub model: BTreeMap<TaskId, Known>,
    /// The journal as it was before the deed that is under way.
    pub rows: Vec<Row>,
    /// Results that a worker was told.
    pub told: BTreeMap<(TaskId, String, u64), serde_json::Value>,
    keys: BTreeMap<String, TaskId>,
    /// Submissions whose answer was lost: as many more tasks may appear.
    unsure: usize,
    schedules: BTreeSet<ScheduleId>,
    pub happened: BTreeMap<&'static str, u64>,
}

impl Play {
    pub async fn begin(backend: Backend, seed: u64) -> Self {
        let (ambient, clock) = Ambient::fake(seed, START);
        let (dice, _) = Ambient::fake(!seed, START);
        let (ground, world) = (Ground::new(backend), World::default());
        let life = ground.begin(&ambient, &world).await;
        let caller = caller(&ambient);
        Self {
            ground,
            ambient,
            clock,
            dice,
            world,
            life: Some(life),
            caller,
            workers: Vec::new(),
            leases: Vec::new(),
            model: BTreeMap::new(),
            rows: Vec::new(),
            told: BTreeMap::new(),
            keys: BTreeMap::new(),
            unsure: 0,
            schedules: BTreeSet::new(),
            happened: BTreeMap::new(),
        }
    }

    pub fn node(&self) -> &Node {
        self.life.as_ref().unwrap()
    }

    pub fn node_mut(&mut self) -> &mut Node {
        self.life.as_mut().unwrap()
    }

    pub fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    pub fn row(&self, id: &TaskId) -> &Row {
        self.rows.iter().find(|row| row.id == *id).unwrap()
    }

    /// Does the lease still hold?
    pub fn holds(&self, lease: &Lease) -> bool {
        let row = self.row(&lease.task);
        row.state == TaskState::Working && row.fence == lease.fence
    }

    /// Was this outcome forced by the fault that is set?
    pub fn forced<T>(&self, outcome: &Result<T>) -> bool {
        outcome.as_ref().is_err_and(|fault| fault.code == Code::AUDIT_UNAVAILABLE)
    }

    /// One deed and its checks.
    pub async fn step(&mut self, deed: Deed) {
        let armed = self.node().trap.armed();
        let before =
            if armed.is_some() && deed.is_one_commit() { Some(view::print(&self.node().store).await) } else { None };
        self.act(deed).await;
        match self.node().trap.sprung() {
            None => {}
            Some(Fault::RefuseCommit) => {
                self.count("commit refused");
                if let Some(before) = before {
                    view::same(&before, &view::print(&self.node().store).await, "a refused commit changed something");
                }
            }
            Some(fault) => {
                let kept = match fault {
                    Fault::DieBeforeAnswer if deed.is_one_commit() => Some(view::print(&self.node().store).await),
                    Fault::DieBeforeAnswer => None,
                    _ => before,
                };
                self.count(match fault {
                    Fault::DieBeforeAnswer => "died after a commit",
                    _ => "died inside a transaction",
                });
                self.die(false, false).await;
                if let Some(kept) = kept {
                    view::same(&kept, &view::print(&self.node().store).await, &format!("{fault:?} in {deed:?}"));
                }
                self.recover().await;
            }
        }
        self.look().await;
    }

    async fn act(&mut self, deed: Deed) {
        match deed {
            Deed::Submit { key, delay_s, deadline_s, script } => self.submit(key, delay_s, deadline_s, script).await,
            Deed::Claim { side, slots } => self.claim(side, slots).await,
            Deed::Work { pick, answer } => self.work(pick, answer).await,
            Deed::GiveUp { pick, class } => self.give_up(pick, class).await,
            Deed::Renew { side } => self.renew(side).await,
            Deed::Stale { pick, write } => self.stale(pick, write).await,
            Deed::Cancel { pick } => self.cancel(pick).await,
            Deed::Decide { pick, again } => self.decide(pick, again).await,
            Deed::Redrive { pick, edit } => self.redrive(pick, edit).await,
            Deed::Pass { seconds } => {
                self.clock.advance(Duration::from_secs(seconds));
                drop(self.node().of(Side::A).sweep().await);
            }
            Deed::Jump { minutes } => {
                self.count(if minutes < 0 { "clock set back" } else { "clock set forward" });
                self.clock.set(agentos_types::Timestamp(self.clock_now() + minutes * 60 * SECOND));
            }
            Deed::Fire => self.fire().await,
            Deed::PutSchedule { name, every_s, cron } => self.put_schedule(name, every_s, cron).await,
            Deed::PauseSchedule { name, paused } => {
                if let Some(id) = self.schedule(name) {
                    drop(self.node().of(Side::A).pause_schedule(&Actor::System, &id, paused).await);
                }
            }
            Deed::RemoveSchedule { name } => {
                if let Some(id) = self.schedule(name) {
                    drop(self.node().of(Side::A).remove_schedule(&Actor::System, &id).await);
                }
            }
            Deed::Together { count } => self.together(count).await,
            Deed::Die { torn } => {
                self.count(if torn { "died with a torn log" } else { "died at rest" });
                self.node().trap.die_now();
                let before = view::print(&self.node().store).await;
                self.die(torn, self.dice.random_up_to(1) == 0).await;
                view::same(&before, &view::print(&self.node().store).await, "a crash lost something");
                self.recover().await;
            }
            Deed::Arm(fault) => self.node().trap.arm(fault),
        }
    }

    pub fn clock_now(&self) -> i64 {
        self.ambient.now().as_micros()
    }

    /// What the process held is gone; what is on the disk is opened. A worker of the other node may live on.
    async fn die(&mut self, torn: bool, other_survives: bool) {
        self.workers.retain(|worker| other_survives && worker.survives());
        let Node { store, tasks, monitor, log, trap, stops, directory } = self.life.take().unwrap();
        drop((store, tasks, monitor, log, stops));
        let left = trap.image().unwrap_or(directory);
        if torn && self.ground.backend == Backend::Sqlite {
            let length = usize::try_from(self.dice.random_up_to(6_000)).unwrap();
            let garbage: Vec<u8> = (0..length).map(|_| self.dice.random::<1>()[0]).collect();
            disk::tear(left.path(), &garbage);
        }
        self.life = Some(self.ground.open(left, &self.ambient, &self.world));
    }

    /// What a server does at its start.
    async fn recover(&mut self) {
        self.node().of(Side::A).recover().await.unwrap();
        if self.workers.is_empty() {
            self.node().of(Side::B).recover().await.unwrap();
        }
        // What the dead process held waits for nobody's lease to run out.
        let (rows, _) = view::rows(&self.node().store).await;
        let held = rows.iter().find(|row| row.state == TaskState::Working && row.node.as_deref() == Some("node-a"));
        assert!(held.is_none(), "a lease of a dead node was kept: {held:?}");
    }

    /// What may never be, whatever was done.
    pub async fn look(&mut self) {
        let (rows, gaps) = view::rows(&self.node().store).await;
        assert!(gaps.is_empty(), "events with a gap: {gaps:?}");
        for row in &rows {
            let id = &row.id;
            if !self.model.contains_key(id) {
                assert!(row.schedule.is_some() || self.unsure > 0, "{id} came from nowhere");
                self.unsure -= usize::from(row.schedule.is_none());
            }
            let known = self.model.entry(id.clone()).or_default();
            if let Some(ended) = known.ended.filter(|ended| *ended != row.state) {
                let redriven = ended == TaskState::Failed && row.redrives > known.redrives;
                assert!(redriven, "{id} was {ended} and is {}", row.state);
            }
            assert!(row.fence >= known.fence && row.events >= known.events, "{id} went back: {row:?} after {known:?}");
            assert!(row.redrives >= known.redrives, "{id} forgot a redrive");
            assert!((0..=row.attempts_max).contains(&row.attempt), "attempts of {row:?}");
            assert_eq!(row.state == TaskState::Working, row.lease_until.is_some(), "the lease of {row:?}");
            *known = Known {
                ended: row.state.is_terminal().then_some(row.state),
                fence: row.fence,
                events: row.events,
                redrives: row.redrives,
            };
        }
        assert_eq!(rows.len(), self.model.len(), "tasks were lost");
        self.rows = rows;
        self.unsure = 0;
    }

    async fn submit(&mut self, key: Option<u8>, delay_s: u64, deadline_s: Option<u64>, script: u64) {
        if self.rows.len() >= TASKS_MAX {
            return;
        }
        let now = self.ambient.now();
        let mut new = NewTask::new(agent(), json!({"script": script, "edition": 0}));
        match key {
            // The same request under the same key: nothing of it may differ.
            Some(key) => {
                new.input = json!({"script": key, "edition": 0});
                new.idempotency_key = Some(format!("key-{key}"));
            }
            None => {
                new.run_at = Some(now.after(Duration::from_secs(delay_s)));
                new.deadline_at = deadline_s.map(|seconds| now.after(Duration::from_secs(seconds)));
            }
        }
        let key = new.idempotency_key.clone();
        let outcome = self.node().of(Side::A).submit(&Actor::System, new).await;
        self.submitted(key, outcome);
    }

    fn submitted(&mut self, key: Option<String>, outcome: Result<agentos_tasks::Submitted>) {
        let made = self.rows.iter().find(|row| key.is_some() && row.key == key).map(|row| row.id.clone());
        match outcome {
            Ok(done) => {
                assert_eq!(done.replayed, made.is_some(), "{key:?}");
                if let Some(made) = &made {
                    assert_eq!(*made, done.task.id, "one key, two tasks");
                    self.count("key used again");
                }
                // An answer that nobody got binds nobody.
                if let Some(key) = key.filter(|_| !self.node().trap.has_sprung()) {
                    assert_eq!(*self.keys.entry(key).or_insert(done.task.id.clone()), done.task.id);
                }
                self.unsure += usize::from(made.is_none());
            }
            Err(fault) => assert_eq!(fault.code, Code::AUDIT_UNAVAILABLE, "{fault}"),
        }
    }

    /// Several operations in one commit, among them one that fails when it has written already.
    async fn together(&mut self, count: usize) {
        if self.rows.len() + count >= TASKS_MAX {
            return;
        }
        let store = self.node().store.clone();
        let tasks = self.node().of(Side::A).clone();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = std::sync::mpsc::channel::<()>();
        let block = store.write(move |_| {
            begun.send(()).map_err(Refusal::internal).and_then(|()| held.recv().map_err(Refusal::internal))
        });
        tokio::pin!(block);
        assert!(futures_util::poll!(&mut block).is_pending());
        begins.recv().unwrap();
        // The writer stands still: what is asked for now waits and becomes one commit.
        let spoil = store.write(|tx| {
            tx.execute(
                "INSERT INTO kv (agent, key, version, value_key, value, updated_at) VALUES ('sim', 'spoilt', 1, 0, $1, 0)",
                &[b"1".as_slice().into()],
            )?;
            Err::<(), _>(Refusal::new(Code::KV_CONFLICT, "on purpose"))
        });
        let submits =
            (0..count).map(|_| tasks.submit(&Actor::System, NewTask::new(agent(), json!({"script": 0, "edition": 0}))));
        let waiting = futures_util::future::join(futures_util::future::join_all(submits), spoil);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        release.send(()).unwrap();
        let (outcomes, spoilt) = waiting.await;
        block.await.unwrap();
        assert!(spoilt.is_err(), "an operation that failed said otherwise");
        let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert!(done == count || done == 0, "{done} of {count} in one commit");
        for outcome in outcomes {
            self.submitted(None, outcome);
        }
        let left = "SELECT count(*) FROM kv WHERE key = 'spoilt'";
        let left = self.node().store.read(move |conn| conn.query_one(left, &[], |row| row.integer(0))).await.unwrap();
        assert_eq!(left, Some(0), "half of a failed operation was committed");
        self.count("several in one commit");
    }

    fn schedule(&self, name: u16) -> Option<ScheduleId> {
        self.schedules.iter().nth(usize::from(name) % self.schedules.len().max(1)).cloned()
    }

    async fn put_schedule(&mut self, name: u16, every_s: u64, cron: bool) {
        let cadence = match cron {
            true => Cadence::Cron { expression: "*/7 * * * *".into(), timezone: "UTC".into() },
            false => Cadence::Interval { every_s },
        };
        let new = NewSchedule {
            agent: agent(),
            name: format!("s{name}"),
            cadence,
            input: json!({"script": 3, "edition": 0}),
        };
        if let Ok(schedule) = self.node().of(Side::A).create_schedule(&Actor::System, new).await {
            self.schedules.insert(schedule.id);
        }
    }

    /// Both nodes fire at once. However long nobody looked, each schedule makes one task.
    async fn fire(&mut self) {
        // Schedules have room beyond what is submitted, or a busy run would never see one fire.
        if self.rows.len() >= TASKS_MAX + FIRED_MAX {
            return;
        }
        let [one, other] = &self.node().tasks;
        let _ = tokio::join!(one.fire_due(), other.fire_due());
        if self.node().trap.armed().is_none() {
            let before: BTreeSet<TaskId> = self.rows.iter().map(|row| row.id.clone()).collect();
            let (rows, _) = view::rows(&self.node().store).await;
            let mut fired: Vec<_> =
                rows.iter().filter(|row| !before.contains(&row.id)).filter_map(|row| row.schedule.clone()).collect();
            let all = fired.len();
            fired.sort();
            fired.dedup();
            assert_eq!(all, fired.len(), "a schedule made several tasks at one look");
            if all > 0 {
                self.count("schedule fired");
            }
        }
    }
}
