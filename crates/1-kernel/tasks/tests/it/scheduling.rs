//! Schedules: at the right time, once, and never twice.

use std::time::Duration;

use agentos_tasks::{Ending, NewSchedule, NewTask, ScheduleFilter, Tasks, TasksOptions};
use agentos_types::{
    Actor, Code, Result, Timestamp,
    limits::PAYLOAD_BYTES_MAX,
    notify::Notice,
    task::{Cadence, Schedule, TaskState},
};
use serde_json::json;

use super::bench::*;

fn after(seconds: u64) -> Timestamp {
    START.after(Duration::from_secs(seconds))
}

fn every(every_s: u64) -> Cadence {
    Cadence::Interval { every_s }
}

fn new(name: &str, cadence: Cadence) -> NewSchedule {
    NewSchedule { agent: echo(), name: name.into(), cadence, input: json!({"watch": name}) }
}

async fn create(bench: &Bench, name: &str, cadence: Cadence) -> Schedule {
    bench.tasks.create_schedule(&person(), new(name, cadence)).await.unwrap()
}

async fn fired(bench: &Bench) -> i64 {
    bench.count("SELECT count(*) FROM task WHERE schedule IS NOT NULL").await
}

#[tokio::test]
async fn a_schedule_fires_on_its_grid_and_names_itself_in_the_task() {
    let bench = bench().await;
    let schedule = create(&bench, "watch", every(60)).await;
    assert_eq!((schedule.next_at, schedule.last_at, schedule.fired), (after(60), None, 0));
    assert_eq!(bench.tasks.fire_due().await.unwrap(), Some(after(60)));
    assert_eq!(fired(&bench).await, 0);
    for round in 1..=3 {
        bench.clock.set(after(60 * round).after(Duration::from_millis(7)));
        assert_eq!(bench.tasks.fire_due().await.unwrap(), Some(after(60 * (round + 1))));
        let task = bench.claim().await.task;
        assert_eq!((task.schedule.as_ref(), &task.input), (Some(&schedule.id), &schedule.input));
        // The previous task still works; the next firing submits all the same.
        assert_eq!(task.state, TaskState::Working);
        let fact = bench.last("schedule.fire");
        assert_eq!((fact.task, &fact.facts["fire_at"]), (Some(task.id), &json!(after(60 * round).as_micros())));
    }
    let schedule = bench.tasks.get_schedule(&schedule.id).await.unwrap();
    assert_eq!((schedule.fired, schedule.last_at), (3, Some(bench.ambient.now())));
}

#[tokio::test]
async fn what_was_missed_fires_once_and_the_grid_stays() {
    let bench = bench().await;
    create(&bench, "watch", every(60)).await;
    create(&bench, "morning", Cadence::Cron { expression: "0 7 * * *".into(), timezone: "Europe/Berlin".into() }).await;
    // Three days without a server.
    bench.clock.set(after(3 * 86_400 + 30));
    assert_eq!(bench.tasks.fire_due().await.unwrap(), Some(after(3 * 86_400 + 60)));
    assert_eq!(fired(&bench).await, 2);
    bench.tasks.fire_due().await.unwrap();
    assert_eq!(fired(&bench).await, 2);
}

#[tokio::test]
async fn two_leaders_at_the_same_instant_fire_once() {
    let bench = bench().await;
    for index in 0..10 {
        create(&bench, &format!("watch-{index}"), every(60)).await;
    }
    let other = Tasks::new(bench.store.clone(), bench.ambient.clone(), options("node-b"));
    for round in 1..=5 {
        bench.clock.set(after(60 * round));
        let (a, b, c) = tokio::join!(bench.tasks.fire_due(), other.fire_due(), other.fire_due());
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
        assert_eq!(fired(&bench).await, 10 * round as i64);
    }
}

/// The update of a schedule's row is lost after it fired. The guard row and the idempotency key of the firing each prevent
/// the second task alone.
#[tokio::test]
async fn a_firing_whose_row_was_set_back_does_not_double() {
    for without in [
        "DELETE FROM schedule_fire WHERE schedule = $1",
        "DELETE FROM schedule_fire WHERE schedule = $1 AND 'edited' <> ''",
        "UPDATE task SET idem_scope = NULL, idem_key = NULL WHERE schedule = $1",
    ] {
        let bench = bench().await;
        let schedule = create(&bench, "watch", every(60)).await;
        bench.clock.set(after(60));
        bench.tasks.fire_due().await.unwrap();
        assert_eq!(fired(&bench).await, 1);
        let id = schedule.id.to_string();
        bench.sql("UPDATE schedule SET next_at = next_at - 60000000 WHERE id = $1", &id).await;
        assert_eq!(bench.sql(without, &id).await, 1);
        if without.contains("edited") {
            let input = "UPDATE schedule SET input = $2 WHERE id = $1";
            let id = id.clone();
            bench.store.write(move |tx| tx.execute(input, &[(&id).into(), b"{}".as_slice().into()])).await.unwrap();
        }
        assert_eq!(bench.tasks.fire_due().await.unwrap(), Some(after(120)), "the schedule goes on");
        assert_eq!(fired(&bench).await, 1, "{without}");
    }
}

