//! The log's side: every target gets its checkpoints, none can hold up the log or another, and what was handed out is what
//! the log is measured by.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agentos_base::Background;
use agentos_proof::{Cosigner, held::Held};
use agentos_types::{
    Actor, Code,
    witness::{AddWitnessedLog, WitnessTarget},
};
use agentos_witness::{Publisher, Webhook, Witness, WitnessOptions};
use serde_json::{Value, json};

use super::house::{Node, key_of, no_targets, size_of};
use crate::receiver::{Receiver, Seen};

/// Longer than anything here takes, short enough to fail a test.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn until(publisher: &Publisher, what: &str, is_so: impl Fn(&WitnessTarget) -> bool) -> WitnessTarget {
    let look = async {
        loop {
            let target = publisher.status().await.unwrap().remove(0);
            if is_so(&target) {
                return target;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

pub(super) fn fast(options: WitnessOptions) -> WitnessOptions {
    WitnessOptions { interval: Duration::from_millis(20), ..options }
}

/// What the routes of a witness do, without a gateway.
async fn route(witness: &Witness, seen: Seen) -> (u16, String) {
    let outcome = match seen.line.as_str() {
        "POST /api/v1/witness/checkpoints" => {
            witness.submit(&Actor::System, serde_json::from_str(&seen.body).unwrap()).await
        }
        "GET /api/v1/witness/checkpoints/node-1" => witness.held(&"node-1".parse().unwrap()).await,
        other => panic!("{other} was not expected"),
    };
    match outcome {
        Ok(held) => (200, serde_json::to_string(&held).unwrap()),
        Err(fault) => {
            let problem = json!({"code": fault.code, "detail": fault.message});
            (fault.code.entry().http_status, problem.to_string())
        }
    }
}

/// A witness node that has `node-1` registered, behind an HTTP server that can be switched off.
pub(super) async fn witness_node() -> (Node, Receiver, Arc<AtomicBool>) {
    let node = Node::new("node-2").await;
    let public_key = key_of("node-1").to_string();
    let body = AddWitnessedLog { name: "first".parse().unwrap(), public_key };
    node.witness.add(&Actor::System, body).await.unwrap();
    let (witness, away) = (node.witness.clone(), Arc::new(AtomicBool::new(false)));
    let is_away = away.clone();
    let receiver = Receiver::start(move |seen| {
        let (witness, is_away) = (witness.clone(), is_away.load(Ordering::SeqCst));
        Box::pin(async move { if is_away { (503, String::new()) } else { route(&witness, seen).await } })
    })
    .await;
    (node, receiver, away)
}

pub(super) async fn with_node(receiver: &Receiver, witness: &Node, log: &Node) -> WitnessOptions {
    let value = "a-token-of-node-2".to_owned();
    log.secrets.set(&Actor::System, &"witness-token".parse().unwrap(), value.into()).await.unwrap();
    let node = agentos_witness::NodeTarget {
        target: format!("node:{}", receiver.address),
        base: format!("http://{}", receiver.address),
        secret: "witness-token".parse().unwrap(),
        key: witness.witness.key().clone(),
    };
    fast(WitnessOptions { nodes: vec![node], ..no_targets() })
}

#[tokio::test]
async fn the_file_gets_every_newest_checkpoint_and_the_last_one_at_the_end() {
    let log = Node::new("node-1").await;
    log.work("test.act", 3).await;
    let path = log.path().join("witness.notes");
    let publisher = log.publisher(fast(WitnessOptions { file: Some(path.clone()), ..no_targets() }));
    let background = Background::default();
    publisher.spawn(&background);
    until(&publisher, "the first checkpoint", |target| target.size == Some(3)).await;
    log.work("test.act", 2).await;
    until(&publisher, "the second", |target| target.size == Some(5)).await;
    log.work("test.act", 1).await;
    assert!(background.stop(PATIENCE).await);
    // As a server does when it has stopped: what the stop itself recorded is in the file as well.
    publisher.finish().await;
    let held = Held::parse(&std::fs::read_to_string(&path).unwrap(), "agent-os/node-1");
    let sizes: Vec<u64> = held.notes.iter().map(|note| size_of(note)).collect();
    assert!(sizes.starts_with(&[3]) && sizes.ends_with(&[6]) && sizes.is_sorted(), "{sizes:?}");
    assert_eq!(publisher.contradictions().await, []);
}

#[tokio::test]
async fn a_node_cosigns_and_what_is_lost_on_the_way_is_asked_for_again() {
    let (witness, receiver, away) = witness_node().await;
    let log = Node::new("node-1").await;
    let options = with_node(&receiver, &witness, &log).await;
    log.work("test.act", 3).await;
    let publisher = log.publisher(options.clone());
    let background = Background::default();
    publisher.spawn(&background);
    let first = until(&publisher, "the first cosignature", |target| target.size.is_some()).await;
    witness.witness.key().seen_at(&first.note.unwrap()).unwrap();
    assert_eq!(receiver.seen()[0].header("authorization"), "Bearer a-token-of-node-2");
    // A witness that is away holds up nothing; it is shown, and it gets the newest when it is back.
    away.store(true, Ordering::SeqCst);
    log.work("test.act", 4).await;
    let failing = until(&publisher, "a failure", |target| target.failures > 0).await;
    assert!(failing.problem.unwrap().contains("503") && failing.refused.is_none());
    away.store(false, Ordering::SeqCst);
    let size = first.size.unwrap() + 4;
    until(&publisher, "the checkpoint after it", |target| target.size == Some(size) && target.failures == 0).await;
    assert!(background.stop(PATIENCE).await);
    // What this side has forgotten, the witness tells.
    log.store.write(|tx| tx.execute("DELETE FROM witness_target", &[])).await.unwrap();
    log.work("test.act", 1).await;
    let publisher = log.publisher(options);
    let background = Background::default();
    publisher.spawn(&background);
    until(&publisher, "the checkpoint after it was asked", |target| target.size == Some(size + 1)).await;
    assert!(background.stop(PATIENCE).await);
    assert!(witness.witness.list().await.unwrap()[0].refused_code.is_none());
}

#[tokio::test]
async fn an_answer_that_the_witness_did_not_sign_counts_for_nothing() {
    let (witness, receiver, _) = witness_node().await;
    let log = Node::new("node-1").await;
    let mut options = with_node(&receiver, &witness, &log).await;
    options.nodes[0].key = Cosigner::new("node-2", &[5; 32]).unwrap().public().clone();
    log.work("test.act", 1).await;
    let publisher = log.publisher(options);
    let background = Background::default();
    publisher.spawn(&background);
    let is_named =
        |target: &WitnessTarget| target.problem.as_ref().is_some_and(|problem| problem.contains("cosignature"));
    let target = until(&publisher, "the failure by the cosignature", is_named).await;
    assert!(target.size.is_none(), "{target:?}");
    assert!(background.stop(PATIENCE).await);
}

#[tokio::test]
async fn of_two_servers_from_one_copy_the_witness_refuses_the_second() {
    let (witness, receiver, _) = witness_node().await;
    let (first, second) = (Node::new("node-1").await, Node::new("node-1").await);
    for (node, action) in [(&first, "test.first"), (&second, "test.second")] {
        let options = with_node(&receiver, &witness, node).await;
        node.work(action, 4).await;
        let publisher = node.publisher(options);
        let background = Background::default();
        publisher.spawn(&background);
        if action == "test.first" {
            until(&publisher, "the first is held", |target| target.size.is_some()).await;
        } else {
            node.work(action, 2).await;
            let target = until(&publisher, "the refusal", |target| target.refused.is_some()).await;
            assert_eq!(target.refused, Some(Code::LOG_FORKED), "{target:?}");
            // It asked what is held, proved what it could from its own history, and failed.
            until(&publisher, "it asks again", |target| target.failures > 1).await;
            assert_eq!(node.recorded("audit.witness").await, 1, "one record for one refusal");
            // At the next start it is known before anything is written.
            let found = publisher.contradictions().await;
            assert_eq!(found.iter().map(|(_, fault)| fault.code).collect::<Vec<_>>(), [Code::LOG_FORKED]);
        }
        assert!(background.stop(PATIENCE).await);
    }
    let listed = &witness.witness.list().await.unwrap()[0];
    assert_eq!(listed.refused_code, Some(Code::LOG_FORKED));
}

#[tokio::test]
async fn an_old_database_put_back_is_found_by_file_and_node_before_the_first_write() {
    let (witness, receiver, _) = witness_node().await;
    let (log, restored) = (Node::new("node-1").await, Node::new("node-1").await);
    let file = log.path().join("witness.notes");
    let with_file = |options: WitnessOptions| WitnessOptions { file: Some(file.clone()), ..options };
    log.work("test.act", 8).await;
    let publisher = log.publisher(with_file(with_node(&receiver, &witness, &log).await));
    let background = Background::default();
    publisher.spawn(&background);
    let all_held = async {
        while publisher.status().await.unwrap().iter().any(|target| target.size.is_none()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all_held).await.unwrap();
    assert!(background.stop(PATIENCE).await);
    assert_eq!(publisher.contradictions().await, []);
    // The copy from yesterday, and the witness file of today.
    let publisher = restored.publisher(with_file(with_node(&receiver, &witness, &restored).await));
    restored.work("test.act", 2).await;
    let codes: Vec<(String, Code)> =
        publisher.contradictions().await.into_iter().map(|(target, fault)| (target, fault.code)).collect();
    let node = format!("node:{}", receiver.address);
    assert_eq!(codes, [("file".to_owned(), Code::LOG_SHRUNK), (node, Code::LOG_SHRUNK)]);
    // Whoever goes on all the same gets nothing into the file, and the witness says so too.
    let before = std::fs::read(&file).unwrap();
    let background = Background::default();
    publisher.spawn(&background);
    for position in [0, 1] {
        let refused = async {
            while publisher.status().await.unwrap()[position].refused != Some(Code::LOG_SHRUNK) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.unwrap();
    }
    assert!(background.stop(PATIENCE).await);
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[tokio::test]
async fn a_webhook_is_signed_and_comes_once_for_each_growth() {
    let receiver = Receiver::start(|_| Box::pin(async { (204, String::new()) })).await;
    let log = Node::new("node-1").await;
    let value = "a-key-for-signatures".to_owned();
    log.secrets.set(&Actor::System, &"hook".parse().unwrap(), value.clone().into()).await.unwrap();
    let hook = Webhook {
        target: format!("webhook:{}", receiver.address),
        url: agentos_dialer::CheckedUrl::parse(&format!("http://{}/in", receiver.address)).unwrap(),
        secret: "hook".parse().unwrap(),
    };
    log.work("test.act", 2).await;
    let publisher = log.publisher(fast(WitnessOptions { webhooks: vec![hook], ..no_targets() }));
    let background = Background::default();
    publisher.spawn(&background);
    let size = until(&publisher, "the webhook", |target| target.size.is_some()).await.size.unwrap();
    log.work("test.act", 1).await;
    until(&publisher, "the next one", |target| target.size == Some(size + 1)).await;
    assert!(background.stop(PATIENCE).await);
    let seen = receiver.seen();
    let sizes: Vec<u64> = seen
        .iter()
        .map(|seen| {
            let body: Value = serde_json::from_str(&seen.body).unwrap();
            let size = body["size"].as_u64().unwrap();
            assert_eq!(
                (body["kind"].as_str(), size_of(body["note"].as_str().unwrap())),
                (Some("audit.checkpoint"), size)
            );
            assert_eq!(seen.header("idempotency-key"), format!("node-1-{size}"));
            let signature = seen.header("agentos-signature");
            let seconds: i64 = signature.strip_prefix("t=").unwrap().split(',').next().unwrap().parse().unwrap();
            let expected = agentos_secrets::webhook_signature(&value.clone().into(), seconds, &seen.body).unwrap();
            assert_eq!(signature, expected);
            size
        })
        .collect();
    assert_eq!(sizes, [size, size + 1]);
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_holds_up_no_other_and_no_record() {
    let log = Node::new("node-1").await;
    log.secrets.set(&Actor::System, &"hook".parse().unwrap(), "some-key-value".to_owned().into()).await.unwrap();
    // Nothing listens on port 9, and the file's directory does not exist.
    let hook = |target: &str, url: &str| Webhook {
        target: target.into(),
        url: agentos_dialer::CheckedUrl::parse(url).unwrap(),
        secret: "hook".parse().unwrap(),
    };
    let webhooks = vec![hook("webhook:dead", "http://127.0.0.1:9/"), hook("webhook:private", "http://10.0.0.1/")];
    let file = Some(log.path().join("absent/witness.notes"));
    let publisher = log.publisher(fast(WitnessOptions { file, webhooks, ..no_targets() }));
    log.work("test.act", 1).await;
    let background = Background::default();
    publisher.spawn(&background);
    let all_fail = async {
        while publisher.status().await.unwrap().iter().any(|target| target.failures == 0) {
            log.work("test.act", 1).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_fail).await.unwrap();
    let problems: Vec<String> =
        publisher.status().await.unwrap().into_iter().map(|target| target.problem.unwrap()).collect();
    for (problem, code) in problems.iter().zip(["AOS-1926", "AOS-1603"]) {
        assert!(problem.starts_with(code), "{problems:?}");
    }
    assert!(background.stop(PATIENCE).await);
    assert_eq!(log.recorded("audit.witness").await, 0, "what does not arrive is no verdict");
}

#[tokio::test]
async fn a_witness_that_says_nothing_holds_up_no_stop() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let log = Node::new("node-1").await;
    log.secrets.set(&Actor::System, &"hook".parse().unwrap(), "some-key-value".to_owned().into()).await.unwrap();
    let url = agentos_dialer::CheckedUrl::parse(&format!("http://{}/", silent.local_addr().unwrap())).unwrap();
    let webhooks = vec![Webhook { target: "webhook:silent".into(), url, secret: "hook".parse().unwrap() }];
    let publisher = log.publisher(fast(WitnessOptions { webhooks, ..no_targets() }));
    log.work("test.act", 1).await;
    let background = Background::default();
    publisher.spawn(&background);
    let _asked = tokio::time::timeout(PATIENCE, silent.accept()).await.unwrap().unwrap();
    let began = std::time::Instant::now();
    assert!(background.stop(PATIENCE).await);
    assert!(began.elapsed() < Duration::from_secs(2), "the request was waited for");
}
