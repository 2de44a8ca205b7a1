//! The WebSocket: who gets in, what each message needs, what is pushed, and what ends a session.

use std::{collections::BTreeSet, time::Duration};

use agentos_gateway::{GatewayOptions, MESSAGES, MessageAccess};
use agentos_types::{Scope, notify::Notice};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::{
    harness::{PATIENCE, Stage, options, stage, stage_with},
    kernel::{SLOW, token_of},
    samples,
};

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn open(stage: &Stage) -> Self {
        Self::over(stage, stage.connect().await).await
    }

    async fn over(stage: &Stage, stream: TcpStream) -> Self {
        Self(client_async(format!("ws://{}/api/v1/ws", stage.address), stream).await.unwrap().0)
    }

    async fn authenticated(stage: &Stage, scope: Scope) -> Self {
        let mut client = Self::open(stage).await;
        let reply = client.ask(json!({"id": 0, "type": "auth", "token": token_of(scope)})).await;
        assert_eq!(reply["result"]["scopes"], json!([scope]), "{reply}");
        client
    }

    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn ask(&mut self, message: Value) -> Value {
        self.send(message).await;
        loop {
            let answer = self.next().await;
            // Pieces of a chat come whenever they come.
            if !answer["type"].as_str().is_some_and(|kind| kind.starts_with("chat.")) {
                return answer;
            }
        }
    }

    /// The next text, past pings.
    async fn next(&mut self) -> Value {
        match self.next_or_close().await {
            Ok(value) => value,
            Err(code) => panic!("closed with {code} instead of a message"),
        }
    }

    async fn next_or_close(&mut self) -> Result<Value, u16> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("the session went silent");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(frame)))) => return Err(frame.code.into()),
                Some(Ok(Message::Close(None)) | Err(_)) | None => return Err(1006),
                Some(Ok(_)) => {}
            }
        }
    }

    async fn close_code(&mut self) -> u16 {
        loop {
            if let Err(code) = self.next_or_close().await {
                return code;
            }
        }
    }
}

fn code_of(reply: &Value) -> &str {
    reply["problem"]["code"].as_str().unwrap_or("no problem")
}

#[tokio::test]
async fn nothing_is_served_before_the_token() {
    let stage = stage().await;
    for first in [
        json!({"id": 1, "type": "agent.list"}),
        json!({"id": 1, "type": "ping"}),
        json!({"id": 1, "type": "auth", "token": "wrong"}),
        json!({"id": 1, "type": "auth"}),
        json!("nonsense"),
    ] {
        let mut client = Client::open(&stage).await;
        let reply = client.ask(first.clone()).await;
        assert_eq!(reply["type"], "error", "{first} got {reply}");
        assert_eq!(client.close_code().await, 4401, "{first}");
    }
    let refusals = stage.kernel.with(|state| state.refusals.clone());
    assert_eq!(refusals.len(), 1, "the wrong token is on record");
}

#[tokio::test]
async fn a_client_that_does_not_authenticate_is_closed() {
    let stage = stage_with(GatewayOptions { request_timeout: Duration::from_millis(300), ..options() }).await;
    let mut client = Client::open(&stage).await;
    assert_eq!(client.close_code().await, 4401);
}

#[tokio::test]
async fn a_token_in_the_upgrade_counts_and_a_wrong_one_is_a_401() {
    let stage = stage().await;
    let request = |token: &str| {
        let mut request = format!("ws://{}/api/v1/ws", stage.address).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
    };
    let (stream, _) = client_async(request(&token_of(Scope::Read)), stage.connect().await).await.unwrap();
    let reply = Client(stream).ask(json!({"id": 1, "type": "agent.get", "agent": "echo"})).await;
    assert_eq!(reply["result"]["name"], "echo");
    let refused = client_async(request("wrong"), stage.connect().await).await.unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
}

