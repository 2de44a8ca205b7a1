//! HTTP to providers: connections by the dialer's rules, kept alive and used again, a head within limits, and a body that is
//! read as fast as its reader takes it.

mod answer;
mod pool;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agentos_base::loops::heard;
use agentos_dialer::{CheckedUrl, HostPort, Reach, Tls};
use agentos_types::{Fault, Result};
use agentos_wire::Phase;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request,
    client::conn::http1,
    header::{HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{runtime::Handle, time::timeout};

pub(crate) use self::answer::{Answer, AnswerBody, EVENT_STREAM, Next, Stopped};
use self::pool::{Idle, Place, Pool, Sender};

/// Lines of an answer's head. Providers send some thirty.
const HEADERS_MAX: usize = 100;
/// Bytes of an answer's head, and of what is read at once of its body.
const BUFFER_BYTES_MAX: usize = 256 * 1024;

pub struct UpstreamOptions {
    pub reach: Reach,
    pub tls: Tls,
    /// `dialer.private_exceptions`: providers whose addresses may be private, such as a model server in the own network.
    pub private_exceptions: Vec<HostPort>,
}

/// Its connections end with it.
pub struct Upstream {
    reach: Reach,
    tls: Tls,
    private_exceptions: Vec<HostPort>,
    pool: Pool,
}

/// A request that is ready to be sent.
pub(crate) struct Outgoing {
    pub method: Method,
    pub url: CheckedUrl,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Connections are not shared between keys.
    pub key_group: String,
    pub idempotency_key: Option<String>,
    /// Told once anything of it may have left.
    pub sent: Arc<AtomicBool>,
}

impl Outgoing {
    /// Without a body, which comes next.
    pub fn new(method: Method, url: CheckedUrl, headers: HeaderMap, key_group: &str) -> Self {
        let key_group = key_group.to_owned();
        Self { method, url, headers, body: Bytes::new(), key_group, idempotency_key: None, sent: Arc::default() }
    }
}

/// There is no head of an answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub phase: Phase,
    /// For the log.
    pub detail: String,
}

impl Upstream {
    pub fn new(options: UpstreamOptions) -> Self {
        let UpstreamOptions { reach, tls, private_exceptions } = options;
        Self { reach, tls, private_exceptions, pool: Pool::default() }
    }

    /// Sends it once. A connection that died unused is replaced before anything of the request was on its way.
    pub(crate) async fn send(
        &self,
        outgoing: Outgoing,
        connect: Duration,
        head: Duration,
    ) -> Result<Answer, Unanswered> {
        let Outgoing { method, url, mut headers, body, key_group, idempotency_key, sent } = outgoing;
        let runtime = Handle::current().id();
        let place = Place { target: url.host_port(), is_tls: url.is_https(), key_group, runtime };
        if let Some(key) = idempotency_key.and_then(|key| HeaderValue::from_str(&key).ok()) {
            headers.insert("idempotency-key", key);
        }
        let mut request = request(method, &url, headers, body)
            .map_err(|fault| Unanswered { phase: Phase::Connect, detail: fault.detail.unwrap_or(fault.message) })?;
        loop {
            let (mut sender, is_reused) = match self.pool.take(&place).await {
                Some(sender) => (sender, true),
                // Boxed: few calls make one, and all would hold its room.
                None => (Box::pin(self.connect(&place, connect)).await?, false),
            };
            sent.store(true, Ordering::Relaxed);
            match timeout(head, sender.try_send_request(request)).await {
                Err(_) => return Err(Unanswered { phase: Phase::TimedOut, detail: format!("no answer in {head:?}") }),
                Ok(Ok(response)) => {
                    heard();
                    let (parts, incoming) = response.into_parts();
                    let idle = Idle { place, sender };
                    return Ok(Answer {
                        status: parts.status.as_u16(),
                        headers: parts.headers,
                        body: AnswerBody::new(incoming, self.pool.clone(), idle),
                    });
                }
                Ok(Err(mut unsent)) => match unsent.take_message() {
                    Some(back) if is_reused => {
                        sent.store(false, Ordering::Relaxed);
                        request = back;
                    }
                    _ => return Err(Unanswered { phase: Phase::Cut, detail: unsent.into_error().to_string() }),
                },
            }
        }
    }

    async fn connect(&self, place: &Place, limit: Duration) -> Result<Sender, Unanswered> {
        let failed = |detail: String| Unanswered { phase: Phase::Connect, detail };
        match timeout(limit, self.handshake(place)).await {
            Ok(connected) => connected.map_err(failed),
            Err(_) => Err(failed(format!("no connection in {limit:?}"))),
        }
    }

    async fn handshake(&self, place: &Place) -> Result<Sender, String> {
        let is_opened = self.private_exceptions.contains(&place.target);
        let reached = match is_opened {
            true => self.reach.connect_opened(&place.target).await,
            false => self.reach.connect(&place.target).await,
        };
        let stream = reached.map_err(|unreached| told(&unreached.fault))?.stream;
        if place.is_tls {
            let stream = self.tls.wrap(stream, &place.target).await.map_err(|fault| told(&fault))?;
            begin(TokioIo::new(stream)).await
        } else {
            begin(TokioIo::new(stream)).await
        }
    }
}

async fn begin<T>(io: T) -> Result<Sender, String>
where
    T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_headers(HEADERS_MAX).max_buf_size(BUFFER_BYTES_MAX);
    let (sender, connection) = builder.handshake(io).await.map_err(|error| error.to_string())?;
    // It ends with its sender or its peer; there are as many as the pool keeps and calls use.
    tokio::spawn(connection.map(|ended| {
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to a provider ended");
        }
    }));
    Ok(sender)
}

fn request(method: Method, url: &CheckedUrl, mut headers: HeaderMap, body: Bytes) -> Result<Request<Full<Bytes>>> {
    headers.insert(HOST, HeaderValue::from_str(url.authority()).map_err(Fault::internal)?);
    let path = url.target().to_owned();
    let mut request = Request::builder().method(method).uri(path).body(Full::new(body)).map_err(Fault::internal)?;
    *request.headers_mut() = headers;
    Ok(request)
}

fn told(fault: &Fault) -> String {
    match &fault.detail {
        Some(detail) => format!("{fault}: {detail}"),
        None => fault.to_string(),
    }
}
