//! From a name to its addresses. The answers are filtered elsewhere; nothing here is trusted.

use std::{
    io,
    net::{IpAddr, ToSocketAddrs},
    sync::Arc,
};

use async_trait::async_trait;
use tokio::{sync::Semaphore, task};

/// Lookups at once. One holds a thread for as long as the system's resolver waits, also after its caller gave up, so
/// a stalled DNS server must not take the whole blocking pool (512 threads).
const LOOKUPS_MAX: usize = 32;

/// Turns a host name into addresses. Asked once per hop; the answer is dialed as it stands.
#[async_trait]
pub trait Resolve: Send + Sync {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<IpAddr>>;
}

/// The machine's own resolver (`getaddrinfo`: hosts file, then DNS).
#[derive(Debug)]
pub struct SystemResolver {
    lookups: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self { lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<IpAddr>> {
        let permit = Arc::clone(&self.lookups).acquire_owned().await.map_err(io::Error::other)?;
        let host = host.to_owned();
        let lookup = task::spawn_blocking(move || {
            // Held by the thread and not by the future: cancelling does not stop the lookup.
            let _permit = permit;
            (host.as_str(), port).to_socket_addrs().map(|found| found.map(|socket| socket.ip()).collect())
        });
        lookup.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_hosts_file_is_asked() {
        let found = SystemResolver::default().resolve("localhost", 80).await.unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
    }
}
