//! A way to the database that a test can spoil: it cuts, refuses, delays, narrows, falls silent in one direction or both,
//! and ends a connection at an exact place. One thread, bound to loopback.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{oneshot, watch},
    time::sleep,
};

/// Bytes that are passed on at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

/// What happens to the connections; everything passes by default.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// New connections are reset at once.
    pub refuse: bool,
    /// Bytes of these ways wait until the rule is gone. New connections are accepted and hear nothing.
    pub silent_to_server: bool,
    pub silent_to_client: bool,
    /// Each chunk comes this much later.
    pub delay: Duration,
    pub bytes_per_second: Option<u64>,
    /// The connection that carries these bytes is cut there, once.
    pub cut_at: Option<CutAt>,
    /// Connections of an older age are cut.
    age: u64,
}

/// The exact place of a cut.
#[derive(Clone, Debug)]
pub struct CutAt {
    pub way: Way,
    /// Looked for in each chunk; empty means the next chunk, whatever it holds.
    pub bytes: &'static [u8],
    /// Whether the chunk still arrives: none of it, its first half, or all.
    pub arrives: Arrives,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrives {
    Nothing,
    Half,
    All,
}

/// Ends with the value.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    rules: Arc<watch::Sender<Rules>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Between a free port of loopback and `target_port` there.
    pub fn to(target_port: u16) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let rules = Arc::new(watch::Sender::new(Rules::default()));
        let (stop, stopped) = oneshot::channel();
        let shared = rules.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, target_port, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { port, rules, stop: Some(stop), thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same URL through the proxy, in the clear, so that it can see what passes.
    pub fn through(&self, url: &str) -> String {
        let (head, rest) = url.rsplit_once(':').unwrap();
        let (_, database) = rest.split_once('/').unwrap();
        format!("{head}:{}/{database}?sslmode=disable", self.port)
    }

    /// From now on, for the connections that stand too.
    pub fn set(&self, change: impl FnOnce(&mut Rules)) {
        self.rules.send_modify(change);
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.set(|rules| *rules = Rules { age: rules.age, ..Rules::default() });
    }

    /// Ends every connection that stands, in the middle of whatever it does.
    pub fn cut(&self) {
        self.set(|rules| rules.age += 1);
    }

    /// Whether the cut at a place has happened.
    pub fn has_cut(&self) -> bool {
        self.rules.borrow().cut_at.is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: std::net::TcpListener, target_port: u16, rules: Arc<watch::Sender<Rules>>) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((client, _)) = listener.accept().await {
        // A reset instead of a goodbye: what was under way is lost, as it is with a machine that is gone.
        let _ = set_socket_linger(&client, Some(Duration::ZERO));
        if rules.borrow().refuse {
            continue;
        }
        let rules = rules.clone();
        tokio::spawn(async move {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, target_port));
            let Ok(server) = TcpStream::connect(address).await else { return };
            let _ = set_socket_linger(&server, Some(Duration::ZERO));
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            // Whichever way ends first takes the other with it.
            tokio::select! {
                () = pump(Way::ToServer, from_client, to_server, rules.clone()) => {}
                () = pump(Way::ToClient, from_server, to_client, rules) => {}
            }
        });
    }
}

async fn pump(way: Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, rules: Arc<watch::Sender<Rules>>) {
    let mut seen = rules.subscribe();
    let born = seen.borrow().age;
    let cut = {
        let mut seen = rules.subscribe();
        async move { drop(seen.wait_for(|rules| rules.age != born).await) }
    };
    let flow = async {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
            let chunk = &buffer[..count];
            let now = seen.borrow_and_update().clone();
            let pause = now.bytes_per_second.map(|rate| Duration::from_secs_f64(count as f64 / rate.max(1) as f64));
            sleep(now.delay + pause.unwrap_or_default()).await;
            let silent =
                |rules: &Rules| if way == Way::ToServer { rules.silent_to_server } else { rules.silent_to_client };
            if seen.wait_for(|rules| !silent(rules)).await.is_err() {
                return;
            }
            let (arriving, ends) = judge(way, chunk, &rules);
            if to.write_all(&chunk[..arriving]).await.is_err() || to.flush().await.is_err() || ends {
                return;
            }
        }
    };
    tokio::select! {
        () = cut => {}
        () = flow => {}
    }
}

/// How much of the chunk arrives, and whether the connection ends with it.
fn judge(way: Way, chunk: &[u8], rules: &watch::Sender<Rules>) -> (usize, bool) {
    let mut verdict = (chunk.len(), false);
    rules.send_if_modified(|rules| {
        let hit = rules.cut_at.take_if(|cut| {
            let found = cut.bytes.is_empty() || chunk.windows(cut.bytes.len()).any(|window| window == cut.bytes);
            cut.way == way && found
        });
        if let Some(cut) = &hit {
            verdict = match cut.arrives {
                Arrives::Nothing => (0, true),
                Arrives::Half => (chunk.len() / 2, true),
                Arrives::All => (chunk.len(), true),
            };
        }
        hit.is_some()
    });
    verdict
}
