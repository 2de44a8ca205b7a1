//! Proxies and a judge under the control of a test, in its own process.

use std::{
    collections::BTreeMap,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex},
    time::Duration,
};

use agentos_authority::{Caller, GrantSet};
use agentos_base::{Ambient, Background};
use agentos_monitor::egress::Closing;
use agentos_protocol::{
    egress::{EGRESS_VERSION, EgressLimits, FromProxy, Refusal, ToProxy, Verdict, Wish, WishEnd},
    sandbox::{DESCRIPTORS_MAX, Listener, PACKET_BYTES_MAX},
};
use agentos_types::{Category, Code, Fault, Grant, Result, Timestamp};
use async_trait::async_trait;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};
use tokio::sync::{mpsc, watch};

use crate::control::{
    Attached, Care, Egress, Guest, Judge, Judgement, Passage,
    process::{ProxyProcess, StartProxy},
};

/// Longest wait for anything in these tests; conditions are met in milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Notices a proxy that hangs fast, and still not in the time that a busy machine takes for a turn.
pub const QUICK: Care =
    Care { ping: Duration::from_millis(20), patience: Duration::from_secs(1), start: Duration::from_secs(1) };

pub const LIMITS: EgressLimits =
    EgressLimits { connections: 8, bytes: 1_000, bytes_per_second: 0, idle_ms: 1_000, connection_ms: 1_000 };

pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Hands every proxy that is started to the test.
pub struct Starter(mpsc::UnboundedSender<Fake>);

/// One proxy.
pub struct Fake {
    socket: Option<OwnedFd>,
    died: watch::Sender<bool>,
    killed: watch::Receiver<bool>,
}

struct FakeProcess {
    died: watch::Receiver<bool>,
    killed: watch::Sender<bool>,
}

#[async_trait]
impl StartProxy for Starter {
    async fn start(&self, channel: OwnedFd) -> Result<Box<dyn ProxyProcess>> {
        let (died, has_died) = watch::channel(false);
        let (killed, was_killed) = watch::channel(false);
        let _ = self.0.send(Fake { socket: Some(channel), died, killed: was_killed });
        Ok(Box::new(FakeProcess { died: has_died, killed }))
    }
}

#[async_trait]
impl ProxyProcess for FakeProcess {
    fn pid(&self) -> u32 {
        7
    }

    async fn ended(&mut self) -> String {
        let mut killed = self.killed.subscribe();
        tokio::select! {
            _ = self.died.wait_for(|died| *died) => {}
            _ = killed.wait_for(|killed| *killed) => {}
        }
        "it ended".to_owned()
    }

    fn kill(&self) {
        self.killed.send_replace(true);
    }
}

impl Fake {
    pub fn say(&self, message: &FromProxy) {
        self.say_bytes(&serde_json::to_vec(message).unwrap());
    }

    pub fn say_bytes(&self, bytes: &[u8]) {
        send(self.socket.as_ref().unwrap(), bytes, SendFlags::NOSIGNAL).unwrap();
    }

    pub fn ready(self) -> Self {
        self.say(&FromProxy::Ready { version: EGRESS_VERSION });
        self
    }

