//! The way out of one command: the egress proxy of agents, with a judge that knows nothing but the words of the command line.
//!
//! The person at the terminal is the operator here, so what he allows is not looked up anywhere, and what was refused is
//! told in the report. There is no audit log, because there is no installation.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentos_authority::{Caller, Demand, GrantSet};
use agentos_base::{Ambient, Background};
use agentos_cli::{AllowedHost, Denial, RunOrder};
use agentos_dialer::{HostPort, filter};
use agentos_egress::control::{
    Attached, Bytes, Egress, Guest, Judge, Judgement, Passage, ProxyOptions, Standing, limits_of,
};
use agentos_monitor::egress::Closing;
use agentos_protocol::{
    egress::{HTTP_PORT, HTTPS_PORT, Refusal, Verdict, Wish, WishEnd},
    sandbox::Listener,
};
use agentos_sandbox::Sandboxes;
use agentos_types::{Action, Category, Code, Fault, Grant, Result, manifest};
use async_trait::async_trait;
use tokio::time::timeout;

use super::owner;
use crate::programs;

/// Where the person names no port.
const PORTS: [u16; 2] = [HTTP_PORT, HTTPS_PORT];
/// Who the proxy thinks it serves.
const NAME: &str = "sandbox-run";
/// Different refusals that are counted one by one; a program that tries thousands of names is told as one.
const DENIALS_MAX: usize = 256;
const TARGET_CHARS_MAX: usize = 256;
/// As the proxy's own patience at its start.
const START: Duration = Duration::from_secs(20);
/// For what ended connections still have to tell.
const GRACE: Duration = Duration::from_secs(2);

/// Before the sandbox, which is built with its listeners.
pub(super) struct Door {
    guest: Guest,
    egress: Egress,
    judge: Arc<Words>,
    background: Background,
}

/// While the command runs.
pub(super) struct Open {
    door: Door,
    attached: Attached,
}

/// What went through, and what did not.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub bytes: Option<Bytes>,
    pub denials: Vec<Denial>,
}

impl Door {
    /// `None`: nothing was allowed, and there is no door.
    pub(super) fn new(order: &RunOrder, sandboxes: &Sandboxes) -> Result<Option<Self>> {
        if order.allowed_hosts.is_empty() && order.private_hosts.is_empty() {
            return Ok(None);
        }
        let ambient = Ambient::system();
        let grants = GrantSet::compile(&[Grant {
            category: Category::Net,
            actions: vec!["connect".to_owned()],
            resources: order.allowed_hosts.iter().chain(&order.private_hosts).flat_map(resources).collect(),
        }])?;
        let caller = Caller {
            agent: NAME.parse()?,
            instance: ambient.instance_id(),
            grants: Arc::new(grants),
            calls_per_minute: u32::MAX,
        };
        let Some(guest) = Guest::new(caller, Vec::new(), None, ambient.now())? else { return Ok(None) };
        let private = order.private_hosts.iter().flat_map(targets).map(|text| text.parse()).collect::<Result<_, _>>();
        let private = private.map_err(|_| Fault::new(Code::USAGE, "--allow-private names no host and port"))?;
        let judge = Arc::new(Words { private, denials: Denials::default() });
        let background = Background::default();
        let options = ProxyOptions { host_id: owner::proxy_id(), extra_roots: Vec::new() };
        let egress = Egress::start(sandboxes.clone(), programs::egress()?, options, judge.clone(), background.clone())?;
        Ok(Some(Self { guest, egress, judge, background }))
    }

    pub(super) fn listeners(&self) -> Vec<Listener> {
        self.guest.listeners()
    }

    /// A command that would wait for a proxy that cannot start is not begun.
    pub(super) async fn ready(&self) -> Result<()> {
        if timeout(START, self.egress.settled()).await.is_ok() {
            return Ok(());
        }
        let why = match self.egress.standing() {
            Standing::Down(reason) => reason,
            Standing::Starting | Standing::Up(_) => format!("it was not ready within {} s", START.as_secs()),
        };
        Err(Fault::new(Code::LAUNCH_FAILED, format!("the egress proxy cannot be had: {why}")))
    }

    pub(super) fn open(self, listeners: Vec<OwnedFd>) -> Result<Open> {
        let named = self.guest.listeners().into_iter().zip(listeners).collect();
        let attached = self.egress.attach(self.guest.clone(), named, limits_of(&manifest::Egress::default()))?;
        Ok(Open { door: self, attached })
    }
}

impl Open {
    pub(super) async fn close(self) -> Passed {
        let Open { door, attached } = self;
        let bytes = attached.end().await;
        drop(attached);
        door.background.stop(GRACE).await;
        Passed { bytes: Some(bytes), denials: door.judge.denials.told() }
    }
}

fn ports(allowed: &AllowedHost) -> Vec<u16> {
    allowed.port.map_or_else(|| PORTS.to_vec(), |port| vec![port])
}

