//! What the egress proxy adds: the same connection, request and bytes with and without it, in turns. The proxy runs as its
//! program does, on one thread; the server that it asks says yes at once; its target is on loopback, so that nothing is
//! measured but what lies between.

use std::{
    io::{IoSlice, Read, Write},
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use agentos_base::Ambient;
use agentos_egress::proxy::{ProxyOptions, run};
use agentos_protocol::{
    egress::{Attachment, EgressLimits, FromProxy, PROXY_PORT, ToProxy, Verdict},
    sandbox::{Listener, PACKET_BYTES_MAX},
};
use anyhow::{Context, Result, anyhow};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
    recv, sendmsg, shutdown, socketpair,
};

use crate::{figure::Figure, probe::millis, progress::Progress, sample::Rounds};

const ROUNDS: usize = 5;
const CONNECTIONS_PER_ROUND: usize = 200;
const REQUESTS_PER_ROUND: usize = 500;
const TRIPS_PER_ROUND: usize = 1_000;
/// Each way of measuring takes a fraction of a second for it.
const BYTES_PER_ROUND: usize = 128 << 20;
const PIECE_BYTES: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(30);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A proxy with one sandbox, whose listener is on loopback. Both end when it is dropped.
struct Proxy {
    server: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
}

pub fn measure(progress: Progress) -> Result<Vec<Figure>> {
    let proxy = Proxy::start()?;
    let (echo, http) = (serve(echo)?, serve(answer_requests)?);
    let mut pairs: [(Rounds, Rounds); 4] = Default::default();
    for round in 1..=ROUNDS {
        progress.say(&format!("egress, round {round} of {ROUNDS}"));
        let [connections, requests, trips, bytes] = &mut pairs;
        connections.0.push(times(CONNECTIONS_PER_ROUND, || proxy.tunnel(echo).and_then(trip))?);
        connections.1.push(times(CONNECTIONS_PER_ROUND, || connect(echo).and_then(trip))?);
        let mut kept = connect(proxy.address)?;
        let target = format!("http://localhost:{}/", http.port());
        requests.0.push(times(REQUESTS_PER_ROUND, || request(&mut kept, &target, http))?);
        let mut kept = connect(http)?;
        requests.1.push(times(REQUESTS_PER_ROUND, || request(&mut kept, "/", http))?);
        let mut open = proxy.tunnel(echo)?;
        trips.0.push(times(TRIPS_PER_ROUND, || trip_on(&mut open))?);
        let mut open = connect(echo)?;
        trips.1.push(times(TRIPS_PER_ROUND, || trip_on(&mut open))?);
        bytes.0.push(vec![rate(proxy.tunnel(echo)?)?]);
        bytes.1.push(vec![rate(connect(echo)?)?]);
    }
    let figure = |name: &str, pair: &(Rounds, Rounds)| {
        Figure::times(format!("egress, {name}"), &pair.0, 0.95).judge("p50").beside("direct p50", pair.1.median())
    };
    let [connections, requests, trips, bytes] = &pairs;
    Ok(vec![
        figure("a new tunnel and its first byte back", connections).note("asked for, looked up, filtered and dialed"),
        figure("a request on a kept connection", requests).note("each is asked for"),
        figure("there and back in an open tunnel", trips),
        Figure::values("egress, bytes there and back", "MB/s", vec![("", bytes.0.median())], &bytes.0)
            .beside("direct", bytes.1.median()),
    ])
}

