//! An agent's own values: its own, versioned, limited, durable, and changed together with the step or not at all.

use agentos_authority::Authorized;
use agentos_monitor::{Call, Executors};
use agentos_store::Tx;
use agentos_tools::BuiltinTools;
use agentos_types::{
    Code, Result,
    audit::{Decision, Phase},
    limits::KV_VALUE_BYTES_MAX,
    task::ErrorClass,
};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::{house::House, server::Server};

const ALL: [[&str; 3]; 2] = [["kv", "read", "*"], ["kv", "write", "*"]];

#[tokio::test]
async fn one_agent_never_sees_anothers_values() {
    let server = Server::saying("").await;
    let house = House::open(&server).await;
    let (one, two) = (house.worker("one", &ALL).await, house.worker("two", &ALL).await);
    house.call(&one, "put", "kv.put", json!({"key": "same", "value": "of one"})).await.unwrap();
    let read = house.call(&two, "get", "kv.get", json!({"key": "same"})).await.unwrap();
    assert_eq!(read, json!({"value": null, "version": 0}));
    house.call(&two, "put", "kv.put", json!({"key": "same", "value": "of two"})).await.unwrap();
    house.call(&two, "only", "kv.put", json!({"key": "only-two", "value": 2})).await.unwrap();
    let listed = house.call(&one, "list", "kv.list", json!({})).await.unwrap();
    assert_eq!(listed, json!({"keys": ["same"], "truncated": false}));
    assert_eq!(
        house.call(&one, "delete", "kv.delete", json!({"key": "only-two"})).await.unwrap(),
        json!({"existed": false})
    );
    house.call(&two, "delete", "kv.delete", json!({"key": "same"})).await.unwrap();
    let read = house.call(&one, "get", "kv.get", json!({"key": "same"})).await.unwrap();
    assert_eq!(read, json!({"value": "of one", "version": 1}));
    house.verified().await;
}

#[tokio::test]
async fn a_version_is_written_over_only_if_it_is_the_expected_one() {
    let server = Server::saying("").await;
    let house = House::open(&server).await;
    let worker = house.worker("a", &ALL).await;
    for (step, if_version, expected) in [
        ("absent 1", Some(1), Err(Code::KV_CONFLICT)),
        ("absent 0", Some(0), Ok(1)),
        ("present 0", Some(0), Err(Code::KV_CONFLICT)),
        ("right", Some(1), Ok(2)),
        ("old", Some(1), Err(Code::KV_CONFLICT)),
        ("any", None, Ok(3)),
        ("negative", Some(-1), Err(Code::KV_CONFLICT)),
    ] {
        let args = json!({"key": "k", "value": step, "if_version": if_version});
        let outcome = house.call(&worker, step, "kv.put", args).await;
        let version = outcome.as_ref().map(|result| result["version"].as_i64().unwrap()).map_err(|error| error.code);
        assert_eq!(version, expected, "{step}");
        if let Err(error) = outcome {
            assert_eq!(error.class, ErrorClass::Transient);
            let records = house.records_of(&worker, step).await;
            assert_eq!((records[0].phase, records[0].decision), (Phase::Fact, Decision::Failed), "{step}");
            assert!(house.step(&worker, step).await.is_none(), "{step}: what failed left no step");
        }
    }
    assert_eq!(house.call(&worker, "get", "kv.get", json!({"key": "k"})).await.unwrap()["value"], "any");
    house.verified().await;
}

