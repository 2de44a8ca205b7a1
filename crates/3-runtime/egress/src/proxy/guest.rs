//! One sandbox as the proxy knows it, and one connection of it.

use std::{collections::HashSet, future::Future, io, net::Ipv4Addr, sync::Arc, time::Duration};

use agentos_base::Ambient;
use agentos_dialer::{HostPort, Reach, Reached, Tls, Unreached};
use agentos_protocol::egress::{Attachment, EgressLimits, Refusal, Wish};
use agentos_types::{Code, Fault, Result};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    activity::Activity,
    authority::Authority,
    grant::{Grant, Way},
    line::{Allowed, Line},
    meter::Meter,
    names::Names,
    serve::share_max,
    stop::Stop,
};

/// From the lookup to the open connection. Slower ones are down for who waits.
const DIAL: Duration = Duration::from_secs(15);
/// Hosts whose TLS ends here; each has a certificate in memory.
const TERMINATED_MAX: usize = 256;
/// Questions for names at once. A program asks for a few; more at once is a scan.
const LOOKUPS_MAX: usize = 64;

pub(super) struct Guest {
    pub id: u64,
    pub limits: EgressLimits,
    pub meter: Meter,
    pub names: Names,
    pub terminated: HashSet<String>,
    pub authority: Option<Authority>,
    pub connections: Arc<Semaphore>,
    pub lookups: Arc<Semaphore>,
    /// Fires when the sandbox has ended.
    pub ended: CancellationToken,
}

/// What all sandboxes share.
pub(super) struct Outside {
    pub line: Arc<Line>,
    pub reach: Reach,
    pub tls: Tls,
    pub connections: Arc<Semaphore>,
    pub ambient: Ambient,
}

/// One accepted connection.
pub(super) struct Connection {
    pub guest: Arc<Guest>,
    pub outside: Arc<Outside>,
    pub activity: Activity,
}

impl Guest {
    pub fn new(attachment: Attachment, ended: CancellationToken) -> Result<Self> {
        let refused = |message: &str| Fault::new(Code::CONFIG_INVALID_VALUE, message);
        let mut terminated = HashSet::new();
        for host in &attachment.terminated_hosts {
            let target: HostPort = format!("{host}:443").parse()?;
            let name = target.name().ok_or_else(|| refused("TLS of an address cannot end at the proxy"))?;
            terminated.insert(name.to_owned());
        }
        if terminated.len() > TERMINATED_MAX {
            return Err(refused("too many hosts whose TLS ends at the proxy"));
        }
        let authority = attachment.authority.as_ref().map(Authority::new).transpose()?;
        if authority.is_none() && !terminated.is_empty() {
            return Err(refused("TLS cannot end at the proxy without an authority"));
        }
        let names = Names::default();
        for (number, name) in (0..).zip(&attachment.names) {
            names.learn(name, number).ok_or_else(|| refused("the names of a sandbox contradict each other"))?;
        }
        let limits = attachment.limits;
        Ok(Self {
            id: attachment.sandbox,
            meter: Meter::new(&limits),
            names,
            terminated,
            authority,
            connections: Arc::new(Semaphore::new(
                usize::try_from(limits.connections).unwrap_or(usize::MAX).min(share_max()),
            )),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            ended,
            limits,
        })
    }
}

impl Connection {
    pub fn new(guest: &Arc<Guest>, outside: &Arc<Outside>) -> Self {
        Self { guest: Arc::clone(guest), outside: Arc::clone(outside), activity: Activity::new(guest) }
    }

    /// Asks the server. While it thinks, nothing is idle.
    pub async fn ask(&self, wish: Wish) -> Result<Grant, Stop> {
        self.guest.meter.check()?;
        let (_hold, begun) = (self.activity.hold(), Instant::now());
        let answer = self.outside.line.ask(&self.guest, wish).await;
        self.answered(begun, answer)
    }

    /// The same for a connection that may also end at models.
    pub async fn ask_either(&self, wish: Wish) -> Result<Allowed, Stop> {
        self.guest.meter.check()?;
        let (_hold, begun) = (self.activity.hold(), Instant::now());
        let answer = self.outside.line.ask_either(&self.guest, wish).await;
        self.answered(begun, answer)
    }

    /// The address that stands for a name inside; none once the sandbox has had all that it may have.
    pub async fn ask_name(&self, name: &str) -> Result<Option<Ipv4Addr>, Stop> {
        self.guest.meter.check()?;
        let (_hold, begun) = (self.activity.hold(), Instant::now());
        let answer = self.outside.line.ask_name(&self.guest, name.to_owned()).await;
        let number = self.answered(begun, answer)?;
        Ok(number.and_then(|number| self.guest.names.learn(name, number)))
    }

    fn answered<T>(&self, begun: Instant, answer: Result<T, Stop>) -> Result<T, Stop> {
        match &answer {
            Ok(_) => self.activity.decide(),
            Err(_) => self.activity.not_counted(begun.elapsed()),
        }
        answer
    }

    /// Opens the connection that was granted.
    pub async fn dial(&self, target: &HostPort, grant: &Grant) -> Result<Reached, Stop> {
        let _hold = self.activity.hold();
        let reach = &self.outside.reach;
        let attempt = async {
            if grant.private_allowed { reach.connect_opened(target).await } else { reach.connect(target).await }
        };
        match timeout(DIAL, attempt).await {
            Ok(outcome) => {
                outcome.map_err(|Unreached { fault, address }| Stop::Unreachable { fault: Box::new(fault), address })
            }
            Err(_) => {
                let fault = Fault::new(Code::CONNECT_FAILED, format!("no connection to {target} in {DIAL:?}"));
                Err(Stop::Unreachable { fault: Box::new(fault), address: None })
            }
        }
    }

    /// Counts bytes that go one way, and waits where the sandbox is faster than it may be. That is not idleness.
    pub async fn carry(&self, grant: &Grant, way: Way, bytes: usize) -> Result<(), Stop> {
        let _hold = self.activity.hold();
        grant.count(way, bytes);
        Ok(self.guest.meter.pass(way, bytes as u64).await?)
    }

    /// Runs `work` for a grant and writes down how it ended: by itself, by the clocks of the connection, or not at all, if
    /// the sandbox ends first.
    pub async fn under<T>(&self, grant: &Grant, work: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
        let _guard = self.activity.guard();
        let outcome = tokio::select! {
            biased;
            outcome = work => outcome,
            () = self.activity.expired() => Err(Stop::refused(Refusal::TooSlow)),
        };
        if let Err(stop) = &outcome {
            grant.end(stop.wish_end());
        }
        outcome.map_err(Stop::after_grant)
    }

    /// Waits for `work` of the program at most `limit`, and less if it should have said by then what it wants.
    pub async fn within<T>(&self, limit: Duration, work: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
        match timeout_at(self.activity.deadline(limit), work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Stop::refused(Refusal::TooSlow)),
        }
    }

    /// Waits for a word of the program.
    pub async fn word<T>(&self, work: impl Future<Output = io::Result<T>>) -> Result<T, Stop> {
        match self.activity.silent_until() {
            None => Ok(work.await?),
            Some(until) => match timeout_at(until, work).await {
                Ok(outcome) => Ok(outcome?),
                Err(_) => Err(Stop::refused(Refusal::TooSlow)),
            },
        }
    }
}
