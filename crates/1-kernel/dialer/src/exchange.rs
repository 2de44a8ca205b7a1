//! One HTTP/1.1 exchange over one connection, which is closed afterwards: what was checked for this request is never
//! reused for another, and no agent can find another's connection.

use std::{error::Error, io, pin::pin};

use agentos_types::{Code, Fault, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Response as HttpResponse, StatusCode,
    body::{Body, Incoming},
    client::conn::http1,
    header::{self, HeaderMap, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{CheckedUrl, HostPort, Method, request::Outgoing};

/// Status line and headers of an answer. Common servers and proxies stop at 8-32 KiB.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// hyper's own default, named here because the error message tells it.
const HEADERS_MAX: usize = 100;
const USER_AGENT: &str = concat!("agent-os/", env!("CARGO_PKG_VERSION"));

/// The final answer of a request.
#[derive(Clone, Debug)]
pub struct Response {
    /// Any status; only the caller knows which are errors.
    pub status: u16,
    /// After redirects.
    pub url: CheckedUrl,
    /// Lower-case names in the order of arrival; a repeated header stands repeated.
    pub headers: Vec<(String, String)>,
    /// As sent: `identity` is asked for, and a `content-encoding` that comes all the same is not undone.
    pub body: Vec<u8>,
}

/// What one hop ended in.
pub(crate) enum Answer {
    Final(Response),
    Redirect { status: u16, location: String },
}

/// What is spoken over: TCP, or TLS over it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) async fn exchange(stream: Box<dyn Stream>, outgoing: &Outgoing) -> Result<Answer> {
    let target = outgoing.url.host_port();
    let request = to_http(outgoing)?;
    let handshake = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = handshake.map_err(|source| transport_fault(&target, source))?;
    let mut work = pin!(async {
        let response = sender.send_request(request).await.map_err(|source| transport_fault(&target, source))?;
        receive(response, outgoing, &target).await
    });
    // The connection is driven here and not by a task of its own: giving up the request closes the socket at once.
    tokio::select! {
        answer = &mut work => answer,
        // It is over, perhaps with an error that `work` is about to see; what was received before is still there.
        _ = connection => work.await,
    }
}

fn to_http(outgoing: &Outgoing) -> Result<hyper::Request<Full<Bytes>>> {
    let mut request = hyper::Request::builder()
        .method(outgoing.method.to_http())
        .uri(outgoing.url.target())
        .body(Full::new(outgoing.body.clone()))
        .map_err(|source| Fault::new(Code::URL_INVALID, "the URL's path cannot be sent").detail(source))?;
    let host = HeaderValue::from_str(outgoing.url.authority())
        .map_err(|source| Fault::new(Code::URL_INVALID, "the URL's host cannot be sent").detail(source))?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, host);
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    // Sizes are limited in bytes that arrive; a compressed body would make them mean something else.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    // Without it some servers wait for a body or refuse the request (RFC 9110, section 8.6); hyper leaves a zero out.
    if matches!(outgoing.method, Method::Post | Method::Put | Method::Patch) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(outgoing.body.len()));
    }
    // A caller's header replaces a default once; repeated ones of the caller then stand side by side.
    for given in &outgoing.headers {
        headers.remove(&given.name);
    }
    for given in &outgoing.headers {
        headers.append(given.name.clone(), given.value.clone());
    }
    Ok(request)
}

async fn receive(response: HttpResponse<Incoming>, outgoing: &Outgoing, target: &HostPort) -> Result<Answer> {
    let (head, body) = response.into_parts();
    if head.status.is_informational() {
        return Err(malformed(target).detail(format!("final status {}", head.status)));
    }
    if let Some(location) = redirect_location(head.status, &head.headers)? {
        return Ok(Answer::Redirect { status: head.status.as_u16(), location });
    }
    let body = read_body(body, outgoing.max_bytes, target).await?;
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    Ok(Answer::Final(Response { status: head.status.as_u16(), url: outgoing.url.clone(), headers, body }))
}

/// Where the answer points, if it is a redirect that can be followed. Without a Location it is an ordinary answer.
fn redirect_location(status: StatusCode, headers: &HeaderMap) -> Result<Option<String>> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let mut locations = headers.get_all(header::LOCATION).iter();
    let Some(location) = locations.next() else {
        return Ok(None);
    };
    if locations.any(|other| other != location) {
        return Err(Fault::new(Code::REDIRECT_DENIED, "the redirect names several targets"));
    }
    match std::str::from_utf8(location.as_bytes()) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(Fault::new(Code::REDIRECT_DENIED, "the redirect's target is not text")),
    }
}

async fn read_body(mut body: Incoming, max_bytes: u64, target: &HostPort) -> Result<Vec<u8>> {
    // The announced length, where there is one: a body that cannot fit is refused before its first byte.
    if body.size_hint().lower() > max_bytes {
        return Err(too_large(target, max_bytes));
    }
    let mut received = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| transport_fault(target, source))?;
        // Trailers are of no use to a caller who cannot name them.
        let Ok(data) = frame.into_data() else { continue };
        if received.len() as u64 + data.len() as u64 > max_bytes {
            return Err(too_large(target, max_bytes));
        }
        received.extend_from_slice(&data);
    }
    Ok(received)
}

fn too_large(target: &HostPort, max_bytes: u64) -> Fault {
    Fault::new(Code::RESPONSE_TOO_LARGE, format!("the answer of {target} is larger than {max_bytes} bytes"))
        .hint("raise `max_bytes` of the call up to `dialer.response_bytes_max`")
}

fn malformed(target: &HostPort) -> Fault {
    Fault::new(Code::RESPONSE_MALFORMED, format!("the answer of {target} is not valid HTTP"))
}

/// Sorts hyper's errors by what the caller can do about them.
fn transport_fault(target: &HostPort, source: hyper::Error) -> Fault {
    if source.is_parse_too_large() {
        let message = format!(
            "the headers of {target}'s answer are more than {HEADERS_MAX}, or larger than {HEAD_BYTES_MAX} bytes"
        );
        return Fault::new(Code::RESPONSE_TOO_LARGE, message).hint("these limits are fixed").detail(source);
    }
    let inner = source.source().and_then(|inner| inner.downcast_ref::<io::Error>()).map(io::Error::kind);
    // A chunked body with wrong framing arrives as an I/O error of one of these kinds.
    let is_bad_framing = matches!(inner, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData));
    if source.is_parse() || is_bad_framing {
        return malformed(target).detail(source);
    }
    let message = format!("{target} ended the connection before its answer was complete");
    Fault::new(Code::CONNECTION_LOST, message).detail(source)
}
