//! A provider that answers at once: one fixed reply, or 64 pieces of a stream, its usage and its end. It looks for two words
//! in the request and does nothing else, so that what is measured is what lies before it.

use std::{convert::Infallible, sync::LazyLock};

use anyhow::{Error, Result};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::CONTENT_TYPE,
};

use crate::Body;

const PIECES: usize = 64;

const WHOLE: &[u8] = br#"{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"The capital of France is Paris.","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":31,"completion_tokens":8,"total_tokens":39}}"#;
const MODELS: &[u8] =
    br#"{"object":"list","data":[{"id":"gpt-4o-mini","object":"model","created":1700000000,"owned_by":"bench"}]}"#;

/// The events of a stream, made once.
static EVENTS: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
    let event = |rest: &str| {
        let head =
            r#"{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini""#;
        Bytes::from(format!("data: {head},{rest}}}\n\n"))
    };
    let piece = |number: usize| {
        let (delta, finish) = match number {
            0 => (r#"{"role":"assistant","content":""}"#.to_owned(), "null"),
            last if last + 1 == PIECES => ("{}".to_owned(), r#""stop""#),
            _ => (format!(r#"{{"content":" word{number}"}}"#), "null"),
        };
        event(&format!(
            r#""choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}],"usage":null"#
        ))
    };
    let usage = event(r#""choices":[],"usage":{"prompt_tokens":31,"completion_tokens":62,"total_tokens":93}"#);
    (0..PIECES).map(piece).chain([usage, Bytes::from_static(b"data: [DONE]\n\n")]).collect()
});

pub async fn answer(request: Request<Incoming>) -> Result<Response<Body>> {
    if request.method() == Method::GET {
        return Ok(with("application/json", whole(MODELS)));
    }
    let body = request.into_body().collect().await?.to_bytes();
    if asks_to_stream(&body) {
        let events = EVENTS.iter().map(|event| Ok(Frame::data(event.clone())));
        return Ok(with("text/event-stream", StreamBody::new(stream::iter(events)).boxed_unsync()));
    }
    Ok(with("application/json", whole(WHOLE)))
}

fn asks_to_stream(body: &[u8]) -> bool {
    [&br#""stream":true"#[..], br#""stream": true"#].iter().any(|word| body.windows(word.len()).any(|at| at == *word))
}

fn whole(bytes: &'static [u8]) -> Body {
    Full::new(Bytes::from_static(bytes)).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn with(kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

/// What could not be forwarded is counted as an error by who asked.
pub fn failure(error: &Error) -> Response<Body> {
    let text = Full::new(Bytes::from(format!("{error:#}"))).map_err(|never: Infallible| match never {});
    let mut response = Response::new(text.boxed_unsync());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
