//! What is refused before there is a request: a head that is malformed, too large, or too slow.
//!
//! The protocol library answers such a head by itself with a bare status, or not at all. The guard holds that answer back
//! and gives the stream back when the library is done with it, so that the refusal leaves as a problem document with its
//! code like every other.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use agentos_api::{Problem, problem::PROBLEM_JSON};
use agentos_types::{Code, Fault, RequestId};
use axum::http::{HeaderMap, Version, header};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::oneshot,
    time::timeout,
};

/// What is still under way when a head is refused is read and dropped, within these bounds: closing before would reset
/// the connection and take the answer with it.
const DRAIN_BYTES_MAX: u64 = 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the exchange on a connection stands, as seen from both of its ends.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// A request is with the service or its answer on the way.
    is_answering: AtomicBool,
    /// Bytes came that belong to no request yet.
    has_begun: AtomicBool,
    /// Status of the library's own answer, which was held back.
    held_back: AtomicU16,
}

impl Exchange {
    pub fn begin_answer(&self) {
        self.has_begun.store(false, Ordering::Relaxed);
        self.is_answering.store(true, Ordering::Relaxed);
    }

    fn end_answer(&self) {
        self.has_begun.store(false, Ordering::Relaxed);
        self.is_answering.store(false, Ordering::Relaxed);
    }

    /// Why no request came of the bytes, if that is why the connection ended.
    pub fn refusal(&self, ended: &hyper::Result<()>, patience: Duration) -> Option<Fault> {
        match self.held_back.load(Ordering::Relaxed) {
            0 => {}
            414 | 431 => {
                let fault = Fault::new(Code::HEAD_TOO_LARGE, "the request line and headers are too many or too large");
                return Some(fault.hint("at most 64 headers and 16 KiB"));
            }
            _ => return Some(malformed("the head of the request is not HTTP/1.1")),
        }
        let failure = ended.as_ref().err()?;
        if self.is_answering.load(Ordering::Relaxed) || !self.has_begun.load(Ordering::Relaxed) {
            return None;
        }
        if failure.is_timeout() {
            let allowed_ms = patience.as_millis();
            return Some(Fault::new(
                Code::REQUEST_TIMEOUT,
                format!("the head was not complete within {allowed_ms} ms"),
            ));
        }
        failure.is_parse().then(|| malformed("this port speaks HTTP/1.1"))
    }
}

fn malformed(message: &str) -> Fault {
    Fault::new(Code::REQUEST_MALFORMED, message)
}

/// What the library lets pass and readers disagree about: which host is meant.
pub(crate) fn check(version: Version, headers: &HeaderMap) -> Result<(), Fault> {
    let hosts = headers.get_all(header::HOST).iter().count();
    if hosts == 1 || (hosts == 0 && version < Version::HTTP_11) {
        return Ok(());
    }
    Err(malformed("a request has one Host header"))
}

/// The answer's body, which tells when it is over.
pub(crate) struct Answered<B> {
    inner: B,
    exchange: Arc<Exchange>,
}