impl Proxy {
    fn start() -> Result<Self> {
        let (server, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let server = Arc::new(server);
        let thread = thread::Builder::new().name("egress".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            // What goes wrong shows as a connection that fails.
            if let Ok(runtime) = runtime {
                let _ = runtime.block_on(run(theirs, ProxyOptions::new(Ambient::system())));
            }
        })?;
        let asked = Arc::clone(&server);
        thread::Builder::new().name("judge".to_owned()).spawn(move || say_yes(&asked))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let limits = EgressLimits {
            connections: 10_000,
            bytes: u64::MAX,
            bytes_per_second: 1 << 40,
            idle_ms: 600_000,
            connection_ms: 600_000,
        };
        let listeners = vec![Listener::Tcp(PROXY_PORT)];
        let attachment = Attachment {
            sandbox: 1,
            listeners,
            limits,
            terminated_hosts: Vec::new(),
            authority: None,
            names: Vec::new(),
        };
        send(&server, &ToProxy::Attach(Box::new(attachment)), &[listener.into()])?;
        Ok(Self { server, thread: Some(thread), address })
    }

    fn tunnel(&self, target: SocketAddr) -> Result<TcpStream> {
        let mut stream = connect(self.address)?;
        let name = format!("localhost:{}", target.port());
        stream.write_all(format!("CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes())?;
        let answer = read_until(&mut stream, b"\r\n\r\n")?;
        anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        Ok(stream)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = shutdown(&self.server, Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The server, which lets everything happen.
fn say_yes(server: &OwnedFd) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    while let Ok((count @ 1.., _)) = recv(server, &mut buffer, RecvFlags::empty()) {
        let message = serde_json::from_slice(buffer.get(..count).unwrap_or_default());
        if let Ok(FromProxy::Ask { ask, .. }) = message {
            let verdict = Verdict::Allowed { headers: Vec::new(), private_allowed: true };
            if send(server, &ToProxy::Verdict { ask, verdict }, &[]).is_err() {
                return;
            }
        }
    }
}

fn send(server: &OwnedFd, message: &ToProxy, descriptors: &[OwnedFd]) -> Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let rights: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !rights.is_empty() {
        anyhow::ensure!(control.push(SendAncillaryMessage::ScmRights(&rights)), "too many descriptors");
    }
    sendmsg(server, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// A server on loopback for the rest of the run, one thread a connection.
fn serve(work: fn(TcpStream) -> std::io::Result<()>) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::Builder::new().spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || work(stream));
        }
    })?;
    Ok(address)
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(buffer.get(..count).unwrap_or_default())?,
        }
    }
}

fn answer_requests(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; PIECE_BYTES];
    // One request is out at a time, and small enough for one read.
    while stream.read(&mut buffer)? > 0 {
        stream.write_all(ANSWER)?;
    }
    Ok(())
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn trip(mut stream: TcpStream) -> Result<()> {
    trip_on(&mut stream)
}

fn trip_on(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0]).context("nothing came back")
}

fn request(stream: &mut TcpStream, target: &str, server: SocketAddr) -> Result<()> {
    let text = format!("GET {target} HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", server.port());
    stream.write_all(text.as_bytes())?;
    let answer = read_until(stream, b"ok")?;
    anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

fn read_until(stream: &mut TcpStream, end: &[u8]) -> Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.ends_with(end) {
        let count = stream.read(&mut buffer)?;
        anyhow::ensure!(count > 0, "the connection ended after {} bytes", answer.len());
        answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    Ok(answer)
}

fn times(count: usize, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let mut taken = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        work()?;
        taken.push(millis(began));
    }
    Ok(taken)
}

/// Megabytes a second that go there and come back.
fn rate(mut stream: TcpStream) -> Result<f64> {
    let mut writer = stream.try_clone()?;
    let began = Instant::now();
    let sending = thread::spawn(move || -> std::io::Result<()> {
        let piece = vec![7; PIECE_BYTES];
        for _ in 0..BYTES_PER_ROUND / PIECE_BYTES {
            writer.write_all(&piece)?;
        }
        writer.shutdown(std::net::Shutdown::Write)
    });
    let mut buffer = vec![0; PIECE_BYTES];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            count => received += count,
        }
    }
    sending.join().map_err(|_| anyhow!("the sender panicked"))??;
    anyhow::ensure!(received == BYTES_PER_ROUND, "{received} bytes came back");
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(received as f64 / 1e6 / began.elapsed().as_secs_f64())
}
