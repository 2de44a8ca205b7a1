//! A valid history passes; each way of breaking it is found under its rule. A judge that finds nothing in a forged
//! history proves nothing about a real one.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    Ask, BudgetRow, EventRow, FireRow, History, KvRow, NotificationRow, Promise, Record, Request, Rule, ScheduleRow,
    StepRow, TaskRow, UseRow, judge, parse_segment,
};

/// Writes a small history as the product would: two tasks of clients, the second of them over a crash, and one firing.
#[derive(Default)]
struct Scribe(History);

impl Scribe {
    fn record(&mut self, action: &str, phase: &str, decision: &str, of: (Option<&str>, Option<&str>), facts: Value) {
        let instance = if phase == "fact" && !action.contains("kv") { Value::Null } else { json!("i1") };
        self.0.log.push(Record {
            seq: self.0.log.len() as u64,
            action: action.into(),
            actor: json!({"kind": "agent", "instance": instance}),
            resource: "r".into(),
            phase: phase.into(),
            decision: decision.into(),
            task: of.0.map(str::to_owned),
            correlation: of.1.map(str::to_owned),
            facts,
        });
    }

    fn event(&mut self, task: &str, kind: &str, data: Value) {
        let seq = self.0.events.iter().filter(|event| event.task == task).count() as i64 + 1;
        self.0.events.push(EventRow { task: task.into(), seq, kind: kind.into(), data: data.to_string() });
    }

    fn state(&mut self, task: &str, state: &str, attempt: i64) {
        let data = if attempt == 0 { json!({"state": state}) } else { json!({"state": state, "attempt": attempt}) };
        self.event(task, "state", data);
    }

    fn submit(&mut self, task: &str) {
        self.state(task, "submitted", 0);
        self.record("task.submit", "fact", "allowed", (Some(task), None), json!({"state": "submitted"}));
    }

    fn finish(&mut self, task: &str, attempt: i64) {
        self.state(task, "completed", attempt);
        self.record("task.finish", "fact", "succeeded", (Some(task), None), json!({"state": "completed"}));
    }

    fn step(&mut self, task: &str, key: &str, syscall: &str, safety: &str, fence: i64) {
        let seq = self.0.steps.iter().filter(|step| step.task == task).count() as i64 + 1;
        self.0.steps.push(StepRow {
            task: task.into(),
            key: key.into(),
            seq,
            syscall: syscall.into(),
            status: "done".into(),
            safety: safety.into(),
            fence,
        });
        self.event(task, "step", json!({"key": key, "status": "done"}));
    }

    fn outward(&mut self, task: &str, key: &str, syscall: &str, safety: &str, fence: i64) {
        self.record(syscall, "intent", "allowed", (Some(task), Some(key)), json!({}));
        self.request(if task == "t1" { "a" } else { "b" }, key, safety);
        self.record(syscall, "outcome", "succeeded", (Some(task), Some(key)), json!({}));
        self.step(task, key, syscall, safety, fence);
    }

    fn request(&mut self, task_key: &str, step: &str, safety: &str) {
        let key = (safety == "keyed").then(|| format!("{task_key}/{step}"));
        self.0.requests.push(Request { safety: safety.into(), task_key: task_key.into(), step: step.into(), key });
    }