#[tokio::test]
async fn putting_a_name_again_replaces_it_and_an_unchanged_cadence_keeps_its_time() {
    let bench = bench().await;
    let first = create(&bench, "watch", every(60)).await;
    bench.clock.set(after(40));
    let mut again = new("watch", every(60));
    again.input = json!("other");
    let same = bench.tasks.create_schedule(&Actor::System, again).await.unwrap();
    assert_eq!((same.id.clone(), same.next_at, same.input), (first.id.clone(), after(60), json!("other")));
    let changed = create(&bench, "watch", every(90)).await;
    assert_eq!((changed.id, changed.next_at), (first.id, after(130)));
    assert_eq!(bench.count("SELECT count(*) FROM schedule").await, 1);
    assert_eq!(bench.actions().iter().filter(|action| *action == "schedule.put").count(), 3);
}

#[tokio::test]
async fn paused_schedules_rest_and_resume_in_the_future() {
    let bench = bench().await;
    let schedule = create(&bench, "watch", every(60)).await;
    let paused = bench.tasks.pause_schedule(&person(), &schedule.id, true).await.unwrap();
    assert!(paused.paused);
    bench.clock.set(after(150));
    assert_eq!(bench.tasks.fire_due().await.unwrap(), None);
    // Its agent putting it again does not overrule the person.
    assert!(create(&bench, "watch", every(60)).await.paused);
    let resumed = bench.tasks.pause_schedule(&person(), &schedule.id, false).await.unwrap();
    assert_eq!((resumed.paused, resumed.next_at), (false, after(180)));
    assert_eq!(bench.tasks.fire_due().await.unwrap(), Some(after(180)));
    assert_eq!(fired(&bench).await, 0);
    for action in ["schedule.pause", "schedule.resume"] {
        assert_eq!(bench.last(action).resource, schedule.id.as_str());
    }
}

#[tokio::test]
async fn a_terminated_agent_pauses_its_schedules_until_it_asks_again() {
    let bench = bench().await;
    bench.deploy("other").await;
    let ids = [create(&bench, "a", every(60)).await.id, create(&bench, "b", every(3_600)).await.id];
    let theirs = NewSchedule { agent: agent("other"), ..new("a", every(60)) };
    bench.tasks.create_schedule(&person(), theirs).await.unwrap();
    bench.sql("UPDATE agent SET state = 'terminated' WHERE name = $1", "echo").await;
    bench.clock.set(after(60));
    assert_eq!(bench.tasks.fire_due().await.unwrap(), Some(after(120)), "the other agent goes on");
    for id in &ids {
        assert!(bench.tasks.get_schedule(id).await.unwrap().paused);
    }
    assert_eq!(fired(&bench).await, 1);
    assert_eq!(bench.last("schedule.pause").facts["schedules"], json!(2));
    assert_eq!(bench.tasks.create_schedule(&person(), new("a", every(60))).await.unwrap_err().code, Code::AGENT_STATE);
    bench.sql("UPDATE agent SET state = 'running' WHERE name = $1", "echo").await;
    let back = create(&bench, "a", every(60)).await;
    assert_eq!((back.paused, back.next_at), (false, after(120)));
}

#[tokio::test]
async fn a_full_queue_delays_its_own_schedules_only() {
    let bench = bench_with(TasksOptions { queue_max: 1, ..options("node-a") }).await;
    bench.deploy("other").await;
    bench.submit().await;
    create(&bench, "a", every(60)).await;
    let theirs = NewSchedule { agent: agent("other"), ..new("b", every(60)) };
    bench.tasks.create_schedule(&person(), theirs).await.unwrap();
    bench.clock.set(after(60));
    assert_eq!(bench.tasks.fire_due().await.unwrap(), Some(after(60)), "still due");
    assert_eq!(fired(&bench).await, 1);
    let claimed = bench.claim().await;
    bench.tasks.finish(&Actor::System, &claimed.lease, Ending::Completed(json!(1))).await.unwrap();
    bench.clock.set(after(61));
    assert_eq!(bench.tasks.fire_due().await.unwrap(), Some(after(120)));
    assert_eq!(fired(&bench).await, 2);
}

