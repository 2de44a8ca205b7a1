//! An agent that calls too often, or with too much, harms itself and nobody else.

use std::time::Duration;

use agentos_types::{Code, task::ErrorClass};
use futures_util::future::join_all;
use serde_json::json;

use crate::{house::House, server::Server};

const KV: [[&str; 3]; 2] = [["kv", "read", "*"], ["kv", "write", "*"]];
const LIMITED: &str = "SELECT count(*) FROM audit_record WHERE decision = 'denied'";

#[tokio::test]
async fn calls_a_minute_are_counted_and_a_drought_is_recorded_once() {
    let server = Server::saying("").await;
    let house = House::open(&server).await;
    let mut worker = house.worker("fast", &KV).await;
    worker.caller.calls_per_minute = 3;
    let mut step = 0;
    let mut next = || {
        step += 1;
        format!("s{step}")
    };
    for drought in 1..=2 {
        for _ in 0..3 {
            house.call(&worker, &next(), "kv.put", json!({"key": "k", "value": 1})).await.unwrap();
        }
        for _ in 0..20 {
            let outcome = house.call(&worker, &next(), "kv.put", json!({"key": "k", "value": 2})).await;
            let error = house.refused(outcome, Code::RATE_LIMITED);
            assert_eq!(error.class, ErrorClass::RateLimited);
            let wait_ms = error.retry_after_ms.unwrap();
            assert!((19_000..=20_001).contains(&wait_ms), "{wait_ms}");
        }
        assert_eq!(house.number(LIMITED).await, drought);
        house.clock.advance(Duration::from_secs(60));
    }
    // Waiting as long as was said is enough for one call. Refused calls and other agents' calls cost nothing.
    for _ in 0..3 {
        house.call(&worker, &next(), "kv.get", json!({"key": "k"})).await.unwrap();
    }
    let outcome = house.call(&worker, &next(), "kv.get", json!({"key": "k"})).await;
    let wait_ms = house.refused(outcome, Code::RATE_LIMITED).retry_after_ms.unwrap();
    let neighbour = house.worker("neighbour", &KV).await;
    house.call(&neighbour, "get", "kv.get", json!({"key": "k"})).await.unwrap();
    house.clock.advance(Duration::from_millis(wait_ms + 1));
    let read = house.call(&worker, &next(), "kv.get", json!({"key": "k"})).await.unwrap();
    assert_eq!(read, json!({"value": 1, "version": 6}), "a limited call changed nothing");
    house.verified().await;
}

/// One commit holds the work of many agents, and a record that the log cannot take refuses all of it. So nothing that a
/// worker sends may make such a record.
#[tokio::test]
async fn oversized_calls_do_not_spoil_the_commits_of_others() {
    let server = Server::saying("").await;
    let house = House::open(&server).await;
    let flooder = house
        .worker("flooder", &[["kv", "read", "*"], ["kv", "write", "*"], ["net", "fetch", "http://a.example/*"]])
        .await;
    let neighbour = house.worker("neighbour", &KV).await;
    let long = "\u{1}é".repeat(500_000);
    let url = json!({"url": format!("http://a.example/{}", "x".repeat(1_000_000))});
    let key = json!({"key": "k"});
    let floods = [
        ("short", "kv.list", json!({"prefix": long}), Code::KV_LIMIT),
        ("short", "kv.list", json!({"after": long}), Code::KV_LIMIT),
        ("short", "kv.get", json!({"key": long}), Code::KV_LIMIT),
        (long.as_str(), "kv.get", key.clone(), Code::SYSCALL_INVALID),
        ("", "kv.get", key.clone(), Code::SYSCALL_INVALID),
        ("new\nline", "kv.get", key, Code::SYSCALL_INVALID),
        ("short", long.as_str(), json!({}), Code::SYSCALL_UNKNOWN),
        ("short", "kv.get", json!({long.as_str(): 1}), Code::SYSCALL_INVALID),
        ("short", "net.fetch", url, Code::URL_INVALID),
        ("short", "net.fetch", json!({"url": "http://a.example/", "method": long}), Code::SYSCALL_INVALID),
    ];
    let flood = join_all(floods.into_iter().map(async |(step, syscall, args, code)| {
        let error = house.refused(house.call(&flooder, step, syscall, args).await, code);
        assert!(error.message.len() < 10_000, "{code}: {} bytes would go back", error.message.len());
    }));
    let work = join_all((0..50).map(async |index| {
        let args = json!({"key": format!("k{index}"), "value": index});
        house.call(&neighbour, &format!("s{index}"), "kv.put", args).await.unwrap();
    }));
    tokio::join!(flood, work);
    let longest = house.number("SELECT max(length(body)) FROM audit_record").await;
    assert!(longest < 16 * 1024, "the longest record has {longest} bytes");
    house.verified().await;
}

#[tokio::test]
async fn fifty_calls_at_once_are_all_recorded() {
    let server = Server::saying("ok").await;
    let house = House::open(&server).await;
    let all = server.url("api.test", "/*");
    let worker = house.worker("a", &[["net", "fetch", &all]]).await;
    let url = server.url("api.test", "/");
    let calls = (0..50).map(async |index| {
        house.call(&worker, &format!("s{index}"), "net.fetch", json!({"url": url})).await.unwrap();
    });
    join_all(calls).await;
    assert_eq!(server.count(), 50);
    assert_eq!(house.number("SELECT count(*) FROM audit_record WHERE action = 'net.fetch'").await, 100);
    assert_eq!(house.number("SELECT count(*) FROM step WHERE status = 'done'").await, 50);
    let events = house.events(&worker).await;
    let gaps = events.windows(2).filter(|pair| pair[1].seq != pair[0].seq + 1).count();
    assert_eq!((gaps, events[0].seq), (0, 1));
    house.verified().await;
}
