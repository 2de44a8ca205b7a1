//! Every row of the system call table, by enumeration: without its grant refused and recorded, with it done and recorded.

use agentos_protocol::syscall::TABLE;
use agentos_types::{
    Code,
    audit::{Decision, Phase},
};
use serde_json::{Value, json};

use crate::{
    house::{House, Worker, caller},
    server::Server,
};

/// A call that works, and whether its effect is outward (intent, then outcome) or in our own store (one fact).
struct Case {
    args: Value,
    outward: bool,
}

/// A row of the table that has no case here fails the test.
fn case(syscall: &str, server: &Server, root: &str) -> Case {
    let (args, outward) = match syscall {
        "net.fetch" => (json!({"url": server.url("api.test", "/page")}), true),
        "file.read" => (json!({"path": format!("{root}/a.txt")}), true),
        "file.list" => (json!({"path": root}), true),
        "notify.event" => (json!({"kind": "watch.changed", "data": {"n": 1}}), false),
        "notify.webhook" => {
            (json!({"url": server.url("api.test", "/hook"), "body": {"n": 1}, "secret": "hook-key"}), true)
        }
        "kv.get" | "kv.delete" => (json!({"key": "a"}), false),
        "kv.put" => (json!({"key": "a", "value": 1}), false),
        "kv.list" => (json!({}), false),
        "schedule.put" => (json!({"name": "n", "cadence": {"kind": "interval", "every_s": 60}, "input": {}}), false),
        "schedule.delete" => (json!({"name": "n"}), false),
        "schedule.list" => (json!({}), false),
        "shell.exec" => (json!({"pipeline": [["ls", "-l"], ["head"]]}), true),
        "code.run" => (json!({"language": "python", "code": "print(1)"}), true),
        "model.call" => (json!({"model": "fast", "messages": [{"role": "user", "content": "Hello"}]}), true),
        other => panic!("{other} is in the table and has no case in this test"),
    };
    Case { args, outward }
}

/// Grants for everything that the cases touch.
fn all_grants(server: &Server, root: &str) -> Vec<[String; 3]> {
    let url = server.url("api.test", "/*");
    [
        ["net", "fetch", &url],
        ["file", "read", root],
        ["file", "list", root],
        ["notify", "event", "event:*"],
        ["notify", "webhook", &url],
        ["secret", "use", "hook-key@api.test"],
        ["kv", "read", "*"],
        ["kv", "write", "*"],
        ["schedule", "read", "self"],
        ["schedule", "write", "self"],
        ["shell", "exec", "ls *"],
        ["shell", "exec", "head *"],
        ["code", "run", "python"],
        ["model", "call", "fast"],
    ]
    .map(|grant| grant.map(str::to_owned))
    .to_vec()
}

async fn refused(house: &House, worker: &Worker, row: &str, args: Value, why: &str) {
    let error = house.refused(house.call(worker, why, row, args).await, Code::NOT_GRANTED);
    assert_eq!(error.class, agentos_types::task::ErrorClass::Denied, "{row}");
    let records = house.records_of(worker, why).await;
    let [record] = records.as_slice() else { panic!("{row} {why}: {records:?}") };
    assert_eq!((record.action.as_str(), record.phase, record.decision), (row, Phase::Fact, Decision::Denied), "{why}");
    assert_eq!(record.facts["code"], json!("AOS-1401"));
    assert!(house.step(worker, why).await.is_none(), "{row}: a refused call has no step");
}

#[tokio::test]
async fn every_system_call_needs_its_grant_and_leaves_its_record() {
    let server = Server::saying("hello").await;
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("a.txt"), "inside").unwrap();
    let root = files.path().to_str().unwrap();
    let house = House::open(&server).await;
    house.secret("hook-key", "a-signing-key").await;
    let grants = all_grants(&server, root);
    let mut worker = house.worker("prober", &[]).await;
    for row in TABLE {
        let Case { args, outward } = case(row.name, &server, root);
        let requests = server.count();

        worker.caller = caller("prober", &[]);
        refused(&house, &worker, row.name, args.clone(), &format!("{} bare", row.name)).await;
        let (needed, others): (Vec<_>, Vec<_>) =
            grants.iter().partition(|grant| grant[0] == row.category.as_str() && grant[1] == row.verb);
        assert!(!needed.is_empty(), "{} has no grant in this test", row.name);
        worker.caller = with(&others);
        refused(&house, &worker, row.name, args.clone(), &format!("{} all others", row.name)).await;
        assert_eq!(server.count(), requests, "{}: a refused call reached the server", row.name);

        worker.caller = with(&grants.iter().collect::<Vec<_>>());
        let key = format!("{} granted", row.name);
        house.call(&worker, &key, row.name, args).await.unwrap_or_else(|error| panic!("{}: {error}", row.name));
        let records = house.records_of(&worker, &key).await;
        let shape: Vec<_> = records.iter().map(|r| (r.action.as_str(), r.phase, r.decision)).collect();
        let expected = match outward {
            true => vec![(row.name, Phase::Intent, Decision::Allowed), (row.name, Phase::Outcome, Decision::Succeeded)],
            false => vec![(row.name, Phase::Fact, Decision::Succeeded)],
        };
        assert_eq!(shape, expected, "{}", row.name);
        assert_eq!(house.step(&worker, &key).await.unwrap().status, "done", "{}", row.name);
    }
    house.verified().await;
}