/// A well-formed message of the type.
fn sample(name: &str) -> Value {
    let mut message = json!({"id": name, "type": name});
    match name {
        "auth" => message["token"] = token_of(Scope::Admin).into(),
        "agent.get" | "agent.pause" | "agent.resume" | "agent.restart" | "agent.terminate" | "task.submit" => {
            message["agent"] = "echo".into();
        }
        "task.get" | "task.cancel" | "task.retry" | "task.redrive" | "subscribe" => {
            message["task"] = samples::task_id(1).to_string().into();
        }
        "unsubscribe" => message["subscription"] = 1.into(),
        "chat" => message["body"] = json!({"model": "fast"}),
        "chat.cancel" => message["chat"] = samples::request_id().to_string().into(),
        "chat.resume" => {
            message["chat"] = samples::request_id().to_string().into();
            message["after_seq"] = 0.into();
        }
        _ => {}
    }
    message
}

#[tokio::test]
async fn every_message_type_needs_its_scope() {
    let stage = stage().await;
    stage.kernel.add_task(1);
    for scope in Scope::ALL {
        let mut client = Client::authenticated(&stage, scope).await;
        for kind in MESSAGES.iter().filter(|kind| kind.name != "auth") {
            let reply = client.ask(sample(kind.name)).await;
            assert_eq!(reply["id"], kind.name, "{reply}");
            let may = match kind.access {
                MessageAccess::Session => true,
                MessageAccess::Scope(needed) => scope == needed || scope == Scope::Admin,
                // What such a token then reaches is tested with the roles.
                MessageAccess::Own(needed) => [needed, Scope::Admin, Scope::Call].contains(&scope),
            };
            let is_forbidden = code_of(&reply) == "AOS-1702";
            assert_eq!(is_forbidden, !may, "{scope:?} sent {}: {reply}", kind.name);
        }
    }
}

#[tokio::test]
async fn tasks_are_submitted_followed_and_listed() {
    let stage = stage().await;
    let mut client = Client::authenticated(&stage, Scope::Admin).await;
    let submit = json!({"id": 1, "type": "task.submit", "agent": "echo", "input": {"a": 1}, "idempotency_key": "k"});
    let first = client.ask(submit.clone()).await;
    let task = first["result"]["task"].clone();
    assert_eq!(
        (&first["type"], &first["result"]["replayed"], &task["input"]),
        (&json!("ok"), &json!(false), &json!({"a": 1}))
    );
    let second = client.ask(submit).await;
    assert_eq!((&second["result"]["replayed"], &second["result"]["task"]["id"]), (&json!(true), &task["id"]));

    let id = task["id"].as_str().unwrap().parse().unwrap();
    stage.kernel.add_event(&id, "state", json!({"state": "submitted"}));
    let opened = client.ask(json!({"id": 2, "type": "subscribe", "task": id})).await;
    assert_eq!(opened["result"]["subscription"], 1, "{opened}");
    let push = client.next().await;
    assert_eq!((&push["type"], &push["subscription"], &push["event"]["seq"]), (&json!("event"), &json!(1), &json!(1)));
    stage.kernel.add_event(&id, "state", json!({"state": "completed"}));
    assert_eq!(client.next().await["event"]["data"]["state"], "completed");
    assert_eq!(client.ask(json!({"id": 3, "type": "unsubscribe", "subscription": 1})).await["type"], "ok");
    stage.kernel.add_event(&id, "progress", json!({}));
    let listed = client.ask(json!({"id": 4, "type": "task.list", "limit": 1})).await;
    assert_eq!(listed["result"]["items"][0]["id"], task["id"], "no push came in between: {listed}");
    let missing = json!({"id": 5, "type": "task.get", "task": samples::task_id(77)});
    assert_eq!(code_of(&client.ask(missing).await), "AOS-1201");
}

