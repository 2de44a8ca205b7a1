//! What goes well: bytes through, events as they come, other protocols unseen, failover unseen.

use agentos_kit::{Act, ModelServer};
use serde_json::{Value, json};

use super::scene::{Provider, Scene, is_nowhere, said};

#[tokio::test]
async fn a_call_passes_byte_for_byte_but_for_model_and_key_and_both_records_frame_it() {
    let server = ModelServer::start().await;
    let mut scene = Scene::open(&[Provider::openai("alpha", &server)], &[("fast", &["alpha/small"])]).await;
    // Odd spelling, unknown fields, a number that a double cannot hold.
    let body = "{ \"model\":\"fast\",\"messages\" : [{\"role\":\"user\",\"content\":\"caf\\u00e9 one\"}],\n \"seed\":12345678901234567890, \"x-own\":{\"b\":1.0,\"a\":[]},\"max_tokens\":20 }";
    let answer = scene.send("/v1/chat/completions", body).await;
    let headers = answer.headers().clone();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "You said: caf\u{e9} one");
    assert_eq!(answer["system_fingerprint"], "fp_test", "what nobody knows is passed on");
    assert_eq!(headers["x-agent-os-target"], "alpha/small");
    assert_eq!(headers["x-agent-os-cost-nano-usd"], (2 * 500 + 4 * 1_000).to_string().as_str());

    let asked = server.has_generations(1).await.remove(0);
    assert_eq!(String::from_utf8(asked.body.clone()).unwrap(), body.replace("\"fast\"", "\"small\""));
    assert_eq!(asked.key(), Provider::key("alpha"));
    assert!(!asked.headers.iter().any(|(_, value)| value.contains(&scene.token)), "{:?}", asked.headers);

    let records = scene.records().await;
    let phases: Vec<&str> = records.iter().map(|record| record["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["intent", "outcome"], "{records:#?}");
    assert_eq!(records[1]["facts"]["tokens_output"], 4);
    assert_eq!(scene.os.down().await, 0);
    is_nowhere(scene.os.home(), &Provider::key("alpha"));
    assert!(!scene.os.log().contains("caf"), "no prompt stands in the log");
}

#[tokio::test]
async fn events_of_a_stream_come_as_the_provider_sends_them() {
    let server = ModelServer::start().await;
    let scene = Scene::open(&[Provider::openai("alpha", &server)], &[("fast", &["alpha/small"])]).await;
    server.next(Act::Hold { after: 3 });
    let mut answer = scene.chat("fast", true).await;
    assert_eq!(answer.status(), 200);
    let mut text = String::new();
    while !text.contains("said:") {
        text.push_str(std::str::from_utf8(&answer.chunk().await.unwrap().expect("more")).unwrap());
    }
    assert!(!text.contains("three"), "the provider has not said it yet: {text}");
    server.release();
    while let Some(chunk) = answer.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(text.contains("three") && text.trim_end().ends_with("[DONE]"), "{text}");
    assert!(!text.contains("prompt_tokens"), "it was not asked for: {text}");
}

#[tokio::test]
async fn a_client_that_goes_away_is_gone_at_the_provider_at_once() {
    let server = ModelServer::start().await;
    let scene = Scene::open(&[Provider::openai("alpha", &server)], &[("fast", &["alpha/small"])]).await;
    server.next(Act::Hold { after: 2 });
    let mut answer = scene.chat("fast", true).await;
    assert!(answer.chunk().await.unwrap().is_some());
    drop(answer);
    server.is_abandoned(0).await;
    // Before the first byte too.
    server.next(Act::Hold { after: 0 });
    {
        let asking = scene.chat("fast", false);
        tokio::pin!(asking);
        tokio::select! {
            _ = &mut asking => panic!("it is held"),
            _ = server.has_generations(2) => {}
        }
    }
    server.is_abandoned(1).await;
    agentos_kit::eventually("the outcomes of both", || async {
        let outcomes = scene.records_of("outcome").await;
        if outcomes.len() == 2 { Ok(()) } else { Err(outcomes) }
    })
    .await;
}

#[tokio::test]
async fn failover_to_another_protocol_is_not_seen_by_the_client() {
    let (first, second) = (ModelServer::start().await, ModelServer::start().await);
    let providers = [Provider::openai("alpha", &first), Provider::anthropic("beta", &second)];
    let scene = Scene::open(&providers, &[("fast", &["alpha/small", "beta/large"])]).await;
    first.always(Act::status(500));
    let answer: Value = scene.chat("fast", false).await.json().await.unwrap();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["choices"][0]["message"]["content"], "You said: one two three");
    assert_eq!(answer["usage"]["completion_tokens"], 5);
    // An error inside of a stream before its first word is seen by nobody either.
    first.always(Act::ErrorInside200);
    let text = scene.chat("fast", true).await.text().await.unwrap();
    assert!(text.contains("chat.completion.chunk") && text.trim_end().ends_with("[DONE]"), "{text}");
    assert!(!text.contains("error") && !text.contains("message_start"), "{text}");
    assert!(first.generations().iter().all(|asked| asked.key() == Provider::key("alpha")));
    assert!(second.generations().iter().all(|asked| asked.key() == Provider::key("beta")));
    assert_eq!(second.generations()[0].json()["messages"][0]["role"], "user");
}

#[tokio::test]
async fn every_protocol_of_clients_reaches_every_protocol_of_providers() {
    let server = ModelServer::start().await;
    let providers =
        [Provider::openai("alpha", &server), Provider::anthropic("beta", &server), Provider::gemini("gamma", &server)];
    let scene = Scene::open(&providers, &[]).await;
    let turns = json!([{"role": "user", "content": "one two"}]);
    for model in ["alpha/small", "beta/small", "gamma/small"] {
        for stream in [false, true] {
            let chat = scene.ask("/v1/chat/completions", &said(model, stream)).await;
            assert!(chat.text().await.unwrap().contains("three"), "{model}");
            let body = json!({"model": model, "max_tokens": 30, "messages": turns, "stream": stream});
            let messages = scene.ask("/v1/messages", &body).await.text().await.unwrap();
            assert!(messages.contains("said") && messages.contains("end_turn"), "{model}: {messages}");
            let body = json!({"model": model, "input": "one two", "store": false, "stream": stream});
            let responses = scene.ask("/v1/responses", &body).await.text().await.unwrap();
            assert!(responses.contains("said") && responses.contains("completed"), "{model}: {responses}");
        }
    }
}
