//! The door on the real server: tokens, idempotency, streams, TLS.

use agentos_kit::{Package, TestOs};
use agentos_types::{Code, Role, Scope};
use futures_util::{SinkExt, StreamExt};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn a_revoked_token_is_refused_at_once_and_scopes_hold() {
    let os = TestOs::start().await;
    let admin = os.client();
    let body = serde_json::from_value(json!({"name": "reader", "scopes": ["read"]})).unwrap();
    let created = admin.create_token(&body).await.unwrap();
    assert_eq!(created.info.scopes, [Scope::Read]);
    let reader = os.client_with(Some(created.token));
    assert!(reader.list_agents().await.is_ok());
    assert_eq!(reader.list_tokens().await.unwrap_err().code, Code::FORBIDDEN);
    admin.revoke_token(&created.info.id).await.unwrap();
    assert_eq!(reader.list_agents().await.unwrap_err().code, Code::UNAUTHENTICATED);
    let refused = os.cli_json(&["audit", "query", "--action", "gateway.request"]).await.to_string();
    assert!(refused.contains("denied"), "refusals are recorded: {refused}");
}

/// Method, path and the cells of each route in the written table: without a token, then one for each role.
fn written_table() -> Vec<(Method, String, Vec<String>)> {
    let page = include_str!("../../../../../docs/src/reference/access.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" /"));
    let rows = rows.map(|(method, rest)| {
        let mut cells = rest.trim_end_matches(" |").split(" | ").map(str::to_owned);
        let path = format!("/{}", cells.next().unwrap());
        (method.parse().unwrap(), path, cells.skip(1).collect())
    });
    rows.collect()
}

/// Ids that are well-formed and belong to nothing.
fn with_ids(path: &str) -> String {
    let kind = path.split('/').nth(3).unwrap_or_default();
    let prefix = match kind {
        "tasks" => "task",
        "schedules" => "sch",
        _ => "tok",
    };
    path.replace("{id}", &format!("{prefix}_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E"))
        .replace("{name}", "nobody")
        .replace("{code}", "AOS-1000")
}

#[tokio::test]
async fn the_written_table_of_access_holds_on_the_real_server() {
    let os = TestOs::start().await;
    let mut tokens = Vec::new();
    for role in Role::ALL {
        let mut line = vec!["-q", "token", "create", "t", "--role", role.as_str()];
        if role == Role::AgentCaller {
            line.extend(["--agent", "echo"]);
        }
        tokens.push(os.cli_ok(&line).await.trim().to_owned());
    }
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let table = written_table();
    assert!(table.len() > 40, "the page was read");
    for (method, path, cells) in table {
        let url = os.url() + &with_ids(&path);
        let status = async |token: Option<&String>| {
            let request = http.request(method.clone(), &url).header("x-forwarded-for", "127.0.0.1");
            let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
            request.send().await.unwrap().status()
        };
        let stranger = status(None).await;
        assert_eq!(
            stranger == StatusCode::UNAUTHORIZED,
            cells[0] == "no",
            "{method} {path} without a token: {stranger}"
        );
        for (role, (token, cell)) in Role::ALL.into_iter().zip(tokens.iter().zip(&cells[1..])) {
            let status = status(Some(token)).await;
            assert_ne!(status, StatusCode::UNAUTHORIZED, "{role:?}: {method} {path}");
            assert_eq!(status == StatusCode::FORBIDDEN, cell == "no", "{role:?}: {method} {path}: {status}");
        }
    }
}

#[tokio::test]
async fn an_agent_caller_works_alone_and_keeps_its_tasks_through_a_rotation() {
    let os = TestOs::start().await;
    os.deploy(&Package::echo("echo", "")).await;
    os.deploy(&Package::echo("other", "")).await;
    let made = os.cli_json(&["token", "create", "shop", "--role", "agent-caller", "--agent", "echo"]).await;
    let id = made["id"].as_str().unwrap();
    let caller = os.client_with(Some(made["token"].as_str().unwrap().to_owned()));
    let body = |agent: &str| {
        serde_json::from_value(json!({"agent": agent, "input": {"action": "echo", "text": "a"}})).unwrap()
    };
    let own = caller.submit_task(&body("echo"), Some("k")).await.unwrap().id;
    let foreign = os.submit("echo", json!({"action": "echo"})).await;
    assert_eq!(caller.submit_task(&body("other"), None).await.unwrap_err().code, Code::FORBIDDEN);
    assert_eq!(caller.get_task(&foreign).await.unwrap_err().code, Code::TASK_NOT_FOUND);
    assert_eq!(caller.cancel_task(&foreign).await.unwrap_err().code, Code::TASK_NOT_FOUND);
    assert_eq!(caller.list_agents().await.unwrap_err().code, Code::FORBIDDEN);

    let rotated = os.cli_json(&["token", "rotate", id, "--overlap", "0s"]).await;
    assert_eq!((&rotated["family"], &rotated["agents"]), (&json!(id), &json!(["echo"])));
    assert_eq!(caller.get_task(&own).await.unwrap_err().code, Code::UNAUTHENTICATED, "no overlap was asked for");
    let successor = os.client_with(Some(rotated["token"].as_str().unwrap().to_owned()));
    assert_eq!(successor.get_task(&own).await.unwrap().id, own);
    assert_eq!(successor.get_task(&foreign).await.unwrap_err().code, Code::TASK_NOT_FOUND);
    let replayed = successor.submit_task(&body("echo"), Some("k")).await.unwrap();
    assert_eq!(replayed.id, own, "the key belongs to the line of tokens");
    let recorded = os.cli_json(&["audit", "query", "--action", "token.rotate"]).await.to_string();
    assert!(recorded.contains(id), "{recorded}");
}

#[tokio::test]
async fn wrong_tokens_lock_the_address_out_and_valid_ones_pass() {
    let os = TestOs::start_with("[gateway]\nauth_failures_max = 5\n").await;
    let guess = os.client_with(Some("aos_guess".into()));
    for _ in 0..5 {
        assert_eq!(guess.list_agents().await.unwrap_err().code, Code::UNAUTHENTICATED);
    }
    let locked = guess.list_agents().await.unwrap_err();
    assert_eq!(locked.code, Code::AUTH_LOCKED);
    assert!(locked.retry_after.is_some_and(|wait| wait.as_secs() <= 60), "{locked:?}");
    assert!(os.client().list_agents().await.is_ok(), "the same address with a valid token");
    let recorded = os.cli_json(&["audit", "query", "--action", "gateway.lockout"]).await;
    assert_eq!(recorded["items"].as_array().map_or(0, Vec::len), 1, "one record: {recorded}");
}

#[tokio::test]
async fn an_idempotency_key_makes_one_task() {
    let os = TestOs::start().await;
    os.deploy(&Package::echo("echo", "")).await;
    let client = os.client();
    let body = |text: &str| {
        serde_json::from_value(json!({"agent": "echo", "input": {"action": "echo", "text": text}})).unwrap()
    };
    let first = client.submit_task(&body("a"), Some("key-1")).await.unwrap();
    let again = client.submit_task(&body("a"), Some("key-1")).await.unwrap();
    assert_eq!(first.id, again.id);
    let other = client.submit_task(&body("b"), Some("key-1")).await.unwrap_err();
    assert_eq!(other.code, Code::IDEMPOTENCY_CONFLICT);
}

#[tokio::test]
async fn a_websocket_submits_and_sees_every_event() {
    let os = TestOs::start().await;
    os.deploy(&Package::echo("echo", "")).await;
    let url = os.url().replace("http://", "ws://") + "/api/v1/ws";
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let mut say = async |message: Value| socket.send(Message::text(message.to_string())).await.unwrap();
    say(json!({"id": 1, "type": "auth", "token": os.token()})).await;
    say(json!({"id": 2, "type": "task.submit", "agent": "echo", "input": {"action": "echo", "n": 7}})).await;
    let mut states = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        let Ok(text) = message.to_text() else { continue };
        let Ok(message) = serde_json::from_str::<Value>(text) else { continue };
        if message["id"] == 2 {
            assert_eq!(message["type"], "ok", "{message}");
            let subscribe =
                json!({"id": 3, "type": "subscribe", "task": message["result"]["task"]["id"], "after_seq": 0});
            socket.send(Message::text(subscribe.to_string())).await.unwrap();
        }
        if message["type"] == "event" && message["event"]["kind"] == "state" {
            let state = message["event"]["data"]["state"].as_str().unwrap().to_owned();
            states.push(state.clone());
            if state == "completed" {
                break;
            }
        }
    }
    assert_eq!(states, ["submitted", "working", "completed"]);
}

#[tokio::test]
async fn tls_from_the_configuration() {
    let mut os = TestOs::initialised().await;
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let (certificate, key) = (os.home().join("cert.pem"), os.home().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = format!("[gateway]\ntls_cert_file = {certificate:?}\ntls_key_file = {key:?}\n");
    std::fs::write(os.home().join("agent-os.toml"), config).unwrap();
    os.up().await;
    assert!(os.url().starts_with("https://"));
    let status = os.cli(&["status"]).await;
    assert_eq!(status.code, 0, "the command line trusts the server's own certificate: {}", status.stderr);
    assert!(os.client().ready().await.is_err(), "a stranger does not");
}
