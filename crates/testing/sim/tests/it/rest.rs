//! The end of a run: faults cease, honest workers do what is left, and everything must come to rest and agree.

use std::collections::BTreeSet;

use agentos_audit::{Filter, query};
use agentos_types::{
    Actor,
    audit::{AuditEvent, Phase},
    task::TaskState,
};

use crate::{
    deed::{Answer, Side},
    play::Play,
    work::{Kind, Script},
};

/// Rounds until everything is over; a run needs a tenth of them.
const ROUNDS_MAX: usize = 300;
const MOVES_MAX: usize = 400;

impl Play {
    /// Brings everything to its end and checks what must be true of all of it.
    pub async fn rest(&mut self) {
        self.node().trap.disarm();
        for schedule in self.node().of(Side::A).list_schedules(Default::default()).await.unwrap() {
            self.node().of(Side::A).remove_schedule(&Actor::System, &schedule.id).await.unwrap();
        }
        let mut rounds = 0;
        self.look().await;
        // Every dead letter gets another chance: what one of its steps left open must not happen twice.
        let failed: Vec<_> =
            self.rows.iter().filter(|row| row.state == TaskState::Failed).map(|row| row.id.clone()).collect();
        for id in failed {
            self.node().of(Side::A).redrive(&Actor::System, &id, None).await.unwrap();
        }
        loop {
            self.look().await;
            if self.rows.iter().all(|row| row.state.is_terminal()) {
                break;
            }
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "work that never ends: {:#?}", self.rows);
            self.round().await;
        }
        self.agree().await;
    }

    async fn round(&mut self) {
        for pick in 0..4 {
            if self.rows.iter().any(|row| row.state == TaskState::InputRequired) {
                self.decide(pick, pick % 2 == 0).await;
                self.look().await;
            }
        }
        self.claim(Side::A, 50).await;
        for _ in 0..MOVES_MAX {
            if self.workers.is_empty() {
                break;
            }
            self.look().await;
            self.work(0, Answer::Fine).await;
        }
        assert!(self.workers.is_empty(), "a worker that never ends");
        // The next instant at which anything can happen, however far a clock that was set back has left it.
        let next = self.node().of(Side::A).sweep().await.unwrap();
        if let Some(next) = next.filter(|next| *next > self.ambient.now()) {
            self.clock.set(next);
        }
        self.node().of(Side::A).sweep().await.unwrap();
    }

    async fn agree(&mut self) {
        let records = self.records().await;
        self.fired_once(&records);
        self.every_act_had_its_intent(&records);
        for row in self.rows.clone().iter().filter(|row| row.state == TaskState::Completed) {
            let task = self.node().of(Side::A).get(&row.id).await.unwrap();
            let steps = self.node().of(Side::A).steps(&row.id).await.unwrap();
            let script = Script::of(&task);
            for (key, kind) in script.steps() {
                let step = steps.iter().find(|step| step.key == key);
                assert!(step.is_some_and(|step| step.status == "done"), "{key} of completed {}: {step:?}", row.id);
                if kind != Kind::Local {
                    let seen = self.world.seen.lock().unwrap();
                    let acts: u64 = seen
                        .iter()
                        .filter(|((task, step, _), _)| *task == row.id && *step == key)
                        .map(|(_, seen)| seen.acts)
                        .sum();
                    assert!(acts >= 1, "{key} of {} is done and was never sent", row.id);
                }
            }
        }
        for ((task, step, edition), told) in &self.told {
            let steps = self.node().of(Side::A).steps(task).await.unwrap();
            let found = steps.iter().find(|found| found.key == *step);
            let replaced = self.node().of(Side::A).get(task).await.unwrap().input["edition"] != *edition;
            let kept = found.is_some_and(|found| found.result.as_ref() == Some(told));
            assert!(kept || replaced, "the result of {step} of {task} that a worker was told is lost: {found:?}");
        }
        let twice = "SELECT count(*) FROM kv WHERE version <> 1";
        let twice = self.node().store.read(move |conn| conn.query_one(twice, &[], |row| row.integer(0))).await.unwrap();
        assert_eq!(twice, Some(0), "an effect on our own store happened twice");
        for ((task, step, _), seen) in self.world.seen.lock().unwrap().iter() {
            assert!(seen.keys.windows(2).all(|pair| pair[0] == pair[1]), "the key of {step} of {task} changed");
        }
        let seen = self.node().log.verify().await.unwrap();
        assert_eq!((seen.finding, seen.records), (None, records.len() as u64));
    }

    async fn records(&self) -> Vec<AuditEvent> {
        let mut all = Vec::new();
        loop {
            let cursor = i64::try_from(all.len()).unwrap().checked_sub(1);
            let filter = Filter { cursor, limit: 500, ascending: true, ..Filter::default() };
            let page = self.node().store.read(move |conn| query(conn, "node-1", &filter)).await.unwrap();
            let Some(last) = page.last() else { return all };
            assert_eq!(usize::try_from(last.record.seq).unwrap(), all.len() + page.len() - 1, "a gap in the log");
            all.extend(page.into_iter().map(|stored| stored.record.event));
        }
    }

    fn fired_once(&self, records: &[AuditEvent]) {
        let mut fired = BTreeSet::new();
        for record in records.iter().filter(|record| record.action == "schedule.fire") {
            let at = record.facts["fire_at"].as_i64().unwrap();
            assert!(at <= record.at.as_micros(), "{} fired before its time", record.resource);
            assert!(fired.insert((record.resource.clone(), at)), "{} fired twice for {at}", record.resource);
        }
    }

    fn every_act_had_its_intent(&self, records: &[AuditEvent]) {
        for ((task, step, _), seen) in self.world.seen.lock().unwrap().iter() {
            let of_step = |record: &&AuditEvent| {
                record.phase == Phase::Intent
                    && record.task.as_ref() == Some(task)
                    && record.correlation.as_deref() == Some(step)
            };
            let intents = records.iter().filter(of_step).count() as u64;
            assert!(intents >= seen.acts, "{step} of {task} was sent {} times with {intents} intents", seen.acts);
        }
    }
}
