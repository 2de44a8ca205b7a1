//! One connection from accept to close: TLS, then HTTP/1.1 with its limits, then an orderly end, or an end at once when
//! its place is needed for somebody else.

use std::{
    net::{IpAddr, TcpStream as StdTcpStream},
    sync::Arc,
    time::Duration,
};

use agentos_types::{Code, Fault};
use axum::{Router, body::Body, http::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    head::{self, Answered, Exchange, HeadGuard},
    layers::errors,
    models::told,
    shared::{Connection, Shared},
    stall::StallGuard,
};

/// Ours have below ten; proxies add some.
pub(crate) const HEADERS_MAX: usize = 64;
/// Request line and headers together. A request above it is answered 431 by hyper, before any of our layers.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;
const HANDSHAKE_TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// What all connections of one gateway share.
#[derive(Clone)]
pub(crate) struct Door {
    pub tls: Option<Arc<ServerConfig>>,
    pub router: Router,
    pub shared: Arc<Shared>,
    /// Fires when the drain after a shutdown takes too long.
    pub cut: CancellationToken,
}

/// What an accepted connection gets.
pub(crate) enum Admission {
    Served(Arc<Connection>),
    /// Above `connections_max`: one 503 and the end. The peer is only for the log.
    Refused(IpAddr),
}

/// On whatever runtime it is called: there the stream is watched.
pub(crate) async fn serve(stream: StdTcpStream, door: Door, admission: Admission) {
    let cut = door.cut.clone();
    let connection = match &admission {
        Admission::Served(connection) => Some(Arc::clone(connection)),
        Admission::Refused(_) => None,
    };
    let displaced = async move {
        match connection {
            Some(connection) => connection.slot.displaced().await,
            None => std::future::pending().await,
        }
    };
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(failure) => return tracing::warn!(%failure, "a connection cannot be served"),
    };
    tokio::select! {
        () = cut.cancelled() => {}
        () = displaced => {}
        () = handshake(stream, door, admission) => {}
    }
}

async fn handshake(stream: TcpStream, door: Door, admission: Admission) {
    // A peer that is already gone shows up as an error in the first read.
    let _ = stream.set_nodelay(true);
    let stream = StallGuard::new(stream, door.shared.request_timeout);
    match door.tls.clone() {
        None => http(stream, door, admission).await,
        // Boxed, and the stream within: a session of TLS is large, and a connection without one should not hold its room.
        Some(config) => Box::pin(tls(config, stream, door, admission)).await,
    }
}

async fn tls(config: Arc<ServerConfig>, stream: StallGuard<TcpStream>, door: Door, admission: Admission) {
    let accepting = TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(door.shared.request_timeout.min(HANDSHAKE_TIMEOUT_MAX), accepting).await {
        Ok(Ok(stream)) => http(Box::new(stream), door, admission).await,
        Ok(Err(failure)) => tracing::debug!(%failure, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake was too slow"),
    }
}

async fn http(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, door: Door, admission: Admission) {
    let is_served = matches!(admission, Admission::Served(_));
    let exchange = Arc::new(Exchange::default());
    let (stream, given_back) = HeadGuard::new(stream, Arc::clone(&exchange));
    let answer = |request: Request<Incoming>| answer(request, &door, &admission, &exchange);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also the longest idle time between two requests.
        .header_read_timeout(door.shared.request_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(is_served)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .with_upgrades();
    let mut connection = Box::pin(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = door.shared.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    drop(connection);
    if let Err(failure) = &ended {
        tracing::debug!(%failure, "connection ended");
    }
    if let Some(fault) = exchange.refusal(&ended, door.shared.request_timeout)
        && let Ok(stream) = given_back.await
    {
        door.shared.metrics.heads_refused.inc();
        head::refuse(stream, &fault, door.shared.ambient.request_id()).await;
    }
}

fn answer(
    mut request: Request<Incoming>,
    door: &Door,
    admission: &Admission,
    exchange: &Arc<Exchange>,
) -> impl Future<Output = Result<Response<Answered<Body>>, std::convert::Infallible>> + Send + use<> {
    exchange.begin_answer();
    let exchange = Arc::clone(exchange);
    let protocol = told::protocol_of(request.uri(), request.headers());
    let routed = match admission {
        Admission::Served(connection) => match head::check(request.version(), request.headers()) {
            Ok(()) => {
                request.extensions_mut().insert(Arc::clone(connection));
                Ok(door.router.clone().oneshot(request.map(Body::new)))
            }
            Err(fault) => {
                door.shared.metrics.heads_refused.inc();
                Err(errors::document(&fault, Some(door.shared.ambient.request_id()), protocol))
            }
        },
        Admission::Refused(peer) => {
            let full = Fault::new(Code::TOO_MANY_CONNECTIONS, "more connections than gateway.connections_max allows")
                .retry_after(Duration::from_secs(1))
                .detail(peer);
            Err(errors::document(&full, Some(door.shared.ambient.request_id()), protocol))
        }
    };
    async move {
        match routed {
            Ok(response) => response.await,
            Err(refusal) => Ok(refusal),
        }
        .map(|response| response.map(|body| Answered::new(body, exchange)))
    }
}
