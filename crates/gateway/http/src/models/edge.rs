//! The operations of models at a listener inside of a sandbox, or on a connection that was caught on its way to a provider. Who
//! asks is known by where it arrives: whatever stands in the request as a key is a placeholder, and is not looked at.
//!
//! The limits are those of the gateway. Beside them each listener serves a fixed number of connections; more wait in the kernel,
//! so that a program that opens many holds up nobody but itself.

use std::{convert::Infallible, fmt, net::TcpListener as StdListener, sync::Arc, time::Duration};

use agentos_api::{
    Models,
    models::{ModelCaller, ModelOperation},
};
use agentos_base::{Ambient, Background, Room, trace::TraceContext};
use agentos_types::{Code, Fault, RequestId, Result, fault::OrFault};
use agentos_wire::Protocol;
use axum::{
    body::Body,
    http::{HeaderValue, Method, Request},
    response::Response,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{answer, request, told};
use crate::{
    connection::{HEAD_BYTES_MAX, HEADERS_MAX},
    extract::{self, Bounds, HeldBody},
    head,
    layers::errors,
    stall::StallGuard,
};

/// Of one sandbox. An agent with as many calls under way has other limits to think of.
const CONNECTIONS_MAX: usize = 64;
/// After an accept that failed: it fails when the process is out of descriptors, and then at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who asks at this moment: its task changes while the listener lives.
pub type Who = Arc<dyn Fn() -> ModelCaller + Send + Sync>;

#[derive(Clone)]
pub struct ModelEdge {
    pub models: Arc<dyn Models>,
    pub ambient: Ambient,
    pub background: Background,
    pub body_bytes_max: usize,
    /// For the bodies of all calls at once. The same at every edge.
    pub room: Room,
    /// As the gateway's.
    pub request_timeout: Duration,
}

impl fmt::Debug for ModelEdge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelEdge").finish_non_exhaustive()
    }
}

impl ModelEdge {
    /// Serves the listener until the token is cancelled, which ends its connections too.
    pub fn listen(&self, listener: StdListener, who: Who, until: CancellationToken) -> Result<()> {
        let failed = "the listener for models cannot be served";
        listener.set_nonblocking(true).or_fault(Code::INTERNAL, failed)?;
        let listener = TcpListener::from_std(listener).or_fault(Code::INTERNAL, failed)?;
        let edge = self.clone();
        self.background.spawn("models inside", async move {
            let shutdown = edge.background.shutdown();
            tokio::select! {
                () = until.cancelled() => {}
                () = shutdown.cancelled() => {}
                () = edge.accept(listener, who, &until) => {}
            }
        });
        Ok(())
    }

    async fn accept(&self, listener: TcpListener, who: Who, until: &CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(failure) => {
                    tracing::debug!(%failure, "a connection inside could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Every address inside leads here; this port means models at the loopback addresses alone.
            if !stream.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback()) {
                continue;
            }
            // A peer that is already gone shows up as an error in the first read.
            let _ = stream.set_nodelay(true);
            let (edge, who, until) = (self.clone(), who.clone(), until.clone());
            self.background.spawn("models inside connection", async move {
                edge.connection(stream, who, until).await;
                drop(place);
            });
        }
    }

    /// Serves one connection until it ends or the token is cancelled.
    pub async fn connection(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        who: Who,
        until: CancellationToken,
    ) {
        let shutdown = self.background.shutdown();
        let answer = |request: Request<Incoming>| self.clone().answer(request, who());
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.request_timeout)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(StallGuard::new(stream, self.request_timeout)), service_fn(answer));
        tokio::select! {
            () = until.cancelled() => {}
            () = shutdown.cancelled() => {}
            ended = serving => {
                if let Err(failure) = ended {
                    tracing::debug!(%failure, "a connection inside ended");
                }
            }
        }
    }

    async fn answer(self, request: Request<Incoming>, who: ModelCaller) -> std::result::Result<Response, Infallible> {
        let protocol = told::protocol_of(request.uri(), request.headers()).unwrap_or(Protocol::Chat);
        let id = self.ambient.request_id();
        let mut response = match self.served(request.map(Body::new), who, protocol, id.clone()).await {
            Ok(response) => response,
            Err(fault) => errors::document(&fault, Some(id.clone()), Some(protocol)),
        };
        if let Ok(value) = HeaderValue::from_str(id.as_str()) {
            response.headers_mut().insert("x-request-id", value);
        }
        Ok(response)
    }

    async fn served(
        &self,
        request: Request<Body>,
        who: ModelCaller,
        protocol: Protocol,
        id: RequestId,
    ) -> Result<Response> {
        let (parts, body) = request.into_parts();
        head::check(parts.version, &parts.headers)?;
        if parts.uri.path() == "/v1/models" {
            method(&parts.method, &Method::GET)?;
            return answer::response(answer::list(protocol, &self.models.list(&who).await?), None);
        }
        let operation = operation_of(parts.uri.path())?;
        method(&parts.method, &Method::POST)?;
        extract::require_json(&parts.headers)?;
        let bounds = Bounds { bytes_max: self.body_bytes_max, room: &self.room };
        let HeldBody { bytes, share } = extract::read_held(&parts.headers, body, bounds, self.request_timeout).await?;
        let given = parts.headers.get("traceparent").and_then(|value| TraceContext::parse(value.to_str().ok()?));
        let context = given.map_or_else(|| self.ambient.root(), |parent| parent.child(&self.ambient));
        let request = request::request(operation, &parts.headers, bytes, id, Some(context.to_string()))?;
        // They hold the connection's buffer, and a call waits long.
        drop(parts);
        let reply = self.models.call(who, request).await;
        // Of a stream only what is under way is left.
        drop(share);
        answer::response(reply, None)
    }
}

/// As the table of the gateway's routes has it.
fn operation_of(path: &str) -> Result<ModelOperation> {
    match path {
        "/v1/chat/completions" => Ok(ModelOperation::Chat),
        "/v1/responses" => Ok(ModelOperation::Responses),
        "/v1/embeddings" => Ok(ModelOperation::Embeddings),
        "/v1/messages" => Ok(ModelOperation::Messages),
        "/v1/messages/count_tokens" => Ok(ModelOperation::CountTokens),
        _ => Err(Fault::new(Code::ROUTE_NOT_FOUND, "no such route inside of a sandbox")
            .hint("models alone are served here: /v1/chat/completions, /v1/responses, /v1/embeddings, /v1/messages, /v1/models")),
    }
}

fn method(given: &Method, wanted: &Method) -> Result<()> {
    match given == wanted {
        true => Ok(()),
        false => Err(Fault::new(Code::METHOD_NOT_ALLOWED, "the path exists but not with this method")),
    }
}