#[tokio::test]
async fn agents_manage_their_own_schedules_in_the_monitors_transaction() {
    let bench = bench().await;
    let actor = Actor::Agent { agent: echo(), instance: bench.ambient.instance_id(), task: None };
    let (tasks, by) = (bench.tasks.clone(), actor.clone());
    let put = bench.store.write(move |tx| tasks.put_schedule(tx, &by, new("mine", every(5)))).await.unwrap();
    assert_eq!(put.created_by, "agent:echo");
    let tasks = bench.tasks.clone();
    let listed = bench.store.read(move |conn| tasks.schedules_of(conn, &echo())).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&put));
    let mut notices = bench.store.subscribe();
    for existed in [true, false] {
        let (tasks, by) = (bench.tasks.clone(), actor.clone());
        let gone = bench.store.write(move |tx| tasks.delete_schedule(tx, &by, &echo(), "mine")).await;
        assert_eq!(gone, Ok(existed));
    }
    assert_eq!(drain(&mut notices), [Notice::Schedules]);
    assert_eq!(bench.last("schedule.delete").actor, actor);
    assert_eq!(bench.tasks.get_schedule(&put.id).await.unwrap_err().code, Code::SCHEDULE_NOT_FOUND);
    assert_eq!(bench.tasks.remove_schedule(&person(), &put.id).await.unwrap_err().code, Code::SCHEDULE_NOT_FOUND);
    let paused = bench.tasks.pause_schedule(&person(), &put.id, true).await;
    assert_eq!(paused.unwrap_err().code, Code::SCHEDULE_NOT_FOUND);
}

#[tokio::test]
async fn what_makes_no_schedule_is_refused() {
    let bench = bench().await;
    let refused: [(NewSchedule, Code); 6] = [
        (new("", every(60)), Code::SCHEDULE_INVALID),
        (new(&"n".repeat(101), every(60)), Code::SCHEDULE_INVALID),
        (new("a\nb", every(60)), Code::SCHEDULE_INVALID),
        (new("a", every(0)), Code::SCHEDULE_INVALID),
        (NewSchedule { agent: agent("nobody"), ..new("a", every(60)) }, Code::AGENT_NOT_FOUND),
        (NewSchedule { input: json!("x".repeat(PAYLOAD_BYTES_MAX)), ..new("a", every(60)) }, Code::PAYLOAD_TOO_LARGE),
    ];
    for (new, code) in refused {
        assert_eq!(bench.tasks.create_schedule(&person(), new).await.unwrap_err().code, code);
    }
    // The thousandth and first schedule of one agent.
    let tasks = bench.tasks.clone();
    let flood: Result<()> = bench
        .store
        .write(move |tx| {
            for index in 0..=1_000 {
                tasks.put_schedule(tx, &Actor::System, new(&format!("s{index}"), every(60)))?;
            }
            Ok(())
        })
        .await;
    assert_eq!(flood.unwrap_err().code, Code::SCHEDULE_INVALID);
    assert_eq!(bench.count("SELECT count(*) FROM schedule").await, 0, "all or nothing");
}

#[tokio::test]
async fn schedules_are_listed_by_page_and_agent() {
    let bench = bench().await;
    bench.deploy("other").await;
    for index in 0..5 {
        bench.clock.advance(Duration::from_millis(1));
        create(&bench, &format!("s{index}"), every(60)).await;
    }
    let theirs = NewSchedule { agent: agent("other"), ..new("x", every(60)) };
    bench.tasks.create_schedule(&person(), theirs).await.unwrap();
    let list = |agent, after, limit| bench.tasks.list_schedules(ScheduleFilter { agent, after, limit });
    assert_eq!(list(None, None, 100).await.unwrap().len(), 6);
    let first = list(Some(echo()), None, 3).await.unwrap();
    let second = list(Some(echo()), first.last().map(|schedule| schedule.id.clone()), 3).await.unwrap();
    let names: Vec<_> = first.iter().chain(&second).map(|schedule| schedule.name.as_str()).collect();
    assert_eq!(names, ["s4", "s3", "s2", "s1", "s0"]);
}

#[tokio::test]
async fn old_guard_rows_are_dropped_with_time() {
    let bench = bench().await;
    create(&bench, "watch", every(3_600)).await;
    for hour in 1..=30 {
        bench.clock.set(after(3_600 * hour));
        bench.tasks.fire_due().await.unwrap();
    }
    assert_eq!(fired(&bench).await, 30);
    assert_eq!(bench.count("SELECT count(*) FROM schedule_fire").await, 25);
    // A task submitted by hand is none of theirs.
    bench.tasks.submit(&person(), NewTask::new(echo(), json!(1))).await.unwrap();
    assert_eq!(fired(&bench).await, 30);
}
