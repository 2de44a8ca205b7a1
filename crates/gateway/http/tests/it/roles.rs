//! The written table of access walked against a running gateway: every operation of the OpenAPI document, with the token of
//! every role and without one. And what a role with a small reach can see.

use std::collections::BTreeMap;

use agentos_gateway::{MESSAGES, openapi_json};
use agentos_types::{Code, Role, TaskId, notify::Notice};
use futures_util::{SinkExt, StreamExt};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::{
    access::path_of,
    harness::{PATIENCE, Stage, expect_problem, problem, stage, stage_with},
    kernel::{owner_of_role, token_of_role},
    samples,
};

const WRITTEN: &str = include_str!("../../../../../docs/src/reference/access.md");

/// Rows of the written table whose first cell begins so: first cell → cells after the scope.
fn written(section: &str) -> BTreeMap<String, Vec<String>> {
    let (_, section) = WRITTEN.split_once(section).expect("the section is in the page");
    let (section, _) = section.split_once("\n## ").unwrap_or((section, ""));
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
        (cells.next().unwrap(), cells.skip(1).collect())
    })
    .collect()
}

/// Method and path of every operation of the document.
fn operations() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&openapi_json()).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())))
        .collect()
}

fn as_role(stage: &Stage, role: Role, method: &str, path: &str) -> RequestBuilder {
    stage.bare(method, path).bearer_auth(token_of_role(role))
}

/// A stage with a task 1 of the agent-caller and a task 2 of somebody else.
async fn stage_with_tasks() -> (Stage, TaskId, TaskId) {
    let stage = stage().await;
    let (own, foreign) = (stage.kernel.add_task(1), stage.kernel.add_task(2));
    stage.kernel.with(|state| state.tasks[0].submitted_by = owner_of_role(Role::AgentCaller));
    (stage, own, foreign)
}

#[tokio::test]
async fn every_operation_answers_each_role_as_the_written_table_says() {
    let (stage, ..) = stage_with_tasks().await;
    let table = written("## Routes");
    let operations = operations();
    assert_eq!(table.len(), operations.len(), "one row for each operation");
    for (method, path) in operations {
        let cells = &table[&format!("{method} {path}")];
        assert_eq!(cells.len(), 1 + Role::ALL.len());
        let bare = || stage.bare(&method, &path_of(&path));
        match cells[0].as_str() {
            "yes" => assert_eq!(bare().send().await.unwrap().status(), 200, "{method} {path}"),
            "later" => drop(expect_problem(bare(), Code::WS_PROTOCOL).await),
            "no" => drop(expect_problem(bare(), Code::UNAUTHENTICATED).await),
            other => panic!("{other} is no word of the table"),
        }
        for (role, cell) in Role::ALL.into_iter().zip(&cells[1..]) {
            let answer = as_role(&stage, role, &method, &path_of(&path)).send().await.unwrap();
            let status = answer.status().as_u16();
            match cell.as_str() {
                "yes" | "own" => {
                    assert!(![401, 403, 404, 429].contains(&status), "{role:?}: {method} {path} is {status}");
                }
                "no" => assert_eq!(problem(answer).await.code, Code::FORBIDDEN, "{role:?}: {method} {path}"),
                other => panic!("{other} is no word of the table"),
            }
        }
    }
}

#[tokio::test]
async fn every_message_answers_each_role_as_the_written_table_says() {
    let (stage, own, _) = stage_with_tasks().await;
    let table = written("## Messages of the WebSocket");
    assert_eq!(table.len(), MESSAGES.len());
    for (number, role) in Role::ALL.into_iter().enumerate() {
        let mut session = Session::open(&stage, role).await;
        for kind in MESSAGES.iter().filter(|kind| kind.name != "auth") {
            let reply = session.ask(message(kind.name, &own)).await;
            let expected = &table[kind.name][number];
            let is_refused = ["AOS-1702", "AOS-1201"].contains(&code_of(&reply));
            assert_eq!(is_refused, expected == "no", "{role:?} sent {}: {reply}", kind.name);
        }
    }
}

#[tokio::test]
async fn an_agent_caller_gives_work_to_the_agents_that_its_token_names_alone() {
    let stage = stage().await;
    let submit = |agent: &str| {
        as_role(&stage, Role::AgentCaller, "POST", "/api/v1/tasks").json(&json!({"agent": agent, "input": 1}))
    };
    for agent in ["monitor", "ech", "echo2", "no-such-agent"] {
        let problem = expect_problem(submit(agent), Code::FORBIDDEN).await;
        assert!(problem.detail.contains(agent), "{problem:?}");
        let (_, route, reason) = stage.kernel.with(|state| state.refusals.pop()).expect("a recorded refusal");
        assert_eq!((route.as_str(), reason), ("submit_task", format!("agent {agent} is not named by the token")));
    }
    assert_eq!(stage.kernel.with(|state| state.submitted.len()), 0);
    assert_eq!(submit("echo").send().await.unwrap().status(), 202);

    let mut session = Session::open(&stage, Role::AgentCaller).await;
    let refused = session.ask(json!({"id": 1, "type": "task.submit", "agent": "monitor", "input": 1})).await;
    assert_eq!(code_of(&refused), "AOS-1702", "{refused}");
    assert_eq!(stage.kernel.with(|state| state.submitted.len()), 1);
}