    /// A message that brings a descriptor, which no proxy does.
    pub fn say_with_descriptor(&self) {
        let socket = self.socket.as_ref().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let rights = [socket.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
        let pong = br#"{"type":"pong","n":1}"#;
        sendmsg(socket, &[IoSlice::new(pong)], &mut control, SendFlags::NOSIGNAL).unwrap();
    }

    /// The next message, with the number of descriptors that came along. Pings are answered and left out.
    pub async fn hear(&self) -> (ToProxy, usize) {
        loop {
            match self.next_with_pings().await {
                (ToProxy::Ping { n }, _) => self.say(&FromProxy::Pong { n }),
                message => return message,
            }
        }
    }

    pub async fn next_with_pings(&self) -> (ToProxy, usize) {
        let socket = self.socket.as_ref().unwrap().try_clone().unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; PACKET_BYTES_MAX];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let got = recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
            let count = control
                .drain()
                .map(|part| if let RecvAncillaryMessage::ScmRights(rights) = part { rights.count() } else { 0 })
                .sum();
            bytes.truncate(got.unwrap().bytes);
            (bytes, count)
        });
        let (bytes, count) = within("a message to the proxy", read).await.unwrap();
        (serde_json::from_slice(&bytes).unwrap(), count)
    }

    /// The attachments that are owed, by number.
    pub async fn attachments(&self, count: usize) -> BTreeMap<u64, (agentos_protocol::egress::Attachment, usize)> {
        let mut found = BTreeMap::new();
        while found.len() < count {
            match self.hear().await {
                (ToProxy::Attach(attachment), sockets) => {
                    found.insert(attachment.sandbox, (*attachment, sockets));
                }
                (other, _) => panic!("{other:?} instead of an attachment"),
            }
        }
        found
    }

    pub fn ask(&self, ask: u64, sandbox: u64, host: &str) {
        self.say(&FromProxy::Ask { ask, sandbox, wish: Wish::Connect { host: host.into(), port: 443 } });
    }

    /// The number that the server gives to a name.
    pub async fn number_of(&self, ask: u64, sandbox: u64, host: &str) -> Option<u32> {
        self.say(&FromProxy::Ask { ask, sandbox, wish: Wish::Name { host: host.into() } });
        match self.verdict(ask).await {
            Verdict::Named { number } => number,
            other => panic!("{other:?} for a name"),
        }
    }

    pub async fn verdict(&self, expected: u64) -> Verdict {
        match self.hear().await {
            (ToProxy::Verdict { ask, verdict }, _) if ask == expected => verdict,
            (other, _) => panic!("{other:?} instead of the verdict {expected}"),
        }
    }

    pub async fn is_allowed(&self, ask: u64) -> bool {
        matches!(self.verdict(ask).await, Verdict::Allowed { .. })
    }

    /// As `kill -9` does.
    pub fn die(mut self) {
        self.died.send_replace(true);
        self.socket = None;
    }

    /// The server does not hold the process any more.
    pub async fn was_dropped(&mut self) {
        let dropped = async { while self.killed.changed().await.is_ok() {} };
        within("the end of the proxy", dropped).await;
    }

    pub async fn was_killed(&mut self) {
        within("the kill of the proxy", self.killed.wait_for(|killed| *killed)).await.unwrap();
    }
}

/// Allows what does not begin with `evil`, and notes everything.
pub struct Notes {
    lines: Mutex<Vec<String>>,
    changed: tokio::sync::Notify,
    /// Hosts that begin with `slow` are judged once this is open.
    pub gate: tokio::sync::Semaphore,
    /// The server's ends of connections to hosts that begin with `models`.
    pub ends: Mutex<Vec<OwnedFd>>,
}