    /// One question by a system call, one from inside of the sandbox, one of a client; and what they cost.
    fn asks(&mut self) {
        for (task, correlation, hash) in [
            (Some("t1"), "think", None),
            (Some("t1"), "req_1", Some("0123456789abcdef01")),
            (None, "req_2", Some("ff")),
        ] {
            let facts = hash.map_or(json!({}), |hash| json!({"request_sha256": hash, "operation": "chat"}));
            self.record("model.call", "intent", "allowed", (task, Some(correlation)), facts.clone());
            self.record("model.call", "outcome", "succeeded", (task, Some(correlation)), facts);
        }
        self.step("t1", "think", "model.call", "idempotent", 1);
        self.step("t1", "model-0123456789abcdef-1", "model.call", "idempotent", 1);
        let ask = Ask { task_key: "a".into(), step: "think".into(), cost_nano_usd: 40, ..Ask::default() };
        let inside = Ask { step: "inside".into(), is_inside: true, ..ask.clone() };
        let client = Ask { payer: Some("token:k".into()), cost_nano_usd: 40, ..Ask::default() };
        self.0.asks = vec![ask, inside, client];
        self.0.answers = vec!["req_2".into()];
        let (period, unit) = (|| "total".to_owned(), || "nano-usd".to_owned());
        for scope in ["runs-of:x", "agent:x", "token:k"] {
            self.0.budgets.push(BudgetRow { scope: scope.into(), period: period(), unit: unit(), amount: 100 });
        }
        for (scope, used) in [("run:t1", 80), ("agent:x", 80), ("token:k", 40)] {
            let row = UseRow { scope: scope.into(), period: period(), unit: unit(), used, leased: 0 };
            self.0.uses.push(row);
        }
    }

    fn task(&mut self, id: &str, key: &str, schedule: Option<&str>, claims: i64) {
        let event_seq = self.0.events.iter().filter(|event| event.task == id).count() as i64;
        self.0.tasks.push(TaskRow {
            id: id.into(),
            agent: "x".into(),
            state: "completed".into(),
            attempt: claims,
            attempts_max: 5,
            fence: claims,
            event_seq,
            idem_scope: Some(schedule.unwrap_or("client").into()),
            idem_key: Some(key.into()),
            schedule: schedule.map(str::to_owned),
            failure_class: None,
        });
    }
}

fn valid() -> History {
    let mut scribe = Scribe::default();
    scribe.record("server.start", "fact", "succeeded", (None, None), json!({}));
    scribe.submit("t1");
    scribe.state("t1", "working", 1);
    scribe.outward("t1", "pay", "net.fetch", "unsafe", 1);
    scribe.record("kv.put", "fact", "succeeded", (Some("t1"), Some("put")), json!({}));
    scribe.step("t1", "put", "kv.put", "idempotent", 1);
    scribe.record("notify.event", "fact", "succeeded", (Some("t1"), Some("tell")), json!({}));
    scribe.step("t1", "tell", "notify.event", "idempotent", 1);
    scribe.asks();
    scribe.finish("t1", 1);
    scribe.task("t1", "a", None, 1);
    scribe.submit("t2");
    scribe.state("t2", "working", 1);
    // The crash: the intent has no outcome, and its request may have arrived.
    scribe.record("notify.webhook", "intent", "allowed", (Some("t2"), Some("hook")), json!({}));
    scribe.request("b", "hook", "keyed");
    scribe.record("server.start", "fact", "succeeded", (None, None), json!({}));
    scribe.state("t2", "submitted", 1);
    scribe.state("t2", "working", 2);
    let later = scribe.0.log.len();
    scribe.outward("t2", "hook", "notify.webhook", "keyed", 2);
    scribe.0.log.iter_mut().skip(later).for_each(|record| record.actor = json!({"kind": "agent", "instance": "i2"}));
    scribe.finish("t2", 2);
    scribe.task("t2", "b", None, 2);
    for (id, at) in [("t3", "1000000"), ("t4", "3000000")] {
        scribe.submit(id);
        scribe.record(
            "schedule.fire",
            "fact",
            "succeeded",
            (Some(id), None),
            json!({"fire_at": at.parse::<i64>().unwrap()}),
        );
        scribe.0.log.last_mut().unwrap().resource = "s1".into();
        scribe.state(id, "working", 1);
        scribe.finish(id, 1);
        scribe.task(id, at, Some("s1"), 1);
        scribe.0.fires.push(FireRow { schedule: "s1".into(), fire_at: at.parse().unwrap(), task: id.into() });
    }
    let Scribe(mut history) = scribe;
    let promise = |key: &str, id: &str, steps: &[&str]| Promise {
        key: key.into(),
        id: Some(id.into()),
        seen_final: Some("completed".into()),
        steps: steps.iter().map(|step| (*step).to_owned()).collect(),
        ..Promise::default()
    };
    history.promises = vec![
        promise("a", "t1", &["pay"]),
        promise("b", "t2", &["hook"]),
        Promise { key: "never taken".into(), ..Promise::default() },
    ];
    history.schedules =
        vec![ScheduleRow { id: "s1".into(), cadence: r#"{"kind":"interval","every_s":1}"#.into(), fired: 2 }];
    history.kv = vec![KvRow { agent: "x".into(), key: "count".into(), version: 1, value: "1".into() }];
    history.notifications = vec![NotificationRow { task: "t1".into(), dedupe_key: Some("t1".into()) }];
    history.log_verifies = true;
    history
}

/// What was forged, the rule that must notice, and the forgery.
type Forgery = (&'static str, Rule, fn(&mut History));

fn task<'h>(history: &'h mut History, id: &str) -> &'h mut TaskRow {
    history.tasks.iter_mut().find(|task| task.id == id).unwrap()
}

fn event<'h>(history: &'h mut History, id: &str, seq: i64) -> &'h mut EventRow {
    history.events.iter_mut().find(|event| event.task == id && event.seq == seq).unwrap()
}