fn with(grants: &[&[String; 3]]) -> agentos_authority::Caller {
    let grants: Vec<_> = grants.iter().map(|grant| [grant[0].as_str(), grant[1].as_str(), grant[2].as_str()]).collect();
    caller("prober", &grants)
}

/// A grant for one thing is no grant for its neighbour, in every category.
#[tokio::test]
async fn a_grant_covers_its_resource_and_nothing_beside_it() {
    let server = Server::saying("hello").await;
    let files = tempfile::tempdir().unwrap();
    let root = files.path().to_str().unwrap().to_owned();
    let house = House::open(&server).await;
    house.secret("hook-key", "a-signing-key").await;
    let docs = server.url("api.test", "/docs/*");
    let inner = format!("{root}/granted");
    let worker = house
        .worker(
            "narrow",
            &[
                ["net", "fetch", &docs],
                ["file", "read", &inner],
                ["file", "list", &inner],
                ["notify", "event", "event:watch.*"],
                ["notify", "webhook", &docs],
                ["secret", "use", "hook-key@api.test"],
                ["kv", "read", "watch/*"],
                ["kv", "write", "watch/*"],
                ["shell", "exec", "git log *"],
                ["shell", "exec", "head"],
                ["code", "run", "python"],
            ],
        )
        .await;
    let hook =
        |host: &str, path: &str, secret: &str| json!({"url": server.url(host, path), "body": 1, "secret": secret});
    let fetch = |host: &str, path: &str| json!({"url": server.url(host, path)});
    for (index, (syscall, args)) in [
        ("net.fetch", fetch("api.test", "/docs/../admin")),
        ("net.fetch", fetch("api.test", "/docs/%2e%2e/admin")),
        ("net.fetch", fetch("api.test", "/admin")),
        ("net.fetch", fetch("evil.test", "/docs/a")),
        ("net.fetch", json!({"url": "http://api.test/docs/a"})),
        ("net.fetch", json!({"url": "https://api.test/docs/a"})),
        ("file.read", json!({"path": format!("{root}/granted2")})),
        ("file.list", json!({"path": root})),
        ("notify.event", json!({"kind": "other", "data": 1})),
        ("notify.webhook", hook("api.test", "/admin", "hook-key")),
        ("notify.webhook", hook("evil.test", "/docs/a", "hook-key")),
        ("notify.webhook", hook("api.test", "/docs/a", "other-key")),
        ("kv.get", json!({"key": "watch"})),
        ("kv.put", json!({"key": "other", "value": 1})),
        ("kv.delete", json!({"key": "other"})),
        ("kv.list", json!({"prefix": ""})),
        ("kv.list", json!({"prefix": "watch"})),
        ("schedule.list", json!({})),
        ("shell.exec", json!({"pipeline": [["git", "push"]]})),
        ("shell.exec", json!({"pipeline": [["git", "log x"]]})),
        ("shell.exec", json!({"pipeline": [["/usr/bin/git", "log"]]})),
        ("shell.exec", json!({"pipeline": [["git", "log"], ["sh"]]})),
        ("shell.exec", json!({"pipeline": [["git", "log"], ["head", "-c", "9"]]})),
        ("shell.exec", json!({"pipeline": [["bash", "-c", "git log"]]})),
        ("code.run", json!({"language": "bash", "code": "id"})),
        ("model.call", json!({"model": "fast/er", "messages": []})),
        ("model.call", json!({"model": "*", "messages": []})),
    ]
    .into_iter()
    .enumerate()
    {
        refused(&house, &worker, syscall, args, &format!("beside {index}")).await;
    }
    // In an encoding that some servers undo, the way out is no URL at all.
    let disguised = house.call(&worker, "disguised", "net.fetch", fetch("api.test", "/docs/..%2fadmin")).await;
    house.refused(disguised, Code::URL_INVALID);
    assert_eq!(server.count(), 0);
    assert!(house.jobs.0.lock().unwrap().is_empty(), "a refused command was run");
    house.verified().await;
}

/// What is not even a call is refused and recorded too.
#[tokio::test]
async fn nonsense_is_recorded_as_refused() {
    let server = Server::saying("").await;
    let house = House::open(&server).await;
    let worker = house.worker("noisy", &[["kv", "write", "*"]]).await;
    for (step, syscall, args, code) in [
        ("a", "os.exec", json!({}), Code::SYSCALL_UNKNOWN),
        ("b", "kv.put", json!({"key": "a"}), Code::SYSCALL_INVALID),
        ("c", "kv.put", json!({"key": "a", "value": 1, "agent": "other"}), Code::SYSCALL_INVALID),
        ("d", "kv.put", json!(null), Code::SYSCALL_INVALID),
    ] {
        house.refused(house.call(&worker, step, syscall, args).await, code);
        let records = house.records_of(&worker, step).await;
        assert_eq!(records.len(), 1, "{syscall}");
        let action = if code == Code::SYSCALL_UNKNOWN { "unknown" } else { syscall };
        assert_eq!((records[0].action.as_str(), records[0].decision), (action, Decision::Denied));
    }
    // The lease of another agent is no key to the door.
    let other = house.agent("thief", &[["kv", "write", "*"]]).await;
    let stolen = Worker { caller: other, lease: worker.lease.clone() };
    let outcome = house.call(&stolen, "e", "kv.put", json!({"key": "a", "value": 1})).await;
    house.refused(outcome, Code::TASK_UNKNOWN_TO_WORKER);
    let records = house.records_of(&worker, "e").await;
    assert_eq!((records[0].actor.label().as_str(), records[0].decision), ("agent:thief", Decision::Denied));
    house.verified().await;
}
