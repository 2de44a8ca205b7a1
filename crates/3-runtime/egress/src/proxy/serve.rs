//! The program as a whole: reads what the server says until it says nothing any more.

use std::{
    collections::HashMap,
    fmt,
    net::{TcpListener as StdTcpListener, UdpSocket as StdUdpSocket},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
};

use agentos_base::Ambient;
use agentos_dialer::{Reach, Resolve, SystemResolver, Tls};
use agentos_protocol::{
    egress::{Attachment, EGRESS_VERSION, FromProxy, ToProxy},
    sandbox::Listener,
};
use agentos_types::{Code, Fault, Result, fault::OrFault};
use rustix::process::{Resource, getrlimit};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    accept,
    channel::{Channel, Packet},
    dns,
    guest::{Guest, Outside},
    line::{Line, deliver},
};

/// Sandboxes that together may fill the proxy.
const SHARES: usize = 8;
/// Connections of all sandboxes together; each has buffers of 16 to 130 KiB.
const CONNECTIONS_MAX: u64 = 4_096;
/// Descriptors that are no connections: listeners, lookups, the program's own.
const DESCRIPTORS_KEPT: u64 = 256;
/// A connection of a program, and the one that is made for it.
const DESCRIPTORS_EACH: u64 = 2;

/// What differs between the program and a test of it.
pub struct ProxyOptions {
    pub ambient: Ambient,
    pub resolver: Arc<dyn Resolve>,
    /// Certificate authorities beside those of the system.
    pub extra_roots: Vec<PathBuf>,
}

impl ProxyOptions {
    pub fn new(ambient: Ambient) -> Self {
        Self { ambient, resolver: Arc::new(SystemResolver::default()), extra_roots: Vec::new() }
    }
}

impl fmt::Debug for ProxyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyOptions").field("extra_roots", &self.extra_roots).finish_non_exhaustive()
    }
}

/// Serves until the server closes its end, which is the proper end, or cannot be understood, which is not.
pub async fn run(socket: OwnedFd, options: ProxyOptions) -> Result<()> {
    let channel = Channel::new(socket).or_fault(Code::INTERNAL, "the socket to the server is not usable")?;
    let tls = Tls::new(&options.extra_roots)?;
    // Later there may be no files to read. A machine without certificates still has tunnels, in which programs check.
    if let Err(fault) = tls.load().await {
        tracing::warn!(%fault, "no certificate authorities: TLS that ends here reaches nobody");
    }
    let (line, queue) = Line::new();
    let outside = Arc::new(Outside {
        line: Arc::clone(&line),
        reach: Reach::new(options.resolver),
        tls,
        connections: Arc::new(Semaphore::new(connections_max())),
        ambient: options.ambient,
    });
    line.post(FromProxy::Ready { version: EGRESS_VERSION });
    let all = CancellationToken::new();
    // Whatever ends this, the connections of all sandboxes end with it.
    let _end = all.clone().drop_guard();
    let mut server = Server { sandboxes: HashMap::new(), outside, all };
    tokio::select! {
        ended = server.listen(&channel) => ended,
        failed = deliver(&channel, queue) => match failed {
            // The other end is gone.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.or_fault(Code::INTERNAL, "the socket to the server failed"),
        },
    }
}

/// Most of one sandbox, whatever its manifest says: who opens many must not take the way out from all others.
pub(super) fn share_max() -> usize {
    (connections_max() / SHARES).max(1)
}

/// As many as there are descriptors for.
fn connections_max() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let possible = descriptors.saturating_sub(DESCRIPTORS_KEPT) / DESCRIPTORS_EACH;
    usize::try_from(possible.clamp(1, CONNECTIONS_MAX)).unwrap_or(1)
}

struct Server {
    sandboxes: HashMap<u64, Arc<Guest>>,
    outside: Arc<Outside>,
    all: CancellationToken,
}

