//! The server that the proxy asks, played by the test: it answers by a function, and remembers everything that it hears.

use std::{
    collections::HashMap,
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::IpAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use agentos_base::Ambient;
use agentos_dialer::Resolve;
use agentos_egress::proxy::{ProxyOptions, run};
use agentos_protocol::{
    egress::{Attachment, CertificateAuthority, EgressLimits, FromProxy, Refusal, ToProxy, Verdict, Wish, WishEnd},
    sandbox::{DESCRIPTORS_MAX, Listener, PACKET_BYTES_MAX},
};
use async_trait::async_trait;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv,
    sendmsg, socketpair,
};

use super::network::{any, bound, tcp_listener};

pub const PATIENCE: Duration = Duration::from_secs(30);
pub const SANDBOX: u64 = 7;

pub type Judge = Box<dyn FnMut(&Wish) -> Option<Verdict> + Send>;

pub fn limits() -> EgressLimits {
    EgressLimits {
        connections: 256,
        bytes: 1 << 40,
        bytes_per_second: 1 << 40,
        idle_ms: 60_000,
        connection_ms: 600_000,
    }
}

/// Granted, and its private addresses are opened: the servers of a test are on loopback.
pub fn allowed() -> Option<Verdict> {
    Some(Verdict::Allowed { headers: Vec::new(), private_allowed: true })
}

pub fn denied() -> Option<Verdict> {
    Some(Verdict::Denied { code: "AOS-1401".to_owned(), message: "no grant covers this".to_owned() })
}

/// Names with scripted answers; each question takes the next one, the last one stays.
#[derive(Clone, Default)]
pub struct Names {
    answers: Arc<Mutex<HashMap<String, Vec<Vec<IpAddr>>>>>,
    asked: Arc<AtomicU64>,
}

impl Names {
    pub fn set(&self, name: &str, answers: &[&str]) {
        let parse = |answer: &&str| answer.split_whitespace().map(|address| address.parse().unwrap()).collect();
        self.answers.lock().unwrap().insert(name.to_owned(), answers.iter().map(parse).collect());
    }

    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let left = answers.get_mut(host).ok_or_else(|| io::Error::other("no such name"))?;
        Ok(if left.len() > 1 { left.remove(0) } else { left[0].clone() })
    }
}

#[derive(Default)]
struct Heard {
    messages: Mutex<Vec<FromProxy>>,
    more: Condvar,
}

pub struct Stage {
    server: Option<Arc<OwnedFd>>,
    heard: Arc<Heard>,
    proxy: Option<JoinHandle<()>>,
    pub names: Names,
    /// Names that were given a number, in their order. Outlives the proxy with a server.
    pub given: Arc<Mutex<Vec<String>>>,
    /// The server's ends of connections to models.
    ends: Mutex<mpsc::Receiver<UnixStream>>,
}

impl Stage {
    pub fn new(judge: impl FnMut(&Wish) -> Option<Verdict> + Send + 'static) -> Self {
        Self::trusting(judge, Vec::new())
    }

