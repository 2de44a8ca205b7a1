//! What happens before the first event is seen by nobody but the router.

use std::time::Duration;

use agentos_router::Kind;
use agentos_wire::Class;
use serde_json::json;

use super::{
    house::{House, answer, header, hello, parsed, streamed, target, whole},
    provider::{Piece, Play, Provider},
    streams::chunk,
};

fn error(code: &str) -> String {
    json!({"error": {"message": "no", "type": code, "code": code}}).to_string()
}

#[tokio::test]
async fn every_fault_before_the_first_event_fails_over_unseen() {
    let plays = [
        (Play::Whole(429, "retry-after: 3\r\n", error("rate_limit_exceeded")), Class::RateLimited),
        (Play::Whole(429, "", error("rate_limit_exceeded")), Class::RateLimited),
        (Play::Whole(429, "", error("insufficient_quota")), Class::QuotaExhausted),
        (Play::Whole(500, "", "oops".into()), Class::Server),
        (Play::Whole(503, "", error("overloaded")), Class::Overloaded),
        (Play::Whole(401, "", error("invalid_api_key")), Class::Auth),
        (Play::Whole(200, "", error("server_error")), Class::Server),
        (Play::Whole(200, "", "not json".into()), Class::Malformed),
        (Play::Hangup, Class::Connect),
        (Play::Raw("garbage\r\n\r\n".into()), Class::Connect),
        (Play::Silence, Class::Timeout),
        (
            Play::Raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{".into()),
            Class::Server,
        ),
    ];
    for (play, class) in plays {
        let shown = format!("{play:?}");
        let ill = Provider::start(vec![play]).await;
        let well = Provider::start(vec![Play::Whole(200, "", answer())]).await;
        let mut first = target(Kind::Openai, &ill);
        (first.waits.whole, first.waits.idle) = (Duration::from_millis(300), Duration::from_millis(300));
        let house = House::new(vec![first, target(Kind::OpenaiCompatible, &well)]).await;
        let reply = house.chat(hello(false)).await;
        assert_eq!(reply.status, 200, "{shown}");
        assert_eq!(header(&reply, "x-agent-os-attempts"), Some("2"));
        assert_eq!(header(&reply, "x-agent-os-target"), Some("openai-compatible/m1"));
        assert_eq!(whole(reply), answer(), "nothing of the first is in it: {shown}");
        let reports = house.reports.lock().unwrap().clone();
        let told = Class::ALL.into_iter().find(|class| class.as_str() == reports[0]).unwrap();
        let is_cut = matches!(class, Class::Connect | Class::Server);
        assert!(told == class || (is_cut && told.is_ill_health()), "{shown}: {told}");
        assert_eq!(house.ledger.reserved_in_all(), 0, "{shown}");
        assert_eq!(ill.got().len(), 1);
    }
}

#[tokio::test]
async fn a_stream_fails_over_up_to_its_first_event() {
    let plays = [
        Play::Events(vec![Piece::Cut]),
        Play::Events(Vec::new()),
        Play::Events(vec![Piece::Stall]),
        Play::Events(vec![Piece::Bytes(": hello\n\n".into()), Piece::Stall]),
        Play::Events(vec![Piece::Bytes("data: {\"error\":{\"message\":\"no\",\"code\":503}}\n\n".into())]),
        Play::Events(vec![Piece::Bytes("data: <html>\n\n".into())]),
        Play::Whole(500, "", error("server_error")),
        Play::Whole(200, "", error("server_error")),
    ];
    for play in plays {
        let shown = format!("{play:?}");
        let ill = Provider::start(vec![play]).await;
        let sent = [chunk("hi").as_str(), "data: [DONE]\n\n"].concat();
        let well = Provider::start(vec![Play::Events(vec![Piece::Bytes(sent)])]).await;
        let mut first = target(Kind::Openai, &ill);
        (first.waits.first_byte, first.waits.idle) = (Duration::from_millis(300), Duration::from_millis(300));
        let house = House::new(vec![first, target(Kind::OpenaiCompatible, &well)]).await;
        let reply = house.chat(hello(true)).await;
        assert_eq!(header(&reply, "x-agent-os-attempts"), Some("2"), "{shown}");
        let text = streamed(reply).await;
        assert!(text.starts_with(&chunk("hi")) && text.ends_with("data: [DONE]\n\n"), "{shown}: {text}");
        assert_eq!(house.ledger.reserved_in_all(), 0);
    }
}

#[tokio::test]
async fn a_refused_connection_costs_nothing_and_a_request_at_fault_is_told_in_the_providers_words() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let said = json!({"error": {"message": "unknown field", "type": "invalid_request_error", "param": "x",
        "code": null}})
    .to_string();
    let well = Provider::start(vec![Play::Whole(400, "", said.clone())]).await;
    let unused = Provider::start(Vec::new()).await;
    let mut first = target(Kind::Openai, &well);
    first.base_url = format!("http://{gone}/v1");
    let house = House::new(vec![first, target(Kind::Openai, &well), target(Kind::Openai, &unused)]).await;
    let reply = house.chat(hello(false)).await;
    assert_eq!((reply.status, header(&reply, "x-agent-os-attempts")), (400, Some("2")));
    assert_eq!(header(&reply, "x-agent-os-cost-nano-usd"), Some("0"));
    assert_eq!(whole(reply), said);
    assert_eq!(house.outcome().await["class"], "bad_request");
    assert!(unused.got().is_empty(), "a faulty request is faulty everywhere");
}

#[tokio::test]
async fn when_nobody_answers_the_client_is_told_in_its_protocol_and_when_to_come_back() {
    let provider = Provider::start(vec![Play::Whole(429, "retry-after: 7\r\n", error("rate_limit_exceeded"))]).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let reply = house.chat(hello(false)).await;
    assert_eq!((reply.status, header(&reply, "retry-after")), (429, Some("7")));
    let error = parsed(reply);
    assert_eq!(error["error"]["code"], "rate_limit_exceeded");
    assert_eq!(error["error"]["agent_os"]["code"], "AOS-2032");
    assert_eq!(error["error"]["agent_os"]["class"], "rate_limited");
    let outcome = house.outcome().await;
    assert_eq!((&outcome["end"], &outcome["code"]), (&json!("failed"), &json!("AOS-2032")));
}

#[tokio::test]
async fn what_no_target_has_a_place_for_is_refused_before_sending() {
    let provider = Provider::start(Vec::new()).await;
    let house = House::new(vec![target(Kind::Anthropic, &provider)]).await;
    let mut body = hello(false);
    body["logit_bias"] = json!({"1": 5});
    let reply = house.chat(body).await;
    assert_eq!((reply.status, header(&reply, "x-agent-os-cost-nano-usd")), (400, Some("0")));
    let error = parsed(reply);
    assert!(error["error"]["message"].as_str().unwrap().contains("logit_bias"), "{error}");
    assert!(provider.got().is_empty());
    assert_eq!(house.ledger.reserved_in_all(), 0);
}
