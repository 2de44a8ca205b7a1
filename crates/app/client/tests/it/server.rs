//! A server on a free port that answers as a test tells it to, and keeps what it was asked.

use std::sync::{Arc, Mutex};

use agentos_client::Client;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, Method, Uri},
    response::Response,
};
use futures_util::StreamExt;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: String,
}

impl Asked {
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.uri)
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }
}

#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Asked>>>);

impl Log {
    pub fn all(&self) -> Vec<Asked> {
        self.0.lock().unwrap().clone()
    }
}

/// Serves until the test's runtime ends. `answer` gets the number of the request, from 0, and the request.
pub async fn serve(answer: impl Fn(usize, &Asked) -> Response + Send + Sync + 'static) -> (Client, Log) {
    let log = Log::default();
    let (answer, kept) = (Arc::new(answer), log.clone());
    let handler = move |request: Request| {
        let (answer, kept) = (answer.clone(), kept.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
            let asked = Asked { method: parts.method, uri: parts.uri, headers: parts.headers, body };
            let number = {
                let mut all = kept.0.lock().unwrap();
                all.push(asked.clone());
                all.len() - 1
            };
            answer(number, &asked)
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handler)).await });
    (Client::new(url, Some("tok-secret".into()), None).unwrap(), log)
}

pub fn answer(status: u16, content_type: &str, body: impl Into<Body>) -> Response {
    Response::builder().status(status).header("content-type", content_type).body(body.into()).unwrap()
}

pub fn json(body: &serde_json::Value) -> Response {
    answer(200, "application/json", body.to_string())
}

/// A body in chunks. It pauses before each, so that the server sends what it has before the next one, or an error, comes.
pub fn chunks(chunks: Vec<std::io::Result<String>>) -> Body {
    Body::from_stream(futures_util::stream::iter(chunks).then(|chunk| async {
        tokio::task::yield_now().await;
        chunk
    }))
}