#[tokio::test]
async fn an_agent_caller_sees_its_own_tasks_and_no_trace_of_others() {
    let (stage, own, foreign) = stage_with_tasks().await;
    let absent = samples::task_id(77);
    let caller = |method: &str, path: &str| as_role(&stage, Role::AgentCaller, method, path);
    for (method, rest) in [("GET", ""), ("GET", "/events"), ("POST", "/cancel")] {
        let of = |id: &TaskId| format!("/api/v1/tasks/{id}{rest}");
        assert_eq!(caller(method, &of(&own)).send().await.unwrap().status(), 200, "{method} {rest}");
        let hidden = expect_problem(caller(method, &of(&foreign)), Code::TASK_NOT_FOUND).await;
        let missing = expect_problem(caller(method, &of(&absent)), Code::TASK_NOT_FOUND).await;
        let text = |text: &str, id: &TaskId| text.replace(id.as_str(), "ID");
        assert_eq!(text(&hidden.detail, &foreign), text(&missing.detail, &absent), "{method} {rest}");
        assert_eq!(hidden.hint, missing.hint);
    }
    let streamed = caller("GET", &format!("/api/v1/tasks/{foreign}/events")).header("accept", "text/event-stream");
    expect_problem(streamed, Code::TASK_NOT_FOUND).await;
    let listed: Value = caller("GET", "/api/v1/tasks").send().await.unwrap().json().await.unwrap();
    let ids: Vec<_> = listed["items"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [own.as_str()]);

    let mut session = Session::open(&stage, Role::AgentCaller).await;
    for kind in ["task.get", "task.cancel", "subscribe"] {
        assert_eq!(session.ask(message(kind, &own)).await["type"], "ok", "{kind}");
        assert_eq!(code_of(&session.ask(message(kind, &foreign)).await), "AOS-1201", "{kind}");
    }
    let all_agents = session.ask(json!({"id": 1, "type": "subscribe", "agents": true})).await;
    assert_eq!(code_of(&all_agents), "AOS-1702", "{all_agents}");
    let listed = session.ask(json!({"id": 2, "type": "task.list"})).await;
    assert_eq!(listed["result"]["items"].as_array().map(Vec::len), Some(1), "{listed}");
}

#[tokio::test]
async fn a_caller_follows_its_own_task_until_it_is_revoked() {
    let options = agentos_gateway::GatewayOptions {
        request_timeout: std::time::Duration::from_millis(300),
        ..crate::harness::options()
    };
    let stage = stage_with(options).await;
    let own = stage.kernel.add_task(1);
    stage.kernel.with(|state| state.tasks[0].submitted_by = owner_of_role(Role::AgentCaller));
    stage.kernel.add_event(&own, "progress", json!({}));
    let request = as_role(&stage, Role::AgentCaller, "GET", &format!("/api/v1/tasks/{own}/events"));
    let mut stream = request.header("accept", "text/event-stream").send().await.unwrap().bytes_stream();
    assert!(stream.next().await.is_some());
    stage.kernel.with(|state| state.revoked.push(token_of_role(Role::AgentCaller)));
    let _ = stage.kernel.notices.send(Notice::Audit);
    let ended = async { while let Some(Ok(_)) = stream.next().await {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the stream of a revoked token ends");
}

/// A well-formed message of the type about this task.
fn message(kind: &str, task: &TaskId) -> Value {
    let mut message = json!({"id": kind, "type": kind});
    match kind {
        "task.submit" => (message["agent"], message["input"]) = ("echo".into(), json!(1)),
        "agent.get" | "agent.pause" | "agent.resume" | "agent.restart" | "agent.terminate" => {
            message["agent"] = "echo".into();
        }
        "task.get" | "task.cancel" | "task.retry" | "task.redrive" | "subscribe" => {
            message["task"] = task.to_string().into();
        }
        "unsubscribe" => message["subscription"] = 1.into(),
        "chat" => message["body"] = json!({"model": "fast"}),
        "chat.cancel" | "chat.resume" => {
            message["chat"] = samples::request_id().to_string().into();
            if kind == "chat.resume" {
                message["after_seq"] = 0.into();
            }
        }
        _ => {}
    }
    message
}

fn code_of(reply: &Value) -> &str {
    reply["problem"]["code"].as_str().unwrap_or("no problem")
}

/// An authenticated WebSocket.
struct Session(tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>);

impl Session {
    async fn open(stage: &Stage, role: Role) -> Self {
        let url = format!("ws://{}/api/v1/ws", stage.address);
        let mut session = Self(client_async(url, stage.connect().await).await.unwrap().0);
        let welcome = session.ask(json!({"id": "a", "type": "auth", "token": token_of_role(role)})).await;
        assert_eq!(welcome["result"]["role"], role.as_str(), "{welcome}");
        session
    }

    /// The reply, past pushes of subscriptions.
    async fn ask(&mut self, message: Value) -> Value {
        self.0.send(Message::text(message.to_string())).await.unwrap();
        loop {
            let heard = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("the session went silent");
            let Ok(Message::Text(text)) = heard.unwrap() else { continue };
            let reply: Value = serde_json::from_str(&text).unwrap();
            if reply["id"] == message["id"] {
                return reply;
            }
        }
    }
}