fn insert_record(history: &mut History, at: usize, record: Record) {
    history.log.insert(at, record);
    history.log.iter_mut().enumerate().for_each(|(seq, record)| record.seq = seq as u64);
}

fn forget_records(history: &mut History, forget: impl Fn(&Record) -> bool) {
    history.log.retain(|record| !forget(record));
    history.log.iter_mut().enumerate().for_each(|(seq, record)| record.seq = seq as u64);
}

const FORGERIES: &[Forgery] = &[
    ("an acknowledged task is gone", Rule::AcknowledgedIsKept, |h| h.tasks.retain(|task| task.id != "t1")),
    ("an acknowledged cancel did not hold", Rule::AcknowledgedIsKept, |h| h.promises[0].canceled = true),
    ("an end that was read is another one now", Rule::AcknowledgedIsKept, |h| {
        h.promises[1].seen_final = Some("failed".into())
    }),
    ("the id belongs to another key", Rule::AcknowledgedIsKept, |h| task(h, "t1").idem_key = Some("z".into())),
    ("two answers for one key", Rule::KeyMakesOneTask, |h| h.promises[0].other_id = Some("t9".into())),
    ("two tasks of one key", Rule::KeyMakesOneTask, |h| task(h, "t2").idem_key = Some("a".into())),
    ("a task is still being worked on", Rule::ComesToRest, |h| task(h, "t2").state = "working".into()),
    ("the row says what no event says", Rule::MovesAreAllowed, |h| task(h, "t1").state = "canceled".into()),
    ("a task went on after its end", Rule::MovesAreAllowed, |h| {
        let row = task(h, "t1");
        row.event_seq += 1;
        let seq = row.event_seq;
        let data = json!({"state": "working", "attempt": 2}).to_string();
        h.events.push(EventRow { task: "t1".into(), seq, kind: "state".into(), data });
    }),
    ("two claims without a return between", Rule::MovesAreAllowed, |h| {
        event(h, "t2", 3).data = json!({"state": "working", "attempt": 2}).to_string();
    }),
    ("an event is missing", Rule::EventsHaveNoGap, |h| h.events.retain(|event| event.task != "t1" || event.seq != 3)),
    ("an event is there twice", Rule::EventsHaveNoGap, |h| h.events.push(h.events[2].clone())),
    ("an event of a task that is not there", Rule::EventsHaveNoGap, |h| h.events[0].task = "t9".into()),
    ("the row counted further than the events", Rule::EventsHaveNoGap, |h| task(h, "t1").event_seq += 1),
    ("a crash cost no attempt", Rule::AttemptsAreCounted, |h| {
        event(h, "t2", 3).data = json!({"state": "submitted", "attempt": 0}).to_string();
        event(h, "t2", 4).data = json!({"state": "working", "attempt": 1}).to_string();
    }),
    ("more attempts than allowed", Rule::AttemptsAreCounted, |h| task(h, "t2").attempts_max = 1),
    ("given up too early", Rule::AttemptsAreCounted, |h| {
        let row = task(h, "t2");
        (row.state, row.failure_class) = ("failed".into(), Some("crash".into()));
    }),
    ("completed without a step of the plan", Rule::CompletedIsDone, |h| h.promises[0].steps.push("forgotten".into())),
    ("a step was done twice", Rule::StepIsDoneOnce, |h| {
        let again = event(h, "t1", 3).data.clone();
        event(h, "t1", 4).data = again;
    }),
    ("a step is done and its row is not", Rule::StepIsDoneOnce, |h| h.steps[0].status = "started".into()),
    ("a step has two rows", Rule::StepIsDoneOnce, |h| h.steps.push(h.steps[0].clone())),
    ("a worker wrote after the end", Rule::StaleHolderWritesNothing, |h| {
        event(h, "t2", 5).seq = 7;
        event(h, "t2", 6).seq = 5;
        event(h, "t2", 7).seq = 6;
    }),
    ("a step names a fence that never was", Rule::StaleHolderWritesNothing, |h| h.steps[0].fence = 7),
    ("a fence rose without a claim", Rule::StaleHolderWritesNothing, |h| task(h, "t1").fence = 3),
    ("a process of an earlier server wrote", Rule::StaleHolderWritesNothing, |h| {
        h.log.last_mut().unwrap().actor = json!({"kind": "agent", "instance": "i1"});
    }),
    ("a counter was raised twice", Rule::LocalEffectIsExact, |h| h.kv[0].version = 2),
    ("a counter is gone", Rule::LocalEffectIsExact, |h| h.kv.clear()),
    ("a notification too many", Rule::LocalEffectIsExact, |h| h.notifications.push(h.notifications[0].clone())),
    ("an unsafe request came twice", Rule::UnsafeIsSentOnce, |h| h.requests.push(h.requests[0].clone())),
    ("a repeat came under another key", Rule::KeyedRepeatsAgree, |h| h.requests[2].key = Some("else".into())),
    ("two steps share a key", Rule::KeyedRepeatsAgree, |h| {
        let mut other = h.requests[1].clone();
        other.step = "other".into();
        h.requests.push(other);
    }),
    ("done and never sent", Rule::DoneWasSent, |h| h.requests.retain(|request| request.safety != "unsafe")),
    ("a schedule fired twice for one instant", Rule::FiresOnce, |h| task(h, "t4").idem_key = Some("1000000".into())),
    ("a firing is not in the log", Rule::FiresOnce, |h| {
        forget_records(h, |record| record.action == "schedule.fire" && record.task.as_deref() == Some("t4"));
    }),
    ("a schedule counted a firing too many", Rule::FiresOnce, |h| h.schedules[0].fired = 3),
    ("a guard row is missing", Rule::FiresOnce, |h| h.fires.truncate(1)),
    ("a firing beside the cadence", Rule::FiresOnce, |h| {
        let record = h.log.iter_mut().rfind(|record| record.action == "schedule.fire").unwrap();
        record.facts = json!({"fire_at": 3_000_001});
        task(h, "t4").idem_key = Some("3000001".into());
    }),
    ("the log does not verify", Rule::LogVerifies, |h| h.log_verifies = false),
    ("a record is missing", Rule::LogVerifies, |h| drop(h.log.remove(3))),
    ("an effect without an intent", Rule::EffectIsLogged, |h| {
        forget_records(h, |record| record.phase == "intent" && record.task.as_deref() == Some("t1"));
    }),
    ("an intent without an outcome, and no crash", Rule::EffectIsLogged, |h| {
        forget_records(h, |record| record.phase == "outcome" && record.task.as_deref() == Some("t2"));
    }),
    ("an outcome after the end of its server", Rule::EffectIsLogged, |h| {
        let outcome = h.log.iter().position(|record| record.phase == "outcome" && record.task.as_deref() == Some("t2"));
        let start = h.log.iter().find(|record| record.action == "server.start").unwrap().clone();
        insert_record(h, outcome.unwrap(), start);
    }),
    ("a request of nobody", Rule::EffectIsLogged, |h| h.requests[0].task_key = "nobody".into()),
    ("a local change without a record", Rule::EffectIsLogged, |h| {
        forget_records(h, |record| record.correlation.as_deref() == Some("put"));
    }),
    ("a local change with two records", Rule::EffectIsLogged, |h| {
        let at = h.log.iter().position(|record| record.correlation.as_deref() == Some("put")).unwrap();
        insert_record(h, at, h.log[at].clone());
    }),
    ("a task without its record", Rule::ChangeIsLogged, |h| {
        forget_records(h, |record| record.action == "task.submit" && record.task.as_deref() == Some("t1"));
    }),
    ("a record without its task", Rule::ChangeIsLogged, |h| {
        h.log.iter_mut().find(|record| record.action == "task.submit").unwrap().task = Some("t9".into());
    }),
    ("an end without its record", Rule::ChangeIsLogged, |h| {
        forget_records(h, |record| record.action == "task.finish" && record.task.as_deref() == Some("t2"));
    }),
    ("a run used more than it may", Rule::BudgetHolds, |h| h.uses[0].used = 101),
    ("an agent leases beyond its budget", Rule::BudgetHolds, |h| h.uses[1].leased = 21),
    ("a bill that a run was not charged with", Rule::SpendIsCounted, |h| h.uses[0].used = 79),
    ("a bill that a client was not charged with", Rule::SpendIsCounted, |h| h.uses.truncate(2)),
    ("an answer whose call is not in the log", Rule::AnswerIsLogged, |h| h.answers.push("req_3".into())),
    ("an answer whose call has failed", Rule::AnswerIsLogged, |h| {
        let outcome =
            |record: &&mut Record| record.correlation.as_deref() == Some("req_2") && record.phase == "outcome";
        h.log.iter_mut().find(outcome).unwrap().decision = "failed".into();
    }),
    ("an answer was asked for again by its step", Rule::AnsweredIsNotAskedAgain, |h| ask_again(h, "think")),
    ("an answer was asked for again from inside", Rule::AnsweredIsNotAskedAgain, |h| ask_again(h, "req_1")),
    ("a provider was asked without an intent", Rule::EffectIsLogged, |h| h.asks.push(h.asks[0].clone())),
    ("a provider was asked from inside without an intent", Rule::EffectIsLogged, |h| h.asks.push(h.asks[1].clone())),
    ("a call of a model is done and has no outcome", Rule::EffectIsLogged, |h| {
        forget_records(h, |record| record.correlation.as_deref() == Some("req_1") && record.phase == "outcome");
    }),
];

