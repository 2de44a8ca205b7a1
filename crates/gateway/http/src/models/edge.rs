//! The operations of models at a listener inside of a sandbox, or on a connection that was caught on its way to a provider. Who
//! asks is known by where it arrives: whatever stands in the request as a key is a placeholder, and is not looked at.
//!
//! The limits are those of the gateway. Beside them each listener serves a fixed number of connections; more wait in the kernel,
//! so that a program that opens many holds up nobody but itself.

use std::{
    convert::Infallible, fmt, net::TcpListener as StdListener, os::unix::net::UnixStream as StdUnixStream, sync::Arc,
    time::Duration,
};

use agentos_api::{
    Models,
    models::{ModelCaller, ModelOperation},
};
use agentos_base::{Ambient, Background, Loops, Room, trace::TraceContext};
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
    net::{TcpListener, TcpStream, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    answer,
    door::{CapturedHost, Door, EdgeCounts},
    request,
};
use crate::{
    connection::{HEAD_BYTES_MAX, HEADERS_MAX},
    extract::{self, Bounds, HeldBody},
    head,
    layers::errors,
    stall::StallGuard,
};

/// Of one sandbox, at each of its doors. An agent with as many calls under way has other limits to think of.
const CONNECTIONS_MAX: usize = 64;
/// Caught connections of one sandbox, those that wait for a place included: the proxy has its own bound, and this one holds
/// whatever becomes of the proxy.
const CAPTURES_MAX: usize = 256;
/// After an accept that failed: it fails when the process is out of descriptors, and then at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who asks at this moment: its task changes while the listener lives.
pub type Who = Arc<dyn Fn() -> ModelCaller + Send + Sync>;

#[derive(Clone)]
pub struct ModelEdge {
    pub models: Arc<dyn Models>,
    pub ambient: Ambient,
    pub background: Background,
    /// Where connections are served.
    pub loops: Loops,
    pub body_bytes_max: usize,
    /// For the bodies of all calls at once. The same at every edge.
    pub room: Room,
    /// As the gateway's.
    pub request_timeout: Duration,
    /// Of all sandboxes together.
    pub counts: Arc<EdgeCounts>,
}

/// The connections of one sandbox that were caught on their way to providers.
#[derive(Clone, Debug)]
pub struct Captures {
    edge: ModelEdge,
    visitor: Visitor,
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

/// Whose programs come, and for how long.
#[derive(Clone)]
struct Visitor {
    who: Who,
    until: CancellationToken,
}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visitor").finish_non_exhaustive()
    }
}

