//! No request is trusted for where it comes from, and an address that presents wrong tokens is locked out.

use std::time::Duration;

use agentos_gateway::{Access, GatewayOptions, ROUTES};
use agentos_types::{Actor, Code, Scope};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::{
    access::path_of,
    harness::{Stage, expect_problem, options, stage, stage_with},
};

async fn strict_stage() -> Stage {
    stage_with(GatewayOptions { auth_failures_max: 5, ..options() }).await
}

fn wrong(stage: &Stage) -> reqwest::RequestBuilder {
    stage.bare("GET", "/api/v1/agents").bearer_auth("wrong")
}

#[tokio::test]
async fn loopback_and_headers_that_claim_it_open_nothing() {
    let stage = stage().await;
    let claims = [
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("host", "localhost"),
        ("origin", "http://localhost:18800"),
        ("cookie", "token=admin-token"),
    ];
    assert!(stage.address.ip().is_loopback(), "this client is on the loopback itself");
    for route in ROUTES.iter().filter(|route| matches!(route.access, Access::Scope(_) | Access::Own(_))) {
        expect_problem(stage.bare(route.method, &path_of(route.path)), Code::UNAUTHENTICATED).await;
        for (name, value) in claims {
            let claimed = stage.bare(route.method, &path_of(route.path)).header(name, value);
            expect_problem(claimed, Code::UNAUTHENTICATED).await;
        }
    }
}

#[tokio::test]
async fn wrong_tokens_lock_an_address_out_for_longer_each_time() {
    let stage = strict_stage().await;
    for minutes in [1, 2, 4] {
        for _ in 0..5 {
            expect_problem(wrong(&stage), Code::UNAUTHENTICATED).await;
        }
        for request in [wrong(&stage), stage.bare("GET", "/api/v1/tasks"), stage.bare("POST", "/api/v1/tokens")] {
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["retry-after"], (minutes * 60).to_string());
            assert_eq!(crate::harness::problem(response).await.code, Code::AUTH_LOCKED);
        }
        stage.clock.advance(Duration::from_secs(minutes * 60 - 1));
        expect_problem(wrong(&stage), Code::AUTH_LOCKED).await;
        stage.clock.advance(Duration::from_secs(1));
    }
    expect_problem(wrong(&stage), Code::UNAUTHENTICATED).await;
    let lockouts = stage.kernel.with(|state| state.lockouts.clone());
    let waits: Vec<u64> = lockouts.iter().map(|(_, wait)| wait.as_secs()).collect();
    assert_eq!(waits, [60, 120, 240], "one record for each lockout, none for what it turned away");
    assert!(lockouts.iter().all(|(context, _)| context.actor == Actor::Anonymous { peer: "127.0.0.1".into() }));
    stage.until_metrics_contain("agentos_gateway_lockouts_total 3").await;
}

#[tokio::test]
async fn a_valid_token_passes_from_an_address_that_is_locked_out() {
    let stage = strict_stage().await;
    for _ in 0..5 {
        expect_problem(wrong(&stage), Code::UNAUTHENTICATED).await;
    }
    expect_problem(wrong(&stage), Code::AUTH_LOCKED).await;
    for _ in 0..20 {
        let valid = stage.with_token(Scope::Read, "GET", "/api/v1/agents").send().await.unwrap();
        assert_eq!(valid.status(), 200, "a neighbour's wrong tokens are not this caller's");
    }
    assert_eq!(stage.bare("GET", "/live").send().await.unwrap().status(), 200, "what is public stays public");
    expect_problem(wrong(&stage), Code::AUTH_LOCKED).await;
}

#[tokio::test]
async fn a_request_without_a_token_is_no_guess() {
    let stage = strict_stage().await;
    for _ in 0..50 {
        expect_problem(stage.bare("GET", "/api/v1/agents"), Code::UNAUTHENTICATED).await;
    }
    assert_eq!(stage.kernel.with(|state| state.lockouts.len()), 0);
}

#[tokio::test]
async fn guesses_over_the_websocket_count_as_well() {
    let stage = strict_stage().await;
    for attempt in 0..6 {
        let url = format!("ws://{}/api/v1/ws", stage.address);
        let (mut socket, _) = client_async(url, stage.connect().await).await.unwrap();
        socket.send(Message::text(json!({"id": 1, "type": "auth", "token": "wrong"}).to_string())).await.unwrap();
        let Some(Ok(Message::Text(text))) = socket.next().await else { panic!("no reply") };
        let reply: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(reply["problem"]["code"], if attempt < 5 { "AOS-1701" } else { "AOS-1715" }, "{reply}");
    }
    expect_problem(wrong(&stage), Code::AUTH_LOCKED).await;
}
