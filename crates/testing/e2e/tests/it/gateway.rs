//! The door on the real server: tokens, idempotency, streams, TLS.

use agentos_kit::{Package, TestOs};
use agentos_types::{Code, Scope};
use futures_util::{SinkExt, StreamExt};
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