    pub fn trusting(judge: impl FnMut(&Wish) -> Option<Verdict> + Send + 'static, roots: Vec<PathBuf>) -> Self {
        let names = Names::default();
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let mut options = ProxyOptions::new(Ambient::system());
        options.resolver = Arc::new(names.clone());
        options.extra_roots = roots;
        let proxy = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(theirs, options)).unwrap();
        });
        let server = Arc::new(ours);
        let heard = Arc::new(Heard::default());
        let given = Arc::default();
        let (made, ends) = mpsc::channel();
        listen_to(Arc::clone(&server), Arc::clone(&heard), (Arc::clone(&given), made), Box::new(judge));
        let ends = Mutex::new(ends);
        let stage = Self { server: Some(server), heard, proxy: Some(proxy), names, given, ends };
        stage.wait_for(|message| matches!(message, FromProxy::Ready { .. }).then_some(()));
        stage
    }

    /// One sandbox with the usual listeners, dual-stack as the launcher makes them.
    pub fn with_sandbox(judge: impl FnMut(&Wish) -> Option<Verdict> + Send + 'static) -> Self {
        let stage = Self::new(judge);
        stage.attach(SANDBOX, &[3128, 80, 443], limits(), &[], None);
        stage
    }

    pub fn attach(
        &self,
        sandbox: u64,
        ports: &[u16],
        limits: EgressLimits,
        terminated: &[&str],
        authority: Option<CertificateAuthority>,
    ) {
        let mut listeners: Vec<Listener> = ports.iter().map(|port| Listener::Tcp(*port)).collect();
        let mut sockets: Vec<OwnedFd> = ports.iter().map(|port| tcp_listener(any(*port))).collect();
        for (listener, kind) in [(Listener::Tcp(53), SocketType::STREAM), (Listener::Udp(53), SocketType::DGRAM)] {
            listeners.push(listener);
            sockets.push(if kind == SocketType::STREAM { tcp_listener(any(53)) } else { bound(any(53), kind) });
        }
        let terminated_hosts = terminated.iter().map(|host| (*host).to_owned()).collect();
        let names = self.given.lock().unwrap().clone();
        let attachment = Attachment { sandbox, listeners, limits, terminated_hosts, authority, names };
        self.send(&ToProxy::Attach(Box::new(attachment)), &sockets);
    }

    /// A sandbox whose listeners are elsewhere.
    pub fn attach_at(&self, sandbox: u64, listeners: Vec<(u16, OwnedFd)>, limits: EgressLimits) {
        let (ports, sockets): (Vec<_>, Vec<_>) = listeners.into_iter().unzip();
        let listeners = ports.into_iter().map(Listener::Tcp).collect();
        let (terminated_hosts, names) = (Vec::new(), Vec::new());
        let attachment = Attachment { sandbox, listeners, limits, terminated_hosts, authority: None, names };
        self.send(&ToProxy::Attach(Box::new(attachment)), &sockets);
    }

    pub fn send(&self, message: &ToProxy, descriptors: &[OwnedFd]) {
        send_to(self.server.as_ref().unwrap(), message, descriptors);
    }

    /// The next connection that ended at models, as the server has it.
    pub fn end(&self) -> UnixStream {
        let end = self.ends.lock().unwrap().recv_timeout(PATIENCE).expect("a connection to models");
        end.set_read_timeout(Some(PATIENCE)).unwrap();
        end
    }

    /// The first message, past or to come, that the function finds something in.
    pub fn wait_for<T>(&self, find: impl Fn(&FromProxy) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        let mut messages = self.heard.messages.lock().unwrap();
        loop {
            if let Some(found) = messages.iter().find_map(&find) {
                return found;
            }
            let left = until.checked_duration_since(Instant::now());
            let left = left.unwrap_or_else(|| panic!("it never came; heard {messages:#?}"));
            messages = self.heard.more.wait_timeout(messages, left).unwrap().0;
        }
    }

    pub fn heard(&self) -> Vec<FromProxy> {
        self.heard.messages.lock().unwrap().clone()
    }

    pub fn wishes(&self) -> Vec<Wish> {
        let wish = |message| if let FromProxy::Ask { wish, .. } = message { Some(wish) } else { None };
        self.heard().into_iter().filter_map(wish).collect()
    }

    #[track_caller]
    pub fn expect_refused(&self, reason: Refusal) -> Option<String> {
        self.wait_for(|message| match message {
            FromProxy::Refused { reason: found, target, .. } if *found == reason => Some(target.clone()),
            _ => None,
        })
    }

    /// Waits for more and more messages until the condition holds.
    pub fn wait_until(&self, condition: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !condition() {
            let messages = self.heard.messages.lock().unwrap();
            assert!(Instant::now() < until, "it never came to be; heard {messages:#?}");
            // What has come between the look and the lock is seen after a moment.
            drop(self.heard.more.wait_timeout(messages, Duration::from_millis(50)).unwrap());
        }
    }

    /// How the `number`-th granted wish that has ended did so, with its bytes out and in.
    pub fn ending(&self, number: usize) -> (WishEnd, u64, u64) {
        let until = Instant::now() + PATIENCE;
        let mut messages = self.heard.messages.lock().unwrap();
        loop {
            let ended: Vec<_> = messages
                .iter()
                .filter_map(|message| match message {
                    FromProxy::Closed { end, bytes_out, bytes_in, .. } => Some((end.clone(), *bytes_out, *bytes_in)),
                    _ => None,
                })
                .collect();
            if let Some(found) = ended.into_iter().nth(number) {
                return found;
            }
            let left = until.checked_duration_since(Instant::now());
            let left = left.unwrap_or_else(|| panic!("it never ended; heard {messages:#?}"));
            messages = self.heard.more.wait_timeout(messages, left).unwrap().0;
        }
    }

    /// The server goes away without a word; the proxy has to end by itself.
    pub fn abandon(mut self) {
        let server = self.server.take().unwrap();
        rustix::net::shutdown(&server, rustix::net::Shutdown::Both).unwrap();
        drop(server);
        self.proxy.take().unwrap().join().unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let Some(server) = self.server.take() else { return };
        let _ = rustix::net::shutdown(&server, rustix::net::Shutdown::Both);
        if !thread::panicking() {
            self.proxy.take().unwrap().join().unwrap();
        }
    }
}

fn listen_to(
    server: Arc<OwnedFd>,
    heard: Arc<Heard>,
    (given, ends): (Arc<Mutex<Vec<String>>>, mpsc::Sender<UnixStream>),
    mut judge: Judge,
) {
    thread::spawn(move || {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        loop {
            let count = match recv(&server, &mut buffer, RecvFlags::empty()) {
                Ok((0, _)) | Err(_) => return,
                Ok((count, _)) => count,
            };
            let message: FromProxy = serde_json::from_slice(&buffer[..count]).unwrap();
            // Remembered before it is answered, so that what the answer brings about comes after it.
            heard.messages.lock().unwrap().push(message.clone());
            heard.more.notify_all();
            if let FromProxy::Ask { ask, wish, .. } = message
                && let Some(verdict) = judge(&wish)
            {
                let verdict = numbered(&wish, verdict, &mut given.lock().unwrap());
                let mut beside = Vec::new();
                if let Verdict::Models = verdict {
                    let (ours, theirs) = UnixStream::pair().unwrap();
                    let _ = ends.send(ours);
                    beside.push(theirs.into());
                }
                send_to(&server, &ToProxy::Verdict { ask, verdict }, &beside);
            }
        }
    });
}

/// As the server does it.
fn numbered(wish: &Wish, verdict: Verdict, given: &mut Vec<String>) -> Verdict {
    let (Wish::Name { host }, Verdict::Allowed { .. }) = (wish, &verdict) else { return verdict };
    let number = given.iter().position(|known| known == host).unwrap_or_else(|| {
        given.push(host.clone());
        given.len() - 1
    });
    Verdict::Named { number: u32::try_from(number).ok() }
}

pub fn send_to(server: &OwnedFd, message: &ToProxy, descriptors: &[OwnedFd]) {
    let bytes = serde_json::to_vec(message).unwrap();
    let rights: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !rights.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
    }
    // A server that is gone already is a part of some tests.
    let _ = sendmsg(server, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL);
}
