//! Webhooks from the receiver's side: who sent it, was it changed, did it come before.

use agentos_types::{Code, audit::Decision, task::ErrorClass};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    house::{House, START, Worker},
    server::{Seen, Server, answer},
};

const KEY: &str = "a-signing-key-of-the-receiver";

/// HMAC-SHA-256 from its definition (RFC 2104), apart from the library that signs.
fn hmac(key: &[u8], message: &[u8]) -> String {
    assert!(key.len() <= 64);
    let pad = |byte: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ byte).collect() };
    let inner = Sha256::digest([pad(0x36).as_slice(), message].concat());
    let outer = Sha256::digest([pad(0x5c).as_slice(), inner.as_slice()].concat());
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn verifies(seen: &Seen) -> bool {
    let (time, signature) = seen.header("agentos-signature").split_once(",v1=").unwrap();
    let seconds = time.strip_prefix("t=").unwrap();
    signature == hmac(KEY.as_bytes(), format!("{seconds}.{}", seen.body).as_bytes())
}

async fn stage(server: &Server) -> (House, Worker) {
    let house = House::open(server).await;
    house.secret("hook-key", KEY).await;
    let all = server.url("api.test", "/*");
    let worker = house.worker("a", &[["notify", "webhook", &all], ["secret", "use", "hook-key@api.test"]]).await;
    (house, worker)
}

fn hook(server: &Server, path: &str) -> serde_json::Value {
    let body = json!({"z": "last", "a": ["ü", 1.5, null], "quote": "\"\n"});
    json!({"url": server.url("api.test", path), "body": body, "secret": "hook-key"})
}

#[test]
fn the_receivers_hmac_is_that_of_the_standard() {
    // RFC 4231, test case 2.
    let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(hmac(b"Jefe", b"what do ya want for nothing?"), expected);
}

#[tokio::test]
async fn the_signature_covers_the_time_and_the_raw_body() {
    let server = Server::saying("thanks").await;
    let (house, worker) = stage(&server).await;
    let told = house.call(&worker, "tell", "notify.webhook", hook(&server, "/hook")).await.unwrap();
    assert_eq!(told, json!({"status": 200}));
    let seen = server.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.header("content-type")), ("POST", "application/json"));
    assert!(verifies(&seen));
    assert!(seen.header("agentos-signature").starts_with(&format!("t={},", START.as_millis() / 1_000)));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&seen.body).unwrap(), hook(&server, "/")["body"]);
    assert!(!seen.headers.contains_key("traceparent"), "a receiver that is not listed learns no id of a trace");
    // A changed body, time or key does not verify.
    assert!(!verifies(&Seen { body: seen.body.replace("last", "lost"), ..seen.clone() }));
    let mut late = seen.clone();
    let moved = late.header("agentos-signature").replacen("t=18", "t=19", 1);
    late.headers.insert("agentos-signature".into(), moved);
    assert!(!verifies(&late));
    house.verified().await;
}

#[tokio::test]
async fn an_error_of_the_receiver_is_transient_and_the_next_try_has_the_same_key() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/later" => answer("503 Later", "", "x"),
        "/gone" => answer("410 Gone", "", ""),
        "/empty" => answer("204 No Content", "", ""),
        _ => answer("200 OK", "", ""),
    })
    .await;
    let (house, worker) = stage(&server).await;
    for (step, path) in [("later", "/later"), ("gone", "/gone")] {
        let error =
            house.refused(house.call(&worker, step, "notify.webhook", hook(&server, path)).await, Code::REMOTE_STATUS);
        assert_eq!(error.class, ErrorClass::Transient);
        let records = house.records_of(&worker, step).await;
        assert_eq!((records[1].decision, &records[1].facts["code"]), (Decision::Failed, &json!("AOS-1612")));
        assert_eq!(house.step(&worker, step).await.unwrap().status, "failed");
    }
    assert_eq!(
        house.call(&worker, "empty", "notify.webhook", hook(&server, "/empty")).await.unwrap(),
        json!({"status": 204})
    );
    let next = house.crash(&worker).await;
    house.refused(house.call(&next, "later", "notify.webhook", hook(&server, "/later")).await, Code::REMOTE_STATUS);
    let seen = server.seen();
    assert_eq!(seen[0].header("idempotency-key"), seen[3].header("idempotency-key"));
    assert_ne!(seen[0].header("idempotency-key"), seen[1].header("idempotency-key"));
    assert!(seen.iter().all(verifies));
    house.verified().await;
}

#[tokio::test]
async fn a_step_of_any_name_has_a_key_that_is_a_header() {
    let server = Server::saying("").await;
    let (house, worker) = stage(&server).await;
    for step in ["über/1 a", "über/1%20a"] {
        house.call(&worker, step, "notify.webhook", hook(&server, "/hook")).await.unwrap();
    }
    let seen = server.seen();
    assert_eq!(seen[0].header("idempotency-key"), format!("{}/%C3%BCber/1%20a", worker.lease.task));
    assert_ne!(seen[0].header("idempotency-key"), seen[1].header("idempotency-key"));
    house.verified().await;
}

#[tokio::test]
async fn a_webhook_follows_no_redirect() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/moved" => answer("308 Moved", "location: /hook\r\n", ""),
        _ => answer("200 OK", "", ""),
    })
    .await;
    let (house, worker) = stage(&server).await;
    let moved = house.call(&worker, "moved", "notify.webhook", hook(&server, "/moved")).await;
    house.refused(moved, Code::REDIRECT_DENIED);
    assert_eq!(server.count(), 1);
    house.verified().await;
}