#[tokio::test]
async fn subscriptions_resume_without_gap_or_duplicate_though_announcements_are_lost() {
    const EVENTS: i64 = 1_000;
    let stage = stage().await;
    let (first, second) = (stage.kernel.add_task(1), stage.kernel.add_task(2));
    let mut client = Client::authenticated(&stage, Scope::Read).await;
    stage.kernel.add_event(&first, "progress", json!({}));
    for (id, task) in [(1, &first), (2, &second)] {
        let subscribe = json!({"id": id, "type": "subscribe", "task": task, "after_seq": 0});
        client.send(subscribe).await;
    }
    let kernel = stage.kernel.clone();
    let tasks = [first.clone(), second.clone()];
    let writer = tokio::task::spawn_blocking(move || {
        for number in 1..EVENTS {
            tasks.iter().for_each(|task| kernel.add_event(task, "progress", json!({ "number": number })));
        }
        kernel.add_event(&tasks[1], "progress", json!({}));
    });
    let mut seen = [Vec::new(), Vec::new()];
    while seen.iter().any(|seqs: &Vec<i64>| (seqs.len() as i64) < EVENTS) {
        let push = client.next().await;
        if push["type"] == "event" {
            let number = push["subscription"].as_u64().unwrap() as usize;
            seen[number - 1].push(push["event"]["seq"].as_i64().unwrap());
        }
    }
    writer.await.unwrap();
    for seqs in seen {
        assert_eq!(seqs, (1..=EVENTS).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn agents_are_pushed_when_they_change() {
    let stage = stage().await;
    let mut client = Client::authenticated(&stage, Scope::Read).await;
    client.ask(json!({"id": 1, "type": "subscribe", "agents": true})).await;
    assert_eq!(client.next().await["agent"]["name"], "echo", "all agents come first");
    stage.kernel.notices.send(Notice::Agent("gone".parse().unwrap())).unwrap();
    stage.kernel.notices.send(Notice::Agent(samples::agent_name())).unwrap();
    let push = client.next().await;
    assert_eq!((&push["type"], &push["agent"]["name"]), (&json!("agent"), &json!("echo")));
}

#[tokio::test]
async fn commands_run_side_by_side() {
    let stage = stage().await;
    let mut client = Client::authenticated(&stage, Scope::Read).await;
    client.send(json!({"id": "slow", "type": "agent.get", "agent": SLOW})).await;
    stage.kernel.waiting.notified().await;
    assert_eq!(client.ask(json!({"id": "fast", "type": "ping"})).await["id"], "fast");
    stage.kernel.gate.notify_one();
    assert_eq!(client.next().await["id"], "slow");
}

#[tokio::test]
async fn revocation_ends_a_session_at_its_next_message_or_tick() {
    let stage = stage_with(GatewayOptions { request_timeout: Duration::from_millis(500), ..options() }).await;
    let (mut speaking, mut listening) =
        (Client::authenticated(&stage, Scope::Tasks).await, Client::authenticated(&stage, Scope::Tasks).await);
    stage.kernel.with(|state| state.revoked.push(token_of(Scope::Tasks)));
    let reply = speaking.ask(sample("task.submit")).await;
    assert_eq!(code_of(&reply), "AOS-1701");
    assert!(stage.kernel.with(|state| state.submitted.is_empty()));
    assert_eq!(speaking.close_code().await, 4401);
    assert_eq!(listening.close_code().await, 4401);
}

#[tokio::test]
async fn bad_messages_are_answered_and_only_many_of_them_end_the_session() {
    let stage = stage().await;
    let mut client = Client::authenticated(&stage, Scope::Admin).await;
    for round in 0..3 {
        for bad in ["{", "[]", r#"{"id":1}"#, r#"{"id":1,"type":"nonsense"}"#, r#"{"id":1,"type":"ping","id":2}"#] {
            client.0.send(Message::text(bad)).await.unwrap();
            assert_eq!(code_of(&client.next().await), "AOS-1710", "{bad}");
        }
        client.0.send(Message::binary(vec![0, 1])).await.unwrap();
        assert_eq!(code_of(&client.next().await), "AOS-1710");
        assert_eq!(client.ask(json!({"id": round, "type": "ping"})).await["type"], "ok");
    }
    for _ in 0..8 {
        client.send(json!([])).await;
    }
    assert_eq!(client.close_code().await, 4400);
}

#[tokio::test]
async fn a_session_has_limits() {
    let stage = stage_with(GatewayOptions { requests_per_second: 40, ..options() }).await;
    let id = stage.kernel.add_task(1);
    let mut client = Client::authenticated(&stage, Scope::Read).await;
    let mut numbers = BTreeSet::new();
    for message in 0..32 {
        let reply = client.ask(json!({"id": message, "type": "subscribe", "task": id})).await;
        numbers.insert(reply["result"]["subscription"].as_u64().unwrap());
    }
    assert_eq!(numbers.len(), 32);
    let reply = client.ask(json!({"id": 33, "type": "subscribe", "task": id})).await;
    assert_eq!(code_of(&reply), "AOS-1710", "{reply}");
    let limited = loop {
        let reply = client.ask(json!({"id": 34, "type": "ping"})).await;
        if reply["type"] == "error" {
            break reply;
        }
    };
    assert_eq!(code_of(&limited), "AOS-1705");
    assert!(limited["problem"]["retry_after_ms"].as_u64().unwrap() > 0);

    let mut large = Client::authenticated(&stage, Scope::Tasks).await;
    let text = json!({"id": 1, "type": "task.submit", "agent": "echo", "input": "x".repeat(options().body_bytes_max)});
    large.0.send(Message::text(text.to_string())).await.unwrap();
    assert_eq!(large.close_code().await, 1009);
}

#[tokio::test]
async fn a_flood_of_pings_is_closed() {
    let stage = stage_with(GatewayOptions { requests_per_second: 20, ..options() }).await;
    let mut client = Client::authenticated(&stage, Scope::Read).await;
    for _ in 0..40 {
        if client.0.send(Message::Ping(Default::default())).await.is_err() {
            break;
        }
    }
    assert_eq!(client.close_code().await, 4429);
}

#[tokio::test]
async fn a_reader_that_stops_is_dropped_and_costs_no_memory() {
    let stage = stage_with(GatewayOptions { request_timeout: Duration::from_millis(1_000), ..options() }).await;
    let id = stage.kernel.add_task(1);
    for _ in 0..400 {
        stage.kernel.add_event(&id, "progress", json!({ "text": "x".repeat(100_000) }));
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let mut client = Client::over(&stage, socket.connect(stage.address).await.unwrap()).await;
    client.ask(json!({"id": 0, "type": "auth", "token": token_of(Scope::Read)})).await;
    client.ask(json!({"id": 1, "type": "subscribe", "task": id})).await;
    // From here on the client reads nothing; the server must not wait for it for ever.
    stage.until_metrics_contain("agentos_gateway_websockets 0").await;
    stage.until_metrics_contain("agentos_gateway_connections 1").await;
    let mut pushes = 0;
    while client.next_or_close().await.is_ok() {
        pushes += 1;
    }
    assert!(pushes < 400, "all was taken in for a reader that did not read");
}

#[tokio::test]
async fn shutdown_says_goodbye() {
    let stage = stage().await;
    let mut client = Client::authenticated(&stage, Scope::Read).await;
    client.send(json!({"id": "slow", "type": "agent.get", "agent": SLOW})).await;
    stage.kernel.waiting.notified().await;
    stage.kernel.gate.notify_one();
    stage.background.shutdown().cancel();
    assert_eq!(client.next().await["id"], "slow", "what was begun is answered");
    assert_eq!(client.close_code().await, 1001);
    tokio::time::timeout(PATIENCE, stage.served).await.expect("serve returns").unwrap();
}
