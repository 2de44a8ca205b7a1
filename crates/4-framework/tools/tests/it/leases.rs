//! Whoever lost the task has no effects any more; an effect that was under way is recorded all the same.

use std::time::Duration;

use agentos_types::{
    Actor, Code,
    audit::{Decision, Phase},
};
use serde_json::json;

use crate::{
    house::House,
    server::{Server, held},
};

#[tokio::test]
async fn a_stale_lease_opens_nothing() {
    let server = Server::saying("ok").await;
    let house = House::open(&server).await;
    let all = server.url("api.test", "/*");
    let grants = [["net", "fetch", all.as_str()], ["kv", "write", "*"], ["notify", "event", "event:*"]];
    let stale = house.worker("a", &grants).await;
    let present = house.crash(&stale).await;
    for (step, syscall, args) in [
        ("a", "kv.put", json!({"key": "k", "value": 1})),
        ("b", "notify.event", json!({"kind": "k", "data": 1})),
        ("c", "net.fetch", json!({"url": server.url("api.test", "/")})),
        ("d", "net.fetch", json!({"url": server.url("api.test", "/"), "method": "POST"})),
    ] {
        house.refused(house.call(&stale, step, syscall, args).await, Code::LEASE_LOST);
        let records = house.records_of(&stale, step).await;
        assert_eq!(records.len(), 1, "{syscall}");
        assert_eq!((records[0].phase, records[0].decision), (Phase::Fact, Decision::Failed), "{syscall}");
        assert_eq!(records[0].facts["code"], json!("AOS-1205"));
    }
    assert_eq!(server.count(), 0);
    assert_eq!(house.number("SELECT count(*) FROM kv").await, 0);
    assert_eq!(house.number("SELECT count(*) FROM notification").await, 0);
    assert_eq!(house.number("SELECT count(*) FROM step").await, 0);
    // The attempt that holds the task is not disturbed.
    house.call(&present, "a", "kv.put", json!({"key": "k", "value": 2})).await.unwrap();
    house.verified().await;
}

#[tokio::test]
async fn an_effect_that_outlived_its_lease_is_in_the_log() {
    let server = Server::start(|_| held("late")).await;
    let house = House::open(&server).await;
    let all = server.url("api.test", "/*");
    let worker = house.worker("a", &[["net", "fetch", &all]]).await;
    let args = json!({"url": server.url("api.test", "/slow"), "method": "POST"});
    let steal = async {
        server.arrived(1).await;
        house.clock.advance(Duration::from_secs(7));
        let next = house.take_over(&worker).await;
        server.release();
        next
    };
    let (outcome, next) = tokio::join!(house.call(&worker, "slow", "net.fetch", args), steal);
    house.refused(outcome, Code::LEASE_LOST);
    let records = house.records_of(&next, "slow").await;
    let [intent, outcome] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((intent.phase, intent.decision), (Phase::Intent, Decision::Allowed));
    assert_eq!((outcome.phase, outcome.decision), (Phase::Outcome, Decision::Succeeded));
    assert_eq!(outcome.at.since(intent.at), Duration::from_secs(7), "each record says when it was written");
    assert_ne!(outcome.id, intent.id);
    let step = house.step(&next, "slow").await.unwrap();
    assert_eq!((step.status.as_str(), step.result), ("started", None), "the stale attempt journals nothing");
    house.verified().await;
}

#[tokio::test]
async fn a_canceled_task_and_one_past_its_deadline_do_nothing_more() {
    let server = Server::saying("ok").await;
    let house = House::open(&server).await;
    let all = server.url("api.test", "/*");
    let worker = house.worker("a", &[["net", "fetch", &all], ["kv", "write", "*"]]).await;
    house.tasks.cancel(&Actor::System, &worker.lease.task).await.unwrap();
    let put = json!({"key": "k", "value": 1});
    let fetch = json!({"url": server.url("api.test", "/")});
    house.refused(house.call(&worker, "a", "kv.put", put.clone()).await, Code::TASK_CANCELED);
    house.refused(house.call(&worker, "b", "net.fetch", fetch.clone()).await, Code::TASK_CANCELED);

    let late = house.claim(&worker.caller).await;
    let task = late.lease.task.clone();
    let set = "UPDATE task SET deadline_at = submitted_at WHERE id = $1";
    house.store.write(move |tx| tx.execute(set, &[(&task).into()])).await.unwrap();
    house.refused(house.call(&late, "a", "kv.put", put).await, Code::TASK_DEADLINE);
    house.refused(house.call(&late, "b", "net.fetch", fetch).await, Code::TASK_DEADLINE);
    assert_eq!(server.count(), 0);
    assert_eq!(house.number("SELECT count(*) FROM kv").await, 0);
    house.verified().await;
}
