//! From a host and a port to a connected socket: resolve once, filter all answers, connect to a filtered address itself.
//! Requests of the dialer go this way, and the connections that the egress proxy makes for sandboxes.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use agentos_types::{Code, Fault, Result};
use async_trait::async_trait;
use tokio::{
    net::TcpStream,
    time::{Duration, timeout},
};

use crate::{HostPort, Resolve, SystemResolver, filter, own_address::OwnAddresses};

/// Addresses of one name that are tried. More of them are down together, and each costs time.
const ADDRESSES_TRIED_MAX: usize = 4;
/// Wait for one address while others are left: a quarter of the default time limit.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Opens a connection to exactly the address given. A seam for tests, which have no public addresses.
#[async_trait]
pub(crate) trait Connect: Send + Sync {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream>;
}

pub(crate) struct TcpConnect;

#[async_trait]
impl Connect for TcpConnect {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}

/// Makes connections, and nothing else: what is spoken over them is the caller's business, and so is the right to have them.
pub struct Reach {
    pub(crate) resolver: Arc<dyn Resolve>,
    pub(crate) connector: Arc<dyn Connect>,
    pub(crate) exceptions: Vec<HostPort>,
    pub(crate) own_addresses: OwnAddresses,
}

/// A connection, and the checked address that it goes to.
#[derive(Debug)]
pub struct Reached {
    pub stream: TcpStream,
    pub address: IpAddr,
}

/// Why there is no connection.
#[derive(Debug)]
pub struct Unreached {
    pub fault: Fault,
    /// The address that was refused, or the last one that did not answer. For records, not for who asked.
    pub address: Option<IpAddr>,
}

impl Default for Reach {
    fn default() -> Self {
        Self::new(Arc::new(SystemResolver::default()))
    }
}

impl Reach {
    /// With no exceptions but those that a single call brings.
    pub fn new(resolver: Arc<dyn Resolve>) -> Self {
        let connector = Arc::new(TcpConnect);
        Self { resolver, connector, exceptions: Vec::new(), own_addresses: OwnAddresses::probe() }
    }

    /// Knows no time limit of its own but for addresses that others can stand in for: the caller's covers the whole.
    pub async fn connect(&self, target: &HostPort) -> Result<Reached, Unreached> {
        self.connect_but(target, &self.exceptions).await
    }

    /// The same for a target that an operator has opened: its addresses may be private. Metadata services stay closed.
    pub async fn connect_opened(&self, target: &HostPort) -> Result<Reached, Unreached> {
        self.connect_but(target, std::slice::from_ref(target)).await
    }

    async fn connect_but(&self, target: &HostPort, exceptions: &[HostPort]) -> Result<Reached, Unreached> {
        let answers = self.resolve(target).await.map_err(|fault| Unreached { fault, address: None })?;
        // What is judged is what is dialed: an address of IPv4 in the clothes of IPv6 is one of IPv4.
        let addresses: Vec<IpAddr> = answers.into_iter().map(|address| address.to_canonical()).collect();
        filter::check_all(target, &addresses, exceptions, |address| self.own_addresses.contains(address))
            .map_err(|(fault, address)| Unreached { fault, address: Some(address) })?;
        self.connect_first(target, &addresses).await
    }

    async fn resolve(&self, target: &HostPort) -> Result<Vec<IpAddr>> {
        if let Some(address) = target.address() {
            return Ok(vec![address]);
        }
        let unresolved = || Fault::new(Code::NAME_UNRESOLVED, format!("{target} has no address"));
        let answers = self.resolver.resolve(target.name().unwrap_or_default(), target.port()).await;
        let answers = answers.map_err(|source| unresolved().detail(source))?;
        if answers.is_empty() { Err(unresolved()) } else { Ok(answers) }
    }

    async fn connect_first(&self, target: &HostPort, addresses: &[IpAddr]) -> Result<Reached, Unreached> {
        let tried = addresses.len().min(ADDRESSES_TRIED_MAX);
        let mut failures = Vec::new();
        let mut last = None;
        for (index, address) in addresses.iter().take(tried).enumerate() {
            let socket = SocketAddr::new(address.to_canonical(), target.port());
            let attempt = self.connector.connect(socket);
            let outcome = if index + 1 < tried { timeout(ATTEMPT, attempt).await } else { Ok(attempt.await) };
            last = Some(socket.ip());
            match outcome {
                Ok(Ok(stream)) => {
                    // Small requests should not wait for acknowledgements; failing to set it only costs time.
                    let _ = stream.set_nodelay(true);
                    return Ok(Reached { stream, address: socket.ip() });
                }
                Ok(Err(source)) => failures.push(format!("{socket}: {source}")),
                Err(_) => failures.push(format!("{socket}: no answer")),
            }
        }
        let fault = Fault::new(Code::CONNECT_FAILED, format!("no connection to {target}")).detail(failures.join("; "));
        Err(Unreached { fault, address: last })
    }
}
