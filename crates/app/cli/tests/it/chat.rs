//! `chat` against a scripted server.

use agentos_cli::Exit;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::world::World;

const HELLO: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}]}\n\n: heartbeat\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\\u001b[2J\"}}]}\n\n";

fn stream(rest: &str) -> Response {
    ([("content-type", "text/event-stream")], format!("{HELLO}{rest}")).into_response()
}

fn answer(line: &str, rest: &str) -> Response {
    match line {
        "GET /v1/models" => crate::world::json(json!({"data": [{"id": "fast"}, {"id": "openai/m"}]})),
        _ => stream(rest),
    }
}

#[tokio::test]
async fn a_question_is_answered_as_it_is_written_and_steers_no_terminal() {
    let world = World::with_server(|line| answer(line, "data: [DONE]\n\n")).await;
    let seen = world.run_with(&["chat", "--system", "Be brief.", "Hi there"], b"").await;
    assert_eq!((seen.exit, seen.out.as_str()), (Exit::Success, "Hello\u{fffd}[2J\n"), "{seen:?}");
    assert_eq!(
        world.asked()[1],
        r#"POST /v1/chat/completions {"messages":[{"content":"Be brief.","role":"system"},{"content":"Hi there","role":"user"}],"model":"fast","stream":true}"#
    );
    let piped = world.run_with(&["chat", "--model", "openai/m", "-o", "json"], b"Hi").await;
    assert!(piped.out.contains(r#""text": "Hello\u001b[2J""#) && piped.out.contains("openai/m"), "{piped:?}");
}

#[tokio::test]
async fn a_conversation_says_what_was_said_before() {
    let world = World::with_server(|line| answer(line, "data: [DONE]\n\n")).await;
    let seen = world.run_on(&["chat", "--model", "fast"], b"one\ntwo\n\nnever\n", true, &world.program).await;
    assert_eq!((seen.exit, seen.out.matches("Hello").count()), (Exit::Success, 2), "{seen:?}");
    let asked = world.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[1].contains("one") && asked[1].contains(r#""role":"assistant""#) && asked[1].contains("two"));
}

#[tokio::test]
async fn an_answer_that_broke_off_and_a_refusal_are_told() {
    for (rest, said) in [("", "broke off"), ("data: {\"error\":{\"message\":\"overloaded\"}}\n\n", "overloaded")] {
        let world = World::with_server(move |line| answer(line, rest)).await;
        let seen = world.run("chat --model fast Hi").await;
        assert_eq!(seen.exit, Exit::Refused, "{seen:?}");
        assert!(seen.out.starts_with("Hello") && seen.err.contains(said), "{seen:?}");
    }
    let world = World::with_server(|_| {
        let body = json!({"error": {"message": "no", "agent_os": {"code": "AOS-1702", "hint": "another token"}}});
        (axum::http::StatusCode::FORBIDDEN, axum::Json(body)).into_response()
    })
    .await;
    let seen = world.run("chat --model fast Hi").await;
    assert_eq!(seen.exit, Exit::NotPermitted, "{seen:?}");
    assert!(seen.err.contains("AOS-1702") && seen.err.contains("another token"), "{seen:?}");
    assert_eq!(world.run_with(&["chat", "--model", "fast"], b" \n").await.exit, Exit::Usage);
}
