//! Every route of the table, attacked without a token, with a wrong one, and with one that lacks the scope.

use std::time::Duration;

use agentos_gateway::{Access, PUBLIC_ROUTES, ROUTES, Route};
use agentos_types::{Actor, Code, Scope};

use crate::{
    harness::{Stage, expect_problem, problem, stage},
    kernel::token_of,
    samples,
};

/// The route's path with real ids in it.
pub fn path_of(path: &str) -> String {
    let id = match path.split('/').nth(3) {
        Some("tasks") => samples::task_id(1).to_string(),
        Some("schedules") => samples::schedule_id().to_string(),
        _ => samples::token_id(1).to_string(),
    };
    path.replace("{id}", &id).replace("{name}", "echo").replace("{code}", "AOS-1201")
}

fn guarded() -> impl Iterator<Item = (&'static Route, Option<Scope>)> {
    ROUTES.iter().filter_map(|route| match route.access {
        Access::Public => None,
        access => Some((route, access.scope())),
    })
}

/// A second later, so that the bound on recorded refusals does not hide the one that is looked for.
fn last_refusal(stage: &Stage) -> (Actor, String, String) {
    stage.clock.advance(Duration::from_secs(1));
    let (context, route, reason) = stage.kernel.with(|state| state.refusals.pop()).expect("a recorded refusal");
    (context.actor, route, reason)
}

#[tokio::test]
async fn without_a_token_only_the_public_routes_answer() {
    let stage = stage().await;
    for route in ROUTES {
        let response = stage.bare(route.method, &path_of(route.path)).send().await.unwrap();
        match route.access {
            Access::Public => {
                assert!(PUBLIC_ROUTES.contains(&route.path));
                assert_eq!(response.status(), 200, "{}", route.path);
            }
            Access::Scope(_) | Access::Own(_) | Access::Model => {
                assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"agent-os\"", "{}", route.path);
                assert_eq!(problem(response).await.code, Code::UNAUTHENTICATED, "{} {}", route.method, route.path);
                let (actor, recorded, reason) = last_refusal(&stage);
                assert_eq!(actor, Actor::Anonymous { peer: "127.0.0.1".into() });
                assert_eq!((recorded.as_str(), reason.as_str()), (route.operation, "no token"));
            }
            // Without the upgrade there is no session; what a session may do is tested with the WebSocket.
            Access::Session => assert_eq!(problem(response).await.code, Code::WS_PROTOCOL),
        }
    }
}

#[tokio::test]
async fn a_wrong_or_malformed_token_opens_nothing() {
    let stage = stage().await;
    for (route, _) in guarded() {
        expect_problem(stage.bare(route.method, &path_of(route.path)).bearer_auth("wrong"), Code::UNAUTHENTICATED)
            .await;
        assert_eq!(last_refusal(&stage).2, "invalid token", "{}", route.operation);
    }
    let admin = token_of(Scope::Admin);
    for value in [
        "".into(),
        admin.clone(),
        format!("Basic {admin}"),
        format!("Bearer {admin} {admin}"),
        format!("Bearer {admin}x"),
    ] {
        let request = stage.bare("GET", "/api/v1/agents").header("authorization", value);
        expect_problem(request, Code::UNAUTHENTICATED).await;
    }
    let twice = stage.admin("GET", "/api/v1/agents").header("authorization", format!("Bearer {admin}"));
    expect_problem(twice, Code::UNAUTHENTICATED).await;
    let looked_up = stage.kernel.with(|state| state.authentications);
    let huge = stage.bare("GET", "/api/v1/agents").bearer_auth("x".repeat(1_000));
    expect_problem(huge, Code::UNAUTHENTICATED).await;
    assert_eq!(
        stage.kernel.with(|state| state.authentications),
        looked_up,
        "the kernel is not asked about such a text"
    );
    let in_query = stage.bare("GET", &format!("/api/v1/agents?token={admin}"));
    expect_problem(in_query, Code::UNAUTHENTICATED).await;
}

#[tokio::test]
async fn a_token_without_the_scope_is_forbidden_and_one_with_it_passes() {
    let stage = stage().await;
    stage.kernel.add_task(1);
    for (route, needed) in guarded() {
        let Some(needed) = needed else { continue };
        for scope in Scope::ALL {
            if scope == Scope::Call && matches!(route.access, Access::Own(_)) {
                continue;
            }
            let request = stage.with_token(scope, route.method, &path_of(route.path));
            let response = request.send().await.unwrap();
            if scope == needed || scope == Scope::Admin {
                assert!(![401, 403].contains(&response.status().as_u16()), "{scope:?} on {}", route.operation);
                continue;
            }
            assert_eq!(problem(response).await.code, Code::FORBIDDEN, "{scope:?} on {}", route.operation);
            let (actor, recorded, reason) = last_refusal(&stage);
            assert!(matches!(actor, Actor::Token { name, .. } if name == token_of(scope)));
            assert_eq!(recorded, route.operation);
            assert_eq!(reason, format!("scope {} is missing", needed.as_str()));
        }
    }
}

#[tokio::test]
async fn revocation_bites_at_the_next_request() {
    let stage = stage().await;
    let request = || stage.admin("GET", "/api/v1/agents");
    assert_eq!(request().send().await.unwrap().status(), 200);
    stage.kernel.with(|state| state.revoked.push(token_of(Scope::Admin)));
    expect_problem(request(), Code::UNAUTHENTICATED).await;
}

#[tokio::test]
async fn a_flood_of_refusals_cannot_fill_the_audit_log() {
    let stage = stage().await;
    for _ in 0..50 {
        expect_problem(stage.bare("GET", "/api/v1/agents"), Code::UNAUTHENTICATED).await;
    }
    assert_eq!(stage.kernel.with(|state| state.refusals.len()), 5);
    stage.until_metrics_contain("agentos_gateway_refusals_unrecorded_total 45").await;
    stage.clock.advance(Duration::from_secs(1));
    expect_problem(stage.bare("GET", "/api/v1/agents"), Code::UNAUTHENTICATED).await;
    assert_eq!(stage.kernel.with(|state| state.refusals.len()), 6);
}

#[tokio::test]
async fn head_and_options_pass_the_same_guard() {
    let stage = stage().await;
    assert_eq!(stage.bare("HEAD", "/api/v1/agents").send().await.unwrap().status(), 401);
    assert_eq!(stage.admin("HEAD", "/api/v1/agents").send().await.unwrap().status(), 200);
    expect_problem(stage.bare("OPTIONS", "/api/v1/agents"), Code::METHOD_NOT_ALLOWED).await;
    expect_problem(stage.bare("TRACE", "/live"), Code::METHOD_NOT_ALLOWED).await;
}

#[tokio::test]
async fn other_spellings_of_a_path_are_not_a_way_around_the_guard() {
    let stage = stage().await;
    for path in
        ["/api/v1/agents/", "//api/v1/agents", "/API/v1/agents", "/live/../api/v1/agents", "/live/%2e%2e/health"]
    {
        let status = stage.bare("GET", path).send().await.unwrap().status();
        assert!(status == 404 || status == 401, "{path} answered {status}");
    }
}
