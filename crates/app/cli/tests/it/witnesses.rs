//! `witness` and `audit witness`: what is asked of the server, and what a person sees.

use agentos_cli::Exit;
use axum::{http::StatusCode, response::IntoResponse};
use serde_json::{Value, json};

use crate::world::{NOW_MS, World, json};

const NOTE: &str =
    "agent-os/node-1\n10\nAAAA\n\n\u{2014} agent-os/node-1 c2ln\n\u{2014} agent-os-witness/node-2 c2ln\n";

fn log(refused: bool) -> Value {
    let mut log = json!({"name": "first", "log": "node-1", "public_key": "agent-os/node-1+00+key", "added_by": "token:t",
        "added_at": NOW_MS * 1000, "size": 10, "seen_at": NOW_MS * 1000, "refusals": 0});
    if refused {
        log["refused_code"] = "AOS-1924".into();
        log["refused_at"] = (NOW_MS * 1000).into();
        log["refused_note"] = NOTE.into();
    }
    log
}

#[tokio::test]
async fn logs_of_other_nodes() {
    let world = World::with_server(|line| match line {
        "GET /api/v1/witness/logs" => json(json!({"items": [log(true)]})),
        "POST /api/v1/witness/logs" => json(log(false)),
        "GET /api/v1/witness/logs/first" => {
            let mut detail = log(true);
            detail["checkpoints"] = json!([{"log": "node-1", "size": 10, "seen_at": NOW_MS * 1000, "note": NOTE}]);
            json(detail)
        }
        "DELETE /api/v1/witness/logs/first" => StatusCode::NO_CONTENT.into_response(),
        other => unreachable!("{other}"),
    })
    .await;
    let listed = world.run("witness list").await;
    assert!(listed.out.contains("first") && listed.out.contains("refused AOS-1924"), "{}", listed.out);
    let key = world.path().join("other.vkey");
    std::fs::write(&key, "agent-os/node-1+00+key\n").unwrap();
    for given in ["agent-os/node-1+00+key".to_owned(), format!("@{}", key.display())] {
        let added = world.run(&format!("witness add first --public-key {given}")).await;
        assert_eq!(added.exit, Exit::Success, "{}", added.err);
        let body = r#"POST /api/v1/witness/logs {"name":"first","public_key":"agent-os/node-1+00+key"}"#;
        assert_eq!(world.asked().last().map(String::as_str), Some(body));
    }
    let shown = world.run("witness show first").await;
    assert!(shown.out.contains("refused checkpoint") && shown.out.contains("checkpoints:"), "{}", shown.out);
    assert_eq!(world.run("witness show first --notes").await.out, NOTE);
    assert_eq!(world.run("witness remove first").await.err, "forgot first\n");
    assert_eq!(world.run("witness add Not_A_Name --public-key k").await.exit, Exit::Usage);
}

#[tokio::test]
async fn where_the_own_checkpoints_go() {
    let world = World::with_server(|_| {
        json(json!({"items": [
            {"target": "file", "size": 12, "at": NOW_MS * 1000, "failures": 0, "failures_total": 0, "note": "n"},
            {"target": "webhook:h.example:443", "failures": 3, "failures_total": 9, "problem": "AOS-1603: no connection"},
            {"target": "node:b.example:18800", "size": 10, "at": NOW_MS * 1000, "failures": 1, "failures_total": 1,
             "refused": "AOS-1925", "note": NOTE},
        ]}))
    })
    .await;
    let status = world.run("audit witness status").await;
    for part in ["ok", "failing", "refuses AOS-1925", "AOS-1603"] {
        assert!(status.out.contains(part), "{} lacks {part}", status.out);
    }
    assert_eq!(world.run("audit witness export").await.out, NOTE, "only nodes cosign");
    let out = world.path().join("held.txt");
    let words = format!("audit witness export --out {}", out.display());
    assert_eq!(world.run(&words).await.exit, Exit::Success);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), NOTE);
    assert_eq!(world.run(&words).await.exit, Exit::Refused, "never overwritten");
    let alone = World::with_server(|_| json(json!({"items": []}))).await;
    assert!(alone.run("audit witness export").await.err.contains("AOS-1902"));
}

/// What only the running server knows takes the place of what the settings say.
#[tokio::test]
async fn doctor_asks_the_running_server_how_its_witnesses_are() {
    let check = json!({"name": "checkpoints reach witnesses", "outcome": "fail", "message": "file REFUSES this log"});
    let other = json!({"name": "not of this kind", "outcome": "fail", "message": "stays with the server"});
    let health = json!({"status": "degraded", "version": "0", "node": "n", "started_at": 0, "schema": 1,
        "agents": {"deployed": 0, "ready": 0, "unhealthy": 0}, "isolation": "strong", "checks": [check, other], "controls": []});
    let world = World::with_server(move |_| json(health.clone())).await;
    let seen = world.run("doctor").await;
    assert!(seen.out.contains("file REFUSES this log") && !seen.out.contains("not of this kind"), "{}", seen.out);
    assert_eq!(seen.exit, Exit::Refused);
}