impl Notes {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            lines: Mutex::default(),
            changed: tokio::sync::Notify::new(),
            gate: tokio::sync::Semaphore::new(0),
            ends: Mutex::default(),
        })
    }

    fn note(&self, line: String) {
        self.lines.lock().unwrap().push(line);
        self.changed.notify_one();
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub async fn has(&self, wanted: &str) {
        let wait = async {
            while !self.lines().iter().any(|line| line == wanted) {
                self.changed.notified().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("'{wanted}' is not among {:?}", self.lines());
        }
    }
}

pub struct Noting(pub Arc<Notes>);

struct NotedPassage {
    notes: Arc<Notes>,
    host: String,
}

#[async_trait]
impl Judge for Noting {
    async fn judge(&self, who: &Guest, wish: &Wish) -> Judgement {
        let (Wish::Name { host } | Wish::Connect { host, .. } | Wish::Request { host, .. }) = wish;
        if host.starts_with("slow") {
            self.0.note(format!("thinking about {host}"));
            self.0.gate.acquire().await.unwrap().forget();
        }
        if host.starts_with("evil") {
            self.0.note(format!("{} denied {host}", who.caller.agent));
            let text = if host == "evil.huge" { "no".repeat(PACKET_BYTES_MAX) } else { "no".to_owned() };
            return Judgement::denied(&Fault::new(Code::NOT_GRANTED, text));
        }
        self.0.note(format!("{} allowed {host}", who.caller.agent));
        if let Wish::Name { .. } = wish {
            let verdict = Verdict::Allowed { headers: Vec::new(), private_allowed: false };
            return Judgement::without_passage(verdict);
        }
        if host.starts_with("models") {
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            self.0.ends.lock().unwrap().push(ours);
            return Judgement::models(theirs);
        }
        let passage = NotedPassage { notes: self.0.clone(), host: host.clone() };
        let headers = match host.as_str() {
            "huge.example" => vec![("x-huge".to_owned(), "x".repeat(PACKET_BYTES_MAX))],
            _ => Vec::new(),
        };
        let verdict = Verdict::Allowed { headers, private_allowed: false };
        Judgement { verdict, passage: Some(Box::new(passage)), models: None }
    }

    async fn refused(&self, who: &Guest, target: Option<&str>, reason: Refusal) {
        self.0.note(format!("{} refused {} {reason:?}", who.caller.agent, target.unwrap_or("-")));
    }

    async fn ended(&self, who: &Guest) {
        self.0.note(format!("{} ended", who.caller.agent));
    }

    async fn tidy(&self) {}
}

#[async_trait]
impl Passage for NotedPassage {
    async fn close(self: Box<Self>, closing: Closing) {
        match closing.end {
            WishEnd::Unreachable { code, .. } => self.notes.note(format!("{} unreachable {code}", self.host)),
            _ => self.notes.note(format!("{} closed {}/{}", self.host, closing.bytes_out, closing.bytes_in)),
        }
    }

    async fn lose(self: Box<Self>) {
        self.notes.note(format!("{} lost", self.host));
    }
}

/// A control with everything around it.
pub struct Stage {
    pub egress: Egress,
    pub notes: Arc<Notes>,
    pub background: Background,
    started: mpsc::UnboundedReceiver<Fake>,
}

impl Stage {
    pub fn open(care: Care) -> Self {
        let (starts, started) = mpsc::unbounded_channel();
        let (notes, background) = (Notes::new(), Background::default());
        let judge = Arc::new(Noting(notes.clone()));
        let egress = Egress::start_with(Arc::new(Starter(starts)), judge, background.clone(), care);
        Self { egress, notes, background, started }
    }

    /// The proxy that was started last.
    pub async fn proxy(&mut self) -> Fake {
        within("the start of a proxy", self.started.recv()).await.unwrap()
    }

    /// A sandbox of this agent with two listeners.
    pub fn attach(&self, agent: &str) -> Attached {
        let socket = || socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap().0;
        let listeners = vec![(Listener::Tcp(443), socket()), (Listener::Udp(53), socket())];
        self.egress.attach(guest(agent), listeners, LIMITS).unwrap()
    }
}

pub fn guest(agent: &str) -> Guest {
    Guest::new(caller(agent, &["tcp://a.example:443"]), Vec::new(), None, Timestamp::ZERO).unwrap().unwrap()
}

pub fn caller(agent: &str, resources: &[&str]) -> Caller {
    let resources = resources.iter().map(|&resource| resource.to_owned()).collect();
    let grants = [Grant { category: Category::Net, actions: vec!["connect".into()], resources }];
    Caller {
        agent: agent.parse().unwrap(),
        instance: Ambient::fake(1, Timestamp::ZERO).0.instance_id(),
        grants: Arc::new(GrantSet::compile(&grants).unwrap()),
        calls_per_minute: 60,
    }
}
