//! No record, no act; no record of the outcome, no answer.

use agentos_types::{
    Code,
    audit::{Decision, Phase},
    task::ErrorClass,
};
use serde_json::json;

use crate::{house::House, server::Server};

const KV: [[&str; 3]; 2] = [["kv", "read", "*"], ["kv", "write", "*"]];

#[tokio::test]
async fn a_log_that_takes_no_record_stops_every_act() {
    let server = Server::saying("ok").await;
    let house = House::open(&server).await;
    house.secret("hook-key", "a-signing-key").await;
    let all = server.url("api.test", "/*");
    let grants = [
        KV[0],
        KV[1],
        ["net", "fetch", all.as_str()],
        ["notify", "webhook", all.as_str()],
        ["notify", "event", "event:*"],
        ["schedule", "write", "self"],
        ["secret", "use", "hook-key@api.test"],
    ];
    let worker = house.worker("a", &grants).await;
    house.call(&worker, "before", "kv.put", json!({"key": "k", "value": "before"})).await.unwrap();
    let before = house.number("SELECT count(*) FROM audit_record").await;
    house.audit.refuse(|_| true);
    let url = server.url("api.test", "/");
    for (step, syscall, args) in [
        ("put", "kv.put", json!({"key": "k", "value": "after"})),
        ("get", "kv.get", json!({"key": "k"})),
        ("delete", "kv.delete", json!({"key": "k"})),
        ("event", "notify.event", json!({"kind": "k", "data": 1})),
        ("put s", "schedule.put", json!({"name": "n", "cadence": {"kind": "interval", "every_s": 60}, "input": {}})),
        ("fetch", "net.fetch", json!({"url": url})),
        ("post", "net.fetch", json!({"url": url, "method": "POST"})),
        ("hook", "notify.webhook", json!({"url": url, "body": 1, "secret": "hook-key"})),
        // Even a refusal is not given without its record.
        ("refused", "file.read", json!({"path": "/etc/passwd"})),
        ("nonsense", "os.exec", json!({})),
    ] {
        let error = house.refused(house.call(&worker, step, syscall, args).await, Code::AUDIT_UNAVAILABLE);
        assert_eq!(error.class, ErrorClass::Transient, "{syscall}");
        assert!(house.step(&worker, step).await.is_none(), "{syscall} left a step");
    }
    assert_eq!(server.count(), 0);
    assert_eq!(house.number("SELECT count(*) FROM audit_record").await, before);
    assert_eq!(house.number("SELECT count(*) FROM notification").await, 0);
    assert_eq!(house.number("SELECT count(*) FROM schedule").await, 0);
    house.audit.open();
    let read = house.call(&worker, "read", "kv.get", json!({"key": "k"})).await.unwrap();
    assert_eq!(read, json!({"value": "before", "version": 1}));
    // The log goes on where it stood, and the same steps now work.
    house.call(&worker, "post", "net.fetch", json!({"url": url, "method": "POST"})).await.unwrap();
    house.verified().await;
}

#[tokio::test]
async fn an_answer_whose_outcome_is_not_recorded_is_withheld() {
    let server = Server::saying("the answer").await;
    let house = House::open(&server).await;
    let all = server.url("api.test", "/*");
    let worker = house.worker("a", &[["net", "fetch", &all]]).await;
    house.audit.refuse(|event| event.phase == Phase::Outcome);
    let get = json!({"url": server.url("api.test", "/get")});
    let post = json!({"url": server.url("api.test", "/post"), "method": "POST"});
    for (step, args) in [("get", &get), ("post", &post)] {
        let error = house.refused(house.call(&worker, step, "net.fetch", args.clone()).await, Code::AUDIT_UNAVAILABLE);
        assert!(!error.message.contains("the answer"));
        let journalled = house.step(&worker, step).await.unwrap();
        assert_eq!((journalled.status.as_str(), journalled.result), ("started", None));
        let records = house.records_of(&worker, step).await;
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!((records[0].phase, records[0].decision), (Phase::Intent, Decision::Allowed));
    }
    house.audit.open();
    assert_eq!(server.count(), 2);
    // The next attempt asks again for what may be repeated, and not for what may not.
    let next = house.take_over(&worker).await;
    assert_eq!(house.call(&next, "get", "net.fetch", get).await.unwrap()["body"], "the answer");
    house.refused(house.call(&next, "post", "net.fetch", post).await, Code::STEP_IN_DOUBT);
    assert_eq!(server.count(), 3);
    house.verified().await;
}

#[tokio::test]
async fn a_result_is_held_while_the_log_takes_no_record_and_written_once_it_does() {
    let server = Server::saying("the answer").await;
    let house = House::open(&server).await;
    let all = server.url("api.test", "/*");
    let worker = house.worker("a", &[["net", "fetch", &all]]).await;
    let refusals = std::sync::atomic::AtomicU32::new(0);
    house.audit.refuse(move |event| {
        event.phase == Phase::Outcome && refusals.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0
    });
    let post = json!({"url": server.url("api.test", "/post"), "method": "POST"});
    assert_eq!(house.call(&worker, "post", "net.fetch", post).await.unwrap()["body"], "the answer");
    assert_eq!(server.count(), 1, "the act is not repeated");
    assert_eq!(house.step(&worker, "post").await.unwrap().status, "done");
    let records = house.records_of(&worker, "post").await;
    assert_eq!(records.len(), 2, "one intent, one outcome: {records:?}");
    house.verified().await;
}

#[tokio::test]
async fn a_record_that_fails_takes_its_whole_commit_with_it_and_no_more() {
    let server = Server::saying("").await;
    let house = House::open(&server).await;
    let worker = house.worker("a", &KV).await;
    house.audit.refuse(|event| event.correlation.as_deref() == Some("bad"));
    let bad = house.call(&worker, "bad", "kv.put", json!({"key": "bad", "value": 1})).await;
    house.refused(bad, Code::AUDIT_UNAVAILABLE);
    house.call(&worker, "good", "kv.put", json!({"key": "good", "value": 1})).await.unwrap();
    let listed = house.call(&worker, "list", "kv.list", json!({})).await.unwrap();
    assert_eq!(listed["keys"], json!(["good"]));
    house.verified().await;
}

#[tokio::test]
async fn a_step_key_as_long_as_a_frame_is_refused_and_recorded_short() {
    let server = Server::saying("").await;
    let house = House::open(&server).await;
    let worker = house.worker("a", &KV).await;
    let long = "k".repeat(3 << 20);
    let error = house.refused(house.call(&worker, &long, "kv.list", json!({})).await, Code::SYSCALL_INVALID);
    assert!(error.message.len() < 4_000, "{} bytes", error.message.len());
    let shown = "k".repeat(agentos_types::limits::STEP_KEY_BYTES_MAX);
    let records = house.records_of(&worker, &shown).await;
    assert_eq!(records.len(), 1, "one refusal under the cut key");
    assert_eq!(records[0].decision, Decision::Denied);
    house.verified().await;
}