/// Another intent, after a start, so that nothing else about it is wrong.
fn ask_again(history: &mut History, correlation: &str) {
    let of = |record: &Record| record.correlation.as_deref() == Some(correlation) && record.phase == "intent";
    let mut intent = history.log.iter().find(|record| of(record)).unwrap().clone();
    intent.actor = json!({"kind": "agent", "instance": "i2"});
    let start = history.log.iter().rposition(|record| record.action == "server.start").unwrap();
    insert_record(history, start + 1, intent);
}

#[test]
fn a_valid_history_has_no_findings() {
    assert_eq!(judge(&valid()), []);
}

#[test]
fn every_forgery_is_found_under_its_rule() {
    for (what, rule, forge) in FORGERIES {
        let mut history = valid();
        forge(&mut history);
        let found: Vec<Rule> = judge(&history).iter().map(|finding| finding.rule).collect();
        assert!(found.contains(rule), "{what}: expected {rule:?}, found {found:?}");
    }
}

#[test]
fn every_rule_has_a_forgery() {
    let forged: BTreeSet<Rule> = FORGERIES.iter().map(|(_, rule, _)| *rule).collect();
    let missing: Vec<&Rule> = Rule::ALL.iter().filter(|rule| !forged.contains(rule)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// After an orderly stop an attempt may come back; without one it may not.
#[test]
fn only_an_orderly_stop_gives_an_attempt_back() {
    let mut history = valid();
    event(&mut history, "t2", 3).data = json!({"state": "submitted", "attempt": 0}).to_string();
    event(&mut history, "t2", 4).data = json!({"state": "working", "attempt": 1}).to_string();
    event(&mut history, "t2", 6).data = json!({"state": "completed", "attempt": 1}).to_string();
    task(&mut history, "t2").attempt = 1;
    assert_eq!(judge(&history).iter().map(|finding| finding.rule).collect::<Vec<_>>(), [Rule::AttemptsAreCounted]);
    history.orderly_stops = 1;
    assert_eq!(judge(&history), []);
}

#[test]
fn a_segment_is_read_as_it_is_documented() {
    let body = json!({"event": {"action": "kv.put", "actor": {"kind": "agent", "instance": "i"}, "at": 1, "correlation": "put",
        "decision": "succeeded", "facts": {}, "id": "e", "phase": "fact", "resource": "r", "task": "t"}, "log": "n", "prev": "",
        "seq": 7, "v": 1});
    let text = format!(
        "{}\n{}\n{}",
        json!({"segment": 1}),
        json!({"seq": 7, "body": body.to_string(), "leaf": ""}),
        json!({"checkpoint": "note"})
    );
    let records = parse_segment(&text);
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].seq, records[0].instance(), records[0].task.as_deref()), (7, Some("i"), Some("t")));
}

