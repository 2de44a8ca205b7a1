//! Each act of the provider of models, as a plain client sees it.

use agentos_kit::{Act, ModelServer};
use agentos_wire::{
    Protocol, Seen, Tap,
    sse::{Frame, Scanner},
};
use reqwest::{Client, Response};
use serde_json::{Value, json};

const SPEECHES: [(Protocol, &str, &str); 4] = [
    (Protocol::Chat, "/v1/chat/completions", "/v1/chat/completions"),
    (Protocol::Responses, "/v1/responses", "/v1/responses"),
    (Protocol::Messages, "/v1/messages", "/v1/messages"),
    (Protocol::Gemini, "/v1beta/models/small:generateContent", "/v1beta/models/small:streamGenerateContent?alt=sse"),
];

fn client() -> Client {
    // The first of this process wins, and all are the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new()
}

fn body(protocol: Protocol, stream: bool) -> Value {
    let turns = json!([{"role": "user", "content": "one two three"}]);
    match protocol {
        Protocol::Chat => {
            json!({"model": "small", "messages": turns, "stream": stream, "stream_options": {"include_usage": true}})
        }
        Protocol::Responses => json!({"model": "small", "input": turns, "stream": stream}),
        Protocol::Messages => json!({"model": "small", "max_tokens": 50, "messages": turns, "stream": stream}),
        Protocol::Gemini => json!({"contents": [{"role": "user", "parts": [{"text": "one two three"}]}]}),
    }
}

async fn ask(server: &ModelServer, protocol: Protocol, stream: bool) -> reqwest::Result<Response> {
    let (_, whole, streamed) = SPEECHES.into_iter().find(|(known, _, _)| *known == protocol).unwrap();
    let url = format!("{}{}", server.url(), if stream { streamed } else { whole });
    client().post(url).json(&body(protocol, stream)).send().await
}

/// What the tap of the product sees in what is left of a stream.
fn seen(protocol: Protocol, bytes: &[u8]) -> (Vec<Seen>, Tap) {
    let (mut scanner, mut tap, mut seen) = (Scanner::new(1 << 20), Tap::new(protocol), Vec::new());
    scanner.push(bytes);
    while let Some(frame) = scanner.next_frame().unwrap() {
        let _: &Frame = &frame;
        seen.push(tap.frame(&frame));
    }
    (seen, tap)
}

#[tokio::test]
async fn answers_and_streams_are_those_of_the_protocol() {
    let server = ModelServer::start().await;
    for (protocol, _, _) in SPEECHES {
        let whole = ask(&server, protocol, false).await.unwrap().bytes().await.unwrap();
        let mut tap = Tap::new(protocol);
        tap.whole(&whole);
        let usage = tap.usage().unwrap();
        assert_eq!((usage.input, usage.output), (3, 5), "{protocol}");
        let stream = ask(&server, protocol, true).await.unwrap().bytes().await.unwrap();
        let (seen, tap) = seen(protocol, &stream);
        assert!(seen.iter().filter(|seen| matches!(seen, Seen::Content)).count() >= 4, "{protocol}: {seen:?}");
        assert!(matches!(seen.last(), Some(Seen::Terminal)), "{protocol}: {seen:?}");
        assert_eq!(tap.usage().map(|usage| usage.output), Some(5), "{protocol}");
    }
}

#[tokio::test]
async fn streams_break_where_the_script_says() {
    let server = ModelServer::start().await;
    for (protocol, _, _) in SPEECHES {
        server.next(Act::Cut { after: 3 });
        let cut = ask(&server, protocol, true).await.unwrap().bytes().await;
        assert!(cut.is_err(), "{protocol}: {cut:?}");
        server.next(Act::End { after: 3 });
        let ended = ask(&server, protocol, true).await.unwrap().bytes().await.unwrap();
        assert!(!seen(protocol, &ended).0.iter().any(|seen| matches!(seen, Seen::Terminal)), "{protocol}");
        server.next(Act::Malformed { after: 3 });
        let malformed = ask(&server, protocol, true).await.unwrap().bytes().await.unwrap();
        assert!(matches!(seen(protocol, &malformed).0.last(), Some(Seen::Malformed)), "{protocol}");
        server.next(Act::ErrorEvent { after: 3 });
        let error = ask(&server, protocol, true).await.unwrap().bytes().await.unwrap();
        assert!(matches!(seen(protocol, &error).0.last(), Some(Seen::Error(_))), "{protocol}");
        server.next(Act::Trickle);
        let slow = ask(&server, protocol, true).await.unwrap().bytes().await.unwrap();
        assert!(matches!(seen(protocol, &slow).0.last(), Some(Seen::Terminal)), "{protocol}");
    }
}

#[tokio::test]
async fn whole_answers_break_where_the_script_says() {
    let server = ModelServer::start().await;
    for (protocol, _, _) in SPEECHES {
        server.next(Act::Cut { after: 0 });
        assert!(ask(&server, protocol, false).await.is_err());
        server.next(Act::Cut { after: 1 });
        assert!(ask(&server, protocol, false).await.unwrap().bytes().await.is_err());
        server.next(Act::Malformed { after: 1 });
        let malformed = ask(&server, protocol, false).await.unwrap();
        assert_eq!(malformed.status(), 200);
        assert!(serde_json::from_slice::<Value>(&malformed.bytes().await.unwrap()).is_err());
        server.next(Act::ErrorInside200);
        let error = ask(&server, protocol, false).await.unwrap();
        assert_eq!(error.status(), 200);
        assert!(error.json::<Value>().await.unwrap()["error"].is_object());
        server.next(Act::rate_limited(Some("3")));
        let limited = ask(&server, protocol, false).await.unwrap();
        assert_eq!((limited.status().as_u16(), &limited.headers()["retry-after"]), (429, &"3".parse().unwrap()));
        server.next(Act::Huge(1 << 20));
        assert!(ask(&server, protocol, false).await.unwrap().bytes().await.unwrap().len() > 1 << 20);
    }
}

#[tokio::test]
async fn what_is_held_goes_on_when_released_and_a_client_that_goes_away_is_noticed() {
    let server = ModelServer::start().await;
    server.next(Act::Hold { after: 0 });
    let asking = async { ask(&server, Protocol::Chat, false).await.unwrap().status() };
    let release = async {
        let asked = server.has_generations(1).await;
        assert_eq!(asked[0].pieces_sent, 0);
        server.release();
    };
    let (status, ()) = tokio::join!(asking, release);
    assert_eq!(status, 200);

    server.next(Act::Hold { after: 2 });
    let mut stream = ask(&server, Protocol::Messages, true).await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    server.has_sent(1, 3).await;
    drop(stream);
    assert!(!server.is_abandoned(1).await.is_finished);
    assert!(server.asked()[0].is_finished);
}

#[tokio::test]
async fn a_server_that_is_closed_refuses_and_comes_back_at_its_place() {
    let mut server = ModelServer::start().await;
    assert!(client().get(ModelServer::refused_url().await).send().await.unwrap_err().is_connect());
    let (url, address) = (server.url(), server.address().to_string());
    server.close().await;
    assert!(client().get(format!("{url}/v1/models")).send().await.unwrap_err().is_connect());
    let _back = ModelServer::start_at(&address).await;
    assert_eq!(client().get(format!("{url}/v1/models")).send().await.unwrap().status(), 200);
}
