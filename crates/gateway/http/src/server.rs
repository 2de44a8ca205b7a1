//! The listener: accepts connections within the limit and, when asked to stop, lets the open ones finish.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, TcpStream as StdTcpStream},
    sync::Arc,
    time::Duration,
};

use agentos_api::{Kernel, Models};
use agentos_base::{Ambient, Background, Loops, Room};
use agentos_types::{Code, Fault, Result, fault::OrFault};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    connection::{self, Admission, Door},
    routes,
    shared::{Connection, Shared},
    slots::{Limits, Slots, Taken},
};

/// Connections that the system may hold before we accept them.
const BACKLOG: u32 = 1_024;
/// Refusals answered at the same time; beyond it connections above the limit are dropped without an answer.
const REFUSALS_MAX: usize = 64;
/// Open requests get this long to finish after a shutdown was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept. It fails when the process is out of file descriptors, and then at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub struct GatewayOptions {
    /// Without it the gateway speaks plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    pub body_bytes_max: usize,
    /// The same for calls of models, whose bodies hold pictures.
    pub model_body_bytes_max: usize,
    /// For the bodies of all calls of models at once. The same at every edge.
    pub model_room: Room,
    pub connections_max: usize,
    /// Connections of one address on which no valid token was presented.
    pub strangers_per_address_max: usize,
    /// Requests and WebSocket messages of one token, or of one address without a token.
    pub requests_per_second: u64,
    /// Wrong tokens of one address in a minute before it is locked out.
    pub auth_failures_max: u64,
    /// Time for a client to send its headers, then its body, and to go on reading an answer.
    pub request_timeout: Duration,
    pub version: &'static str,
    /// Where connections are served.
    pub loops: Loops,
}

impl fmt::Debug for GatewayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GatewayOptions(tls: {})", self.tls.is_some())
    }
}

/// What the gateway asks.
#[derive(Clone)]
pub struct Ports {
    pub kernel: Arc<dyn Kernel>,
    /// Without them the routes of models answer that there are none.
    pub models: Option<Arc<dyn Models>>,
}

/// The address, taken before there is anything behind it: who connects waits in the system's queue until the gateway serves.
#[derive(Debug)]
pub struct TakenAddress {
    listener: TcpListener,
    address: SocketAddr,
}

impl TakenAddress {
    /// Must be called inside a tokio runtime.
    pub fn take(wanted: SocketAddr) -> Result<Self> {
        let listener = listen(wanted).map_err(|source| match source.kind() {
            std::io::ErrorKind::AddrInUse => {
                Fault::new(Code::ADDRESS_IN_USE, format!("{wanted} is in use by another program"))
                    .hint("choose another port with `agent-os up --port N`")
            }
            _ => Fault::new(Code::CONFIG_INVALID_VALUE, format!("cannot listen on {wanted}: {source}")),
        })?;
        let address = listener.local_addr().or_fault(Code::INTERNAL, "the listener has no address")?;
        Ok(Self { listener, address })
    }
}

/// A bound gateway that does not serve yet.
pub struct Gateway {
    taken: TakenAddress,
    slots: Arc<Slots>,
    refusals: Arc<Semaphore>,
    door: Door,
    background: Background,
    loops: Loops,
    open: TaskTracker,
}

impl Gateway {
    /// Binds the address to the kernel.
    pub fn new(
        taken: TakenAddress,
        options: GatewayOptions,
        ports: Ports,
        ambient: Ambient,
        background: Background,
    ) -> Self {
        let shared = Arc::new(Shared::new(ports, ambient, background.clone(), &options));
        let router = routes::router(&shared);
        Self {
            taken,
            slots: Slots::new(Limits {
                all: options.connections_max,
                strangers_per_address: options.strangers_per_address_max,
            }),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
            door: Door { tls: options.tls, router, shared, cut: CancellationToken::new() },
            background,
            loops: options.loops,
            open: TaskTracker::new(),
        }
    }

    /// The address in use, with the real port where port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.taken.address
    }

    /// Serves until the background's shutdown fires, then stops accepting, lets open requests finish, and cuts what is
    /// still open after five seconds.
    pub async fn serve(self) {
        let shutdown = self.door.shared.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.taken.listener.accept() => match accepted {
                    // What waits for its bytes is told to the loop that serves it, and no longer here.
                    Ok((stream, peer)) => match stream.into_std() {
                        Ok(stream) => self.admit(stream, peer.ip()),
                        Err(failure) => tracing::warn!(%failure, "a connection could not be handed over"),
                    },
                    Err(failure) => {
                        tracing::warn!(%failure, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
        drop(self.taken);
        self.open.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, self.open.wait()).await.is_err() {
            tracing::warn!(connections = self.open.len(), "cutting connections that did not finish in time");
            self.door.cut.cancel();
        }
    }

    fn admit(&self, stream: StdTcpStream, peer: IpAddr) {
        let metrics = &self.door.shared.metrics;
        if let Some(Taken { slot, has_displaced }) = self.slots.take(peer.into()) {
            metrics.connections.inc();
            if has_displaced {
                metrics.connections_displaced.inc();
            }
            let (seat, tracked) = (self.loops.seat(), self.open.token());
            let handle = seat.handle().clone();
            let connection = Connection { peer, metrics: Arc::clone(metrics), slot, _seat: seat, _tracked: tracked };
            let admission = Admission::Served(Arc::new(connection));
            let served = connection::serve(stream, self.door.clone(), admission);
            self.background.spawn_on("gateway connection", served, &handle);
            return;
        }
        metrics.connections_refused.inc();
        if let Ok(refusal) = Arc::clone(&self.refusals).try_acquire_owned() {
            let door = self.door.clone();
            self.background.spawn("gateway refusal", async move {
                connection::serve(stream, door, Admission::Refused(peer)).await;
                drop(refusal);
            });
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