fn targets(allowed: &AllowedHost) -> Vec<String> {
    ports(allowed).into_iter().map(|port| format!("{}:{port}", allowed.host)).collect()
}

fn resources(allowed: &AllowedHost) -> Vec<String> {
    targets(allowed).into_iter().map(|target| format!("tcp://{target}")).collect()
}

/// The words of the command line, as the judge of what the command wants.
struct Words {
    private: Vec<HostPort>,
    denials: Denials,
}

impl Words {
    fn decide(&self, who: &Guest, wish: &Wish) -> Result<bool> {
        let (host, port) = match wish {
            // A grant names a port, and a name is asked for before any port is.
            Wish::Name { host } => (host, HTTPS_PORT),
            Wish::Connect { host, port } | Wish::Request { host, port, .. } => (host, *port),
        };
        let target: HostPort = spelled(host, port)?;
        let resource = match wish {
            Wish::Name { .. } => format!("tcp://{}", target.name().ok_or_else(|| not_allowed(host))?),
            _ => format!("tcp://{target}"),
        };
        let action = Action::of(Category::Net, "connect").ok_or_else(|| Fault::internal("no action net:connect"))?;
        if !who.caller.grants.covers(&Demand { action, resource }) {
            return Err(not_allowed(host));
        }
        let is_private = !matches!(wish, Wish::Name { .. }) && self.private.contains(&target);
        match target.address().filter(|_| !is_private).and_then(filter::refuse_reason) {
            Some(reason) => Err(Fault::new(Code::ADDRESS_DENIED, format!("{target} is a refused address ({reason})"))),
            None => Ok(is_private),
        }
    }
}

/// What was refused, and how often.
#[derive(Clone, Default)]
struct Denials(Arc<Mutex<BTreeMap<(String, String), u64>>>);

impl Denials {
    fn add(&self, target: &str, reason: &str) {
        let clip = |text: &str| text.chars().filter(|c| !c.is_control()).take(TARGET_CHARS_MAX).collect::<String>();
        // Whole numbers: sound after any panic.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (clip(target), clip(reason));
        if counts.len() >= DENIALS_MAX && !counts.contains_key(&key) {
            key = ("other targets".to_owned(), "not allowed".to_owned());
        }
        *counts.entry(key).or_default() += 1;
    }

    fn told(&self) -> Vec<Denial> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |((target, reason), count): (&(String, String), &u64)| Denial {
            kind: "network".to_owned(),
            target: Some(target.clone()),
            reason: reason.clone(),
            count: *count,
        };
        counts.iter().map(told).collect()
    }
}

/// One thing that was allowed. It may still come to nothing, because of where its name leads.
struct Allowed {
    denials: Denials,
    target: String,
}

#[async_trait]
impl Passage for Allowed {
    async fn close(self: Box<Self>, closing: Closing) {
        if let WishEnd::Unreachable { code, .. } = closing.end {
            let title = code.parse::<Code>().map_or("not reachable", |code| code.entry().title);
            self.denials.add(&self.target, title);
        }
    }

    async fn lose(self: Box<Self>) {
        self.denials.add(&self.target, "the egress proxy ended, and the connection with it");
    }
}

fn shown(wish: &Wish) -> String {
    match wish {
        Wish::Name { host } => host.clone(),
        Wish::Connect { host, port } | Wish::Request { host, port, .. } => format!("{host}:{port}"),
    }
}

#[async_trait]
impl Judge for Words {
    async fn judge(&self, who: &Guest, wish: &Wish) -> Judgement {
        match self.decide(who, wish) {
            Ok(private_allowed) => {
                let verdict = Verdict::Allowed { headers: Vec::new(), private_allowed };
                let passage = Allowed { denials: self.denials.clone(), target: shown(wish) };
                let is_name = matches!(wish, Wish::Name { .. });
                let passage = (!is_name).then(|| Box::new(passage) as Box<dyn Passage>);
                Judgement { verdict, passage, models: None }
            }
            Err(fault) => {
                self.denials.add(&shown(wish), &fault.message);
                Judgement::denied(&fault)
            }
        }
    }

    async fn refused(&self, _: &Guest, target: Option<&str>, reason: Refusal) {
        let word = serde_json::to_value(reason).ok().and_then(|value| value.as_str().map(str::to_owned));
        self.denials.add(target.unwrap_or("-"), &word.unwrap_or_default());
    }

    async fn ended(&self, _: &Guest) {}

    async fn tidy(&self) {}
}

fn not_allowed(host: &str) -> Fault {
    Fault::new(Code::NOT_GRANTED, "no --allow-host allows it").hint(format!("run it with --allow-host {host}"))
}

fn spelled(host: &str, port: u16) -> Result<HostPort> {
    let is_bare_v6 = host.contains(':') && !host.starts_with('[');
    let text = if is_bare_v6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    text.parse().map_err(|_| Fault::new(Code::URL_INVALID, "the host is neither a name nor an address"))
}