#[tokio::test]
async fn keys_and_values_have_limits() {
    let server = Server::saying("").await;
    let house = House::open(&server).await;
    let worker = house.worker("a", &ALL).await;
    // With its two quotes the first value has one byte more than the limit.
    let value = |bytes: usize| json!({"key": "k", "value": "x".repeat(bytes)});
    let outcome = house.call(&worker, "large", "kv.put", value(KV_VALUE_BYTES_MAX - 1)).await;
    house.refused(outcome, Code::KV_LIMIT);
    house.call(&worker, "fits", "kv.put", value(KV_VALUE_BYTES_MAX - 2)).await.unwrap();
    for (step, key) in [("empty", String::new()), ("long", "k".repeat(257)), ("control", "a\0b".into())] {
        house.refused(house.call(&worker, step, "kv.put", json!({"key": key, "value": 1})).await, Code::KV_LIMIT);
    }
    house
        .store
        .write(|tx| {
            tx.execute(
                "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
                 INSERT INTO kv (agent, key, version, value_key, value, updated_at)
                 SELECT 'a', 'n' || printf('%05d', i), 1, 0, x'31', 0 FROM n",
                &[],
            )
        })
        .await
        .unwrap();
    let outcome = house.call(&worker, "one more", "kv.put", json!({"key": "new", "value": 1})).await;
    house.refused(outcome, Code::KV_LIMIT);
    house.call(&worker, "replace", "kv.put", json!({"key": "n00001", "value": 2})).await.unwrap();
    // The pages of a listing are whole and meet without a gap.
    let first = house.call(&worker, "page 1", "kv.list", json!({"prefix": "n"})).await.unwrap();
    assert_eq!((first["keys"].as_array().unwrap().len(), &first["truncated"]), (500, &json!(true)));
    let after = &first["keys"][499];
    let second = house.call(&worker, "page 2", "kv.list", json!({"prefix": "n", "after": after})).await.unwrap();
    assert_eq!((after, &second["keys"][0]), (&json!("n00500"), &json!("n00501")));
    house.verified().await;
}

#[tokio::test]
async fn values_survive_the_end_of_the_server() {
    let server = Server::saying("").await;
    let house = House::open(&server).await;
    let worker = house.worker("a", &ALL).await;
    let value = json!({"nested": ["ü", 1, 2.5, null, {"": true}]});
    house.call(&worker, "put", "kv.put", json!({"key": "k", "value": value})).await.unwrap();
    let house = House::open_in(house.close(), &server, |tools| Box::new(tools)).await;
    let next = house.crash(&worker).await;
    let read = house.call(&next, "get", "kv.get", json!({"key": "k"})).await.unwrap();
    assert_eq!(read, json!({"value": value, "version": 1}));
    let replayed = house.call(&next, "put", "kv.put", json!({"key": "k", "value": value})).await.unwrap();
    assert_eq!(replayed, json!({"version": 1}), "the step is journalled, not done again");
    house.verified().await;
}

/// Tools under which the lease is lost between the effect and its step.
struct LosesLease(BuiltinTools);

#[async_trait]
impl Executors for LosesLease {
    fn local(&self, tx: &mut Tx<'_>, call: Authorized<Call>) -> Result<Value> {
        let task = call.get().lease.task.clone();
        let result = self.0.local(tx, call)?;
        tx.execute("UPDATE task SET fence = fence + 1 WHERE id = $1", &[(&task).into()])?;
        Ok(result)
    }

    async fn outward(&self, call: Authorized<Call>) -> Result<Value> {
        self.0.outward(call).await
    }
}

#[tokio::test]
async fn a_value_and_its_step_are_one_transaction() {
    let server = Server::saying("").await;
    let directory = tempfile::tempdir().unwrap();
    let house = House::open_in(directory, &server, |tools| Box::new(LosesLease(tools))).await;
    let worker =
        house.worker("a", &[["kv", "write", "*"], ["notify", "event", "event:*"], ["schedule", "write", "self"]]).await;
    for (step, syscall, args) in [
        ("put", "kv.put", json!({"key": "k", "value": 1})),
        ("event", "notify.event", json!({"kind": "k", "data": 1, "dedupe_key": "once"})),
        ("schedule", "schedule.put", json!({"name": "n", "cadence": {"kind": "interval", "every_s": 60}, "input": {}})),
    ] {
        house.refused(house.call(&worker, step, syscall, args).await, Code::LEASE_LOST);
        let records = house.records_of(&worker, step).await;
        assert_eq!(records.len(), 1, "{syscall}: that it was tried, and nothing else: {records:?}");
        assert_eq!(records[0].decision, Decision::Failed);
    }
    for table in [
        "SELECT count(*) FROM kv",
        "SELECT count(*) FROM notification",
        "SELECT count(*) FROM schedule",
        "SELECT count(*) FROM step",
        "SELECT count(*) FROM audit_record WHERE action = 'schedule.put' AND decision = 'succeeded'",
        "SELECT count(*) FROM task_event WHERE kind <> 'state'",
    ] {
        assert_eq!(house.number(table).await, 0, "{table}");
    }
    house.verified().await;
}
