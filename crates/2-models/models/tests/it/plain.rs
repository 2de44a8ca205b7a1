//! Whole answers of a provider that speaks the client's protocol, and of one that does not.

use agentos_models::Operation;
use agentos_router::Kind;
use serde_json::{Value, json};

use super::{
    house::{House, answer, header, hello, parsed, target, whole},
    provider::{Play, Provider},
};

#[tokio::test]
async fn the_bytes_of_both_sides_go_through_and_the_call_is_framed_by_two_records() {
    let provider = Provider::start(vec![Play::Whole(200, "", answer())]).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let body = r#"{ "model":"fast", "temperature": 1.0, "messages":[{"role":"user","content":"é"}], "max_tokens": 50,"x_unknown":{"b":1,"a":2} }"#;
    let reply = house.ask(Operation::Chat, body).await;
    assert_eq!(reply.status, 200);
    assert_eq!(header(&reply, "x-agent-os-target"), Some("openai/m1"));
    assert_eq!(header(&reply, "x-agent-os-attempts"), Some("1"));
    assert_eq!(header(&reply, "x-agent-os-cost-nano-usd"), Some("110"), "7 × 10 + 2 × 20");
    assert_eq!(header(&reply, "x-agent-os-estimated"), Some("false"));
    assert!(header(&reply, "x-agent-os-request-id").unwrap().starts_with("req_"));
    assert_eq!(whole(reply), answer(), "byte for byte");
    let got = &provider.got()[0];
    assert_eq!(got.body, body.replace("\"fast\"", "\"real-m1\""), "only the model's name changed");
    assert!(got.head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", got.head);
    assert!(got.head.contains("authorization: Bearer the-value-of-provider-key\r\n"), "{}", got.head);
    let outcome = house.outcome().await;
    assert_eq!(outcome["end"], "done");
    assert_eq!(outcome["target"], "openai/m1");
    assert_eq!((&outcome["tokens_input"], &outcome["tokens_output"]), (&json!(7), &json!(2)));
    assert_eq!((&outcome["nano_usd"], &outcome["estimated"]), (&json!(110), &json!(false)));
    assert!(!json!(house.records()).to_string().contains("é"), "nothing of the prompt is in the log");
    assert_eq!(house.ledger.reserved_in_all(), 0);
}

#[tokio::test]
async fn connections_are_used_again() {
    let provider = Provider::always(Play::Whole(200, "", answer())).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    for _ in 0..5 {
        assert_eq!(house.chat(hello(false)).await.status, 200);
    }
    assert_eq!((provider.got().len(), provider.connections()), (5, 1));
}

#[tokio::test]
async fn a_provider_of_another_protocol_is_asked_and_understood_in_its_own() {
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "real-m1",
        "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 5, "output_tokens": 3}});
    let provider = Provider::start(vec![Play::Whole(200, "", answer.to_string())]).await;
    let house = House::new(vec![target(Kind::Anthropic, &provider)]).await;
    let reply = house.chat(hello(false)).await;
    assert_eq!(header(&reply, "x-agent-os-cost-nano-usd"), Some("110"), "5 × 10 + 3 × 20");
    let told = parsed(reply);
    assert_eq!(told["object"], "chat.completion");
    assert_eq!(told["choices"][0]["message"]["content"], "hi");
    assert_eq!(told["usage"]["prompt_tokens"], 5);
    let got = &provider.got()[0];
    assert!(got.head.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{}", got.head);
    assert!(got.head.contains("x-api-key: the-value-of-provider-key\r\n"), "{}", got.head);
    assert!(got.head.contains("anthropic-version: 2023-06-01\r\n"), "{}", got.head);
    let sent: Value = serde_json::from_str(&got.body).unwrap();
    assert_eq!((&sent["model"], &sent["max_tokens"]), (&json!("real-m1"), &json!(50)));
}

#[tokio::test]
async fn embeddings_and_counts_have_their_own_places() {
    let embedding = json!({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "model": "real-m1", "usage": {"prompt_tokens": 4, "total_tokens": 4}});
    let provider = Provider::start(vec![Play::Whole(200, "", embedding.to_string())]).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let reply = house.ask(Operation::Embeddings, r#"{"model":"fast","input":"hello"}"#).await;
    assert_eq!(header(&reply, "x-agent-os-cost-nano-usd"), Some("40"));
    assert_eq!(parsed(reply), embedding);
    assert!(provider.got()[0].head.starts_with("POST /v1/embeddings "));

    let provider = Provider::start(vec![Play::Whole(200, "", r#"{"input_tokens":12}"#.into())]).await;
    let house = House::new(vec![target(Kind::Anthropic, &provider)]).await;
    let body = r#"{"model":"fast","messages":[{"role":"user","content":"hello"}]}"#;
    let reply = house.ask(Operation::CountTokens, body).await;
    assert_eq!(header(&reply, "x-agent-os-cost-nano-usd"), Some("0"), "counting is free");
    assert_eq!(parsed(reply), json!({"input_tokens": 12}));
    assert!(provider.got()[0].head.starts_with("POST /v1/messages/count_tokens "));
}

#[tokio::test]
async fn a_log_that_takes_no_intent_lets_no_answer_out() {
    let provider = Provider::always(Play::Whole(200, "", answer())).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    house.record_by_commit();
    for phase in ["intent", "outcome"] {
        *house.log.refuses.lock().unwrap() = Some(phase);
        let reply = house.chat(hello(false)).await;
        assert_eq!(reply.status, 503, "{phase}");
        let error = parsed(reply);
        assert_eq!(error["error"]["agent_os"]["code"], "AOS-1405", "{error}");
    }
}

#[tokio::test]
async fn an_intent_is_in_the_log_while_the_provider_thinks() {
    let provider = Provider::always(Play::Silence).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let seen = async {
        while house.records().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        reply = house.chat(hello(false)) => panic!("a silent provider gave {reply:?}"),
        () = seen => {}
    }
    assert_eq!(house.records()[0].0, "intent");
}

#[tokio::test]
async fn a_provider_is_asked_when_the_intent_outlives_the_server() {
    let provider = Provider::start(vec![Play::Whole(200, "", answer()), Play::Silence]).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    assert_eq!(house.chat(hello(false)).await.status, 200);
    // The writer is at something else, so that nothing reaches the database.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let store = house.store.clone();
    let busy = tokio::spawn(async move {
        store
            .write(move |_| {
                let _ = held.recv();
                Ok(())
            })
            .await
    });
    let asked = async {
        while provider.got().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    let chat = house.chat(hello(false));
    tokio::pin!(chat);
    tokio::select! {
        reply = &mut chat => panic!("a silent provider gave {reply:?}"),
        () = asked => {}
    }
    let waiting = String::from_utf8_lossy(&house.waiting()).into_owned();
    // The first intent went into the log itself, and made this place known to it.
    assert_eq!(waiting.matches(r#""phase":"intent""#).count(), 1, "{waiting}");
    drop(release);
    busy.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_not_granted_reaches_no_provider() {
    let provider = Provider::start(Vec::new()).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let agentos_authority::Party::Program(mut program) = house.party.clone() else { panic!() };
    program.grants = std::sync::Arc::new(agentos_authority::GrantSet::compile(&[]).unwrap());
    let party = agentos_authority::Party::Program(program);
    let call = house.call(Operation::Chat, &hello(false).to_string());
    let fault = house.monitor.model(&party, None, call).await.unwrap_err();
    assert_eq!(fault.code, agentos_types::Code::NOT_GRANTED);
    house.store.settle().await;
    assert_eq!(house.records()[0].0, "fact");
    assert!(provider.got().is_empty());
}