impl Captures {
    /// Serves one connection to a provider's host in the background. It ends as those of a listener do.
    pub fn serve(&self, stream: StdUnixStream, host: CapturedHost) -> Result<()> {
        let turn = Arc::clone(&self.turns).try_acquire_owned().map_err(|_| {
            let text = format!("this sandbox has {CAPTURES_MAX} connections to models, open or waiting");
            Fault::new(Code::TOO_MANY_CONNECTIONS, text).hint("use connections again, or ask for less at once")
        })?;
        let failed = "a connection to models cannot be served";
        stream.set_nonblocking(true).or_fault(Code::INTERNAL, failed)?;
        let (this, door) = (self.clone(), Door::Captured(Arc::new(host)));
        let seat = self.edge.loops.seat();
        let handle = seat.handle().clone();
        let served = async move {
            let _seat = seat;
            // Watched by the loop that serves it.
            let stream = match UnixStream::from_std(stream) {
                Ok(stream) => stream,
                Err(failure) => return tracing::warn!(%failure, "a connection to models cannot be served"),
            };
            let place = timeout(this.edge.request_timeout, Arc::clone(&this.places).acquire_owned()).await;
            if let Ok(Ok(place)) = place {
                this.edge.connection(stream, door, this.visitor).await;
                drop(place);
            }
            drop(turn);
        };
        self.edge.background.spawn_on("models captured", served, &handle);
        Ok(())
    }
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
            let visitor = Visitor { who, until: until.clone() };
            tokio::select! {
                () = until.cancelled() => {}
                () = shutdown.cancelled() => {}
                () = edge.accept(listener, visitor) => {}
            }
        });
        Ok(())
    }

    /// The other door of the same programs.
    pub fn captures(&self, who: Who, until: CancellationToken) -> Captures {
        Captures {
            edge: self.clone(),
            visitor: Visitor { who, until },
            turns: Arc::new(Semaphore::new(CAPTURES_MAX)),
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        }
    }

    async fn accept(&self, listener: TcpListener, visitor: Visitor) {
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
            let Ok(stream) = stream.into_std() else { continue };
            let (edge, visitor, seat) = (self.clone(), visitor.clone(), self.loops.seat());
            let handle = seat.handle().clone();
            let served = async move {
                if let Ok(stream) = TcpStream::from_std(stream) {
                    edge.connection(stream, Door::Loopback, visitor).await;
                }
                drop((place, seat));
            };
            self.background.spawn_on("models inside connection", served, &handle);
        }
    }

    /// Serves one connection until it ends or the token is cancelled.
    async fn connection(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        door: Door,
        Visitor { who, until }: Visitor,
    ) {
        let _counted = self.counts.connection(&door);
        let shutdown = self.background.shutdown();
        let answer = |request: Request<Incoming>| self.clone().answer(request, door.clone(), who());
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

    async fn answer(
        self,
        request: Request<Incoming>,
        door: Door,
        who: ModelCaller,
    ) -> std::result::Result<Response, Infallible> {
        self.counts.request(&door);
        let protocol = door.protocol(request.uri(), request.headers());
        let id = self.ambient.request_id();
        let target = door.target(request.uri());
        let answered = match routed(&request, &door) {
            Ok(route) => self.served(request.map(Body::new), route, who, (protocol, id.clone())).await,
            Err(fault) => {
                // What a caught connection asks for in vain is recorded, whatever it was.
                if let Some(target) = target {
                    self.models.refused(&who, &target, fault.code).await;
                }
                Err(fault)
            }
        };
        let mut response = answered.unwrap_or_else(|fault| errors::document(&fault, Some(id.clone()), Some(protocol)));
        if let Ok(value) = HeaderValue::from_str(id.as_str()) {
            response.headers_mut().insert("x-request-id", value);
        }
        Ok(response)
    }

    async fn served(
        &self,
        request: Request<Body>,
        route: Route,
        who: ModelCaller,
        (protocol, id): (Protocol, RequestId),
    ) -> Result<Response> {
        let (parts, body) = request.into_parts();
        let operation = match route {
            Route::List => {
                return answer::response(answer::list(protocol, &self.models.list(&who).await?), None);
            }
            Route::Call(operation) => operation,
        };
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

fn routed<B>(request: &Request<B>, door: &Door) -> Result<Route> {
    head::check(request.version(), request.headers())?;
    let path = door.path(request.uri(), request.headers())?;
    Route::of(&path, request.method())
}

/// As the table of the gateway's routes has it.
#[derive(Clone, Copy, Debug)]
enum Route {
    List,
    Call(ModelOperation),
}

impl Route {
    fn of(path: &str, given: &Method) -> Result<Self> {
        let route = Self::at(path).ok_or_else(|| {
            Fault::new(Code::ROUTE_NOT_FOUND, "no such route inside of a sandbox")
                .hint("models alone are served here: /v1/chat/completions, /v1/responses, /v1/embeddings, /v1/messages, /v1/models")
        })?;
        let wanted = match route {
            Route::List => Method::GET,
            Route::Call(_) => Method::POST,
        };
        match *given == wanted {
            true => Ok(route),
            false => Err(Fault::new(Code::METHOD_NOT_ALLOWED, "the path exists but not with this method")),
        }
    }

    fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/models" => Route::List,
            "/v1/chat/completions" => Route::Call(ModelOperation::Chat),
            "/v1/responses" => Route::Call(ModelOperation::Responses),
            "/v1/embeddings" => Route::Call(ModelOperation::Embeddings),
            "/v1/messages" => Route::Call(ModelOperation::Messages),
            "/v1/messages/count_tokens" => Route::Call(ModelOperation::CountTokens),
            _ => return None,
        })
    }
}

/// Whether something is served at this path.
pub(crate) fn is_operation(path: &str) -> bool {
    Route::at(path).is_some()
}
