//! From a URL to a connected socket: resolve once, filter all answers, connect to a filtered address itself.

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

use crate::{CheckedUrl, HostPort, Resolve, filter, own_address::OwnAddresses};

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

pub(crate) struct Reach {
    pub(crate) resolver: Arc<dyn Resolve>,
    pub(crate) connector: Arc<dyn Connect>,
    pub(crate) exceptions: Vec<HostPort>,
    pub(crate) own_addresses: OwnAddresses,
}

impl Reach {
    /// Knows no time limit of its own but for addresses that others can stand in for: the caller's covers the whole.
    pub(crate) async fn connect(&self, url: &CheckedUrl) -> Result<TcpStream> {
        let target = url.host_port();
        let addresses = self.resolve(&target).await?;
        filter::check_all(&target, &addresses, &self.exceptions, |address| self.own_addresses.contains(address))?;
        self.connect_first(&target, &addresses).await
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

    async fn connect_first(&self, target: &HostPort, addresses: &[IpAddr]) -> Result<TcpStream> {
        let tried = addresses.len().min(ADDRESSES_TRIED_MAX);
        let mut failures = Vec::new();
        for (index, address) in addresses.iter().take(tried).enumerate() {
            let socket = SocketAddr::new(address.to_canonical(), target.port());
            let attempt = self.connector.connect(socket);
            let outcome = if index + 1 < tried { timeout(ATTEMPT, attempt).await } else { Ok(attempt.await) };
            match outcome {
                Ok(Ok(stream)) => {
                    // Small requests should not wait for acknowledgements; failing to set it only costs time.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(source)) => failures.push(format!("{socket}: {source}")),
                Err(_) => failures.push(format!("{socket}: no answer")),
            }
        }
        Err(Fault::new(Code::CONNECT_FAILED, format!("no connection to {target}")).detail(failures.join("; ")))
    }
}