impl Server {
    async fn listen(&mut self, channel: &Channel) -> Result<()> {
        loop {
            let packet = channel.receive().await.or_fault(Code::INTERNAL, "the socket to the server failed")?;
            let Some(Packet { bytes, descriptors }) = packet else { return Ok(()) };
            let message: ToProxy = serde_json::from_slice(&bytes)
                .or_fault(Code::PROTOCOL_ORDER, "the server sent what is no message of this version")?;
            match message {
                ToProxy::Attach(attachment) => self.attach(*attachment, descriptors),
                ToProxy::Detach { sandbox } => {
                    if let Some(guest) = self.sandboxes.remove(&sandbox) {
                        guest.ended.cancel();
                        self.tell(&guest);
                    }
                }
                ToProxy::Ping { n } => {
                    for guest in self.sandboxes.values() {
                        self.tell(guest);
                    }
                    self.outside.line.post(FromProxy::Pong { n });
                }
                ToProxy::Verdict { ask, verdict } => self.outside.line.answered(ask, verdict, descriptors),
            }
        }
    }

    fn tell(&self, guest: &Guest) {
        if let Some((bytes_out, bytes_in)) = guest.meter.news() {
            self.outside.line.post(FromProxy::Moved { sandbox: guest.id, bytes_out, bytes_in });
        }
    }

    /// One that cannot be served is left without listeners: all that its programs try is refused by the kernel.
    fn attach(&mut self, attachment: Attachment, descriptors: Vec<OwnedFd>) {
        let sandbox = attachment.sandbox;
        if let Err(fault) = self.try_attach(attachment, descriptors) {
            tracing::error!(sandbox, %fault, detail = fault.detail, "a sandbox is not served");
        }
    }

    fn try_attach(&mut self, attachment: Attachment, descriptors: Vec<OwnedFd>) -> Result<()> {
        let sandbox = attachment.sandbox;
        if attachment.listeners.len() != descriptors.len() || self.sandboxes.contains_key(&sandbox) {
            return Err(Fault::new(Code::PROTOCOL_ORDER, "listeners and descriptors differ, or the sandbox is known"));
        }
        let listeners = attachment.listeners.clone();
        let ended = self.all.child_token();
        let guest = Arc::new(Guest::new(attachment, ended)?);
        let mut serving = Vec::new();
        for (listener, descriptor) in listeners.into_iter().zip(descriptors) {
            serving.push(Serving::new(listener, descriptor)?);
        }
        for one in serving {
            one.spawn(&guest, &self.outside);
        }
        self.sandboxes.insert(sandbox, guest);
        Ok(())
    }
}

/// A listener that is ready to be served.
enum Serving {
    Stream(TcpListener, u16),
    Datagrams(StdUdpSocket),
}

impl Serving {
    fn new(listener: Listener, descriptor: OwnedFd) -> Result<Self> {
        let unusable = "a listener is not usable";
        match listener {
            Listener::Tcp(port) => {
                let socket = StdTcpListener::from(descriptor);
                socket.set_nonblocking(true).or_fault(Code::INTERNAL, unusable)?;
                Ok(Serving::Stream(TcpListener::from_std(socket).or_fault(Code::INTERNAL, unusable)?, port))
            }
            Listener::Udp(_) => Ok(Serving::Datagrams(StdUdpSocket::from(descriptor))),
        }
    }

    fn spawn(self, guest: &Arc<Guest>, outside: &Arc<Outside>) {
        let (guest, outside, ended) = (Arc::clone(guest), Arc::clone(outside), guest.ended.clone());
        tokio::spawn(async move {
            let sandbox = guest.id;
            tokio::select! {
                () = ended.cancelled() => {}
                () = async {
                    match self {
                        Serving::Stream(listener, port) => accept::serve(listener, port, guest, outside).await,
                        Serving::Datagrams(socket) => {
                            if let Err(error) = dns::serve_datagrams(socket, guest, outside).await {
                                tracing::error!(sandbox, %error, "names of a sandbox are not answered any more");
                            }
                        }
                    }
                } => {}
            }
        });
    }
}