impl<B> Answered<B> {
    pub fn new(inner: B, exchange: Arc<Exchange>) -> Self {
        Self { inner, exchange }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answered<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for Answered<B> {
    fn drop(&mut self) {
        self.exchange.end_answer();
    }
}

/// A stream that holds the library's own refusals back, and gives itself back when it is dropped.
pub(crate) struct HeadGuard<T> {
    inner: Option<T>,
    exchange: Arc<Exchange>,
    back: Option<oneshot::Sender<T>>,
    /// What was handed over so far is written, so that the next bytes begin something.
    is_at_boundary: bool,
}

impl<T> HeadGuard<T> {
    pub fn new(inner: T, exchange: Arc<Exchange>) -> (Self, oneshot::Receiver<T>) {
        let (back, given_back) = oneshot::channel();
        (Self { inner: Some(inner), exchange, back: Some(back), is_at_boundary: true }, given_back)
    }

    fn is_held_back(&self) -> bool {
        self.exchange.held_back.load(Ordering::Relaxed) != 0
    }

    /// Whether the bytes are the library's own answer, which it makes when no request is being answered.
    fn hold_back(&self, bytes: &[u8]) -> bool {
        if !self.is_at_boundary || self.exchange.is_answering.load(Ordering::Relaxed) {
            return false;
        }
        let Some(status) = own_refusal(bytes) else { return false };
        self.exchange.held_back.store(status, Ordering::Relaxed);
        true
    }

    fn written(&mut self, outcome: io::Result<usize>, wanted: usize) -> Poll<io::Result<usize>> {
        if let Ok(count) = outcome {
            self.is_at_boundary = count == wanted;
        }
        Poll::Ready(outcome)
    }
}

/// Status of a bare 4xx without a body. Ours have one.
fn own_refusal(bytes: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(bytes).ok()?;
    let status = text.strip_prefix("HTTP/1.")?.get(2..5).filter(|status| status.starts_with('4'))?;
    (text.ends_with("\r\n\r\n") && text.contains("\r\ncontent-length: 0\r\n")).then(|| status.parse().ok()).flatten()
}

fn gone<R>() -> Poll<io::Result<R>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl<T: AsyncRead + Unpin> AsyncRead for HeadGuard<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(inner) = &mut self.inner else { return gone() };
        let before = buffer.filled().len();
        ready!(Pin::new(inner).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.exchange.has_begun.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for HeadGuard<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.hold_back(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let Some(inner) = &mut self.inner else { return gone() };
        let outcome = ready!(Pin::new(inner).poll_write(cx, bytes));
        self.written(outcome, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        if let Some(first) = slices.iter().find(|slice| !slice.is_empty())
            && first.len() == wanted
            && self.hold_back(first)
        {
            return Poll::Ready(Ok(wanted));
        }
        let Some(inner) = &mut self.inner else { return gone() };
        let outcome = ready!(Pin::new(inner).poll_write_vectored(cx, slices));
        self.written(outcome, wanted)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(inner) = &mut self.inner else { return gone() };
        Pin::new(inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_held_back() {
            return Poll::Ready(Ok(()));
        }
        let Some(inner) = &mut self.inner else { return gone() };
        Pin::new(inner).poll_shutdown(cx)
    }
}

impl<T> Drop for HeadGuard<T> {
    fn drop(&mut self) {
        if let (Some(inner), Some(back)) = (self.inner.take(), self.back.take()) {
            // Nobody waits for it after an upgrade or an orderly end.
            drop(back.send(inner));
        }
    }
}

/// Writes the refusal as the last answer of the connection.
pub(crate) async fn refuse(mut stream: impl AsyncRead + AsyncWrite + Unpin, fault: &Fault, request_id: RequestId) {
    let status = crate::layers::errors::status_of(fault.code);
    let body = serde_json::to_string(&Problem::new(fault, Some(request_id.clone()))).unwrap_or_default();
    let text = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {PROBLEM_JSON}\r\nx-request-id: {}\r\nx-content-type-options: nosniff\r\n\
         cache-control: no-store\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        request_id.as_str(),
        body.len(),
    );
    let writing = async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = (&mut stream).take(DRAIN_BYTES_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // The peer may be gone; nothing depends on what it has seen.
    let _ = timeout(DRAIN_TIMEOUT, writing).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_refusal_is_held_back() {
        let check = |text: &str, expected: Option<u16>| assert_eq!(own_refusal(text.as_bytes()), expected, "{text:?}");
        check("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: x\r\n\r\n", Some(400));
        check("HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n", Some(431));
        check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", None);
        check("HTTP/1.1 400 Bad Request\r\ncontent-length: 7\r\n\r\n{\"a\":1}", None);
        check("HTTP/1.1 400", None);
        check("", None);
    }

    #[tokio::test]
    async fn bytes_inside_an_answer_are_never_taken_for_a_refusal() {
        let bare: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        let (near, mut far) = tokio::io::duplex(256);
        let exchange = Arc::new(Exchange::default());
        let (mut guarded, given_back) = HeadGuard::new(near, Arc::clone(&exchange));
        exchange.begin_answer();
        guarded.write_all(bare).await.unwrap();
        let mut seen = vec![0; bare.len()];
        far.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen, bare);
        exchange.end_answer();
        guarded.write_all(bare).await.unwrap();
        assert!(guarded.is_held_back());
        drop((guarded, given_back));
        assert_eq!(far.read_to_end(&mut Vec::new()).await.unwrap_or(0), 0);
    }

    #[test]
    fn one_host_is_named() {
        let check = |version, hosts: &[&str], is_fine: bool| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            assert_eq!(super::check(version, &headers).is_ok(), is_fine, "{version:?} {hosts:?}");
        };
        check(Version::HTTP_11, &["a"], true);
        check(Version::HTTP_11, &[], false);
        check(Version::HTTP_11, &["a", "a"], false);
        check(Version::HTTP_10, &[], true);
        check(Version::HTTP_10, &["a", "b"], false);
    }
}