#[test]
fn the_embedded_database_is_read_with_its_payloads() {
    let directory = std::env::temp_dir().join(format!("agentos-judge-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("t.db");
    let _ = std::fs::remove_file(&path);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE task (id, agent, state, attempt, attempts_max, fence, event_seq, idem_scope, idem_key, schedule, failure_class);
             CREATE TABLE task_event (task, seq, kind, data); CREATE TABLE step (task, key, seq, syscall, status, safety, fence);
             CREATE TABLE schedule (id, cadence, fired); CREATE TABLE schedule_fire (schedule, fire_at, task);
             CREATE TABLE kv (agent, key, version, value); CREATE TABLE notification (task, dedupe_key);
             CREATE TABLE budget (scope, period, unit, amount); CREATE TABLE budget_use (scope, period, unit, used, leased);
             INSERT INTO budget_use VALUES ('agent:a', 'day', 'tokens', 3, 4);
             INSERT INTO task VALUES ('t', 'a', 'completed', 1, 5, 1, 1, NULL, NULL, NULL, NULL);
             INSERT INTO task_event VALUES ('t', 1, 'state', CAST('{\"state\":\"submitted\"}' AS BLOB));
             INSERT INTO kv VALUES ('a', 'count', 3, CAST('3' AS BLOB));",
        )
        .unwrap();
    drop(connection);
    let mut history = History::default();
    crate::read_sqlite(&path, &mut history);
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!((history.tasks.len(), history.tasks[0].idem_key.as_deref()), (1, None));
    assert_eq!(history.events[0].get("state"), "submitted");
    assert_eq!((history.kv[0].value.as_str(), history.steps.len()), ("3", 0));
    assert_eq!((history.uses[0].used, history.uses[0].leased, history.budgets.len()), (3, 4, 0));
}
