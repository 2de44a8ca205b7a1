//! One life of the proxy: from its first word to its end. Three works run side by side and never wait for each other: reading
//! what it says, writing what it has to know, and asking whether it is still there.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use agentos_monitor::egress::Closing;
use agentos_protocol::{
    egress::{EGRESS_VERSION, FromProxy, Refusal, ToProxy, Wish},
    sandbox::PACKET_BYTES_MAX,
};
use agentos_types::{Code, Fault};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use zeroize::Zeroizing;

use super::{
    answer::{self, Answer, Question},
    channel::Channel,
    counts::one_more,
    desk::{self, Desk},
    keeper::Shared,
    meter::Bytes,
    table::Entry,
};

/// Questions that are judged at once: as many as a proxy has open. More come only from one that has been taken over.
const JUDGED_MAX: usize = 4_096;
/// Pings from this number on are farewells: the answer says that everything about the sandbox with the rest of the number
/// has been told. No server lives for so many seconds.
const FAREWELLS: u64 = 1 << 63;
/// Pings that wait to be sent; one is enough to find out.
const PINGS_MAX: usize = 1;

/// Why the proxy is no more, or no longer believed.
pub(super) type Ending = String;

/// What this proxy was told.
#[derive(Default)]
struct Known {
    attached: BTreeSet<u64>,
    /// Detached, and the last word about it is owed.
    parting: BTreeSet<u64>,
}

pub(super) struct Session {
    shared: Arc<Shared>,
    channel: Channel,
    desk: Arc<Desk>,
    answers: mpsc::Sender<Answer>,
    judged: Arc<Semaphore>,
    is_ready: watch::Sender<bool>,
    answered: AtomicU64,
}

impl Session {
    /// Runs until the proxy ends, hangs, or says what it must not say.
    pub async fn run(shared: Arc<Shared>, channel: Channel, on_ready: impl FnOnce()) -> Ending {
        let (answers, outgoing) = mpsc::channel(JUDGED_MAX);
        let (pings, pinged) = mpsc::channel(PINGS_MAX);
        let session = Self {
            desk: Arc::new(Desk::new()),
            judged: Arc::new(Semaphore::new(JUDGED_MAX)),
            is_ready: watch::channel(false).0,
            answered: AtomicU64::new(0),
            shared,
            channel,
            answers,
        };
        session.shared.begin(session.desk.clone());
        let ending = tokio::select! {
            ending = session.listen() => ending,
            ending = session.tell(outgoing, pinged, on_ready) => ending,
            ending = session.watch(pings) => ending,
        };
        session.desk.lose(&session.shared.background);
        ending
    }

    async fn listen(&self) -> Ending {
        loop {
            let bytes = match self.channel.receive().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return "it has closed its socket".to_owned(),
                Err(error) => return format!("its socket failed: {error}"),
            };
            let message: FromProxy = match serde_json::from_slice(&bytes) {
                Ok(message) => message,
                Err(error) => return format!("it said what is not of the protocol: {error}"),
            };
            let is_first = !*self.is_ready.borrow();
            match message {
                FromProxy::Ready { version } if version == EGRESS_VERSION && is_first => {
                    self.is_ready.send_replace(true);
                }
                FromProxy::Ready { version } => {
                    return format!("it says that it is ready in version {version}, first: {is_first}");
                }
                _ if is_first => return "it spoke before it was ready".to_owned(),
                message => self.take(message),
            }
        }
    }

    fn take(&self, message: FromProxy) {
        match message {
            FromProxy::Ready { .. } => {}
            FromProxy::Ask { ask, sandbox, wish } => self.on_ask(ask, sandbox, wish),
            FromProxy::Refused { sandbox, target, reason } => self.on_refused(sandbox, target, reason),
            FromProxy::Moved { sandbox, bytes_out, bytes_in } => {
                if let Some(entry) = self.shared.table.get(sandbox) {
                    self.shared.counters.add(entry.meter.moved(Bytes { out: bytes_out, r#in: bytes_in }));
                }
            }
            FromProxy::Pong { n } if n >= FAREWELLS => self.shared.table.gone(n - FAREWELLS),
            FromProxy::Pong { n } => {
                self.answered.fetch_max(n, Ordering::Relaxed);
            }
            FromProxy::Closed { ask, sandbox, bytes_out, bytes_in, duration_ms, end } => {
                // What was never granted, or told before, counts for nothing.
                let Some(passage) = self.desk.take(ask, sandbox) else { return };
                if let Some(entry) = self.shared.table.get(sandbox) {
                    self.shared.counters.add(entry.meter.closed(Bytes { out: bytes_out, r#in: bytes_in }));
                }
                let closing = Closing { bytes_out, bytes_in, duration_ms, end };
                desk::close(&self.shared.background, passage, closing);
            }
        }
    }

    /// Judged beside the socket, and to its end also when the proxy dies: what was recorded needs its outcome.
    fn on_ask(&self, ask: u64, sandbox: u64, wish: Wish) {
        let (entry, turn) = (self.shared.table.living(sandbox), Arc::clone(&self.judged).try_acquire_owned());
        let (shared, desk, answers) = (self.shared.clone(), self.desk.clone(), self.answers.clone());
        let (Some(entry), Ok(turn)) = (entry, turn) else {
            one_more(&self.shared.counters.denied);
            let fault =
                Fault::new(Code::STORE_BUSY, "the sandbox has ended, or too many connections wait for an answer");
            // If even this does not fit, the question stays without an answer, and nothing happens for it.
            if let Some(answer) = answer::denied(ask, &fault) {
                let _ = self.answers.try_send(answer);
            }
            return;
        };
        self.shared.background.spawn("egress-ask", async move {
            let question = Question { ask, sandbox, wish };
            if let Some(answer) = question.answer(&shared, &desk, &entry).await {
                // A proxy that is gone has lost what was put on the desk.
                let _ = answers.send(answer).await;
            }
            drop(turn);
        });
    }

    fn on_refused(&self, sandbox: u64, target: Option<String>, reason: Refusal) {
        one_more(&self.shared.counters.refused);
        let (entry, turn) = (self.shared.table.get(sandbox), Arc::clone(&self.judged).try_acquire_owned());
        let (Some(entry), Ok(turn)) = (entry, turn) else {
            tracing::warn!(sandbox, ?reason, "a refusal of the egress proxy is counted and not recorded");
            return;
        };
        let shared = self.shared.clone();
        self.shared.background.spawn("egress-refused", async move {
            shared.judge.refused(&entry.guest, target.as_deref(), reason).await;
            drop(turn);
        });
    }

    /// Everything that goes to the proxy goes through here, in order.
    async fn tell(
        &self,
        mut answers: mpsc::Receiver<Answer>,
        mut pings: mpsc::Receiver<u64>,
        on_ready: impl FnOnce(),
    ) -> Ending {
        // Fails only when the sender is gone, which is this session.
        let _ = self.is_ready.subscribe().wait_for(|is_ready| *is_ready).await;
        on_ready();
        let mut known = Known::default();
        loop {
            let sent = tokio::select! {
                biased;
                () = self.shared.changed() => self.bring_in_line(&mut known).await,
                Some(answer) = answers.recv() => self.channel.send(&answer.bytes, answer.descriptor.as_slice()).await,
                Some(n) = pings.recv() => self.send(&ToProxy::Ping { n }).await,
            };
            if let Err(error) = sent {
                return format!("it could not be told: {error}");
            }
        }
    }

    /// Tells of what has begun and ended since the last time. After a restart that is everything that there is.
    async fn bring_in_line(&self, known: &mut Known) -> io::Result<()> {
        let generation = self.shared.generation();
        let rows = self.shared.table.all();
        let (leaving, living): (Vec<_>, Vec<_>) = rows.iter().partition(|(_, entry)| entry.is_leaving());
        known.parting.retain(|sandbox| rows.contains_key(sandbox));
        // A row can go while the proxy is being told of it: nothing is owed then but that it closes the listeners.
        let gone: Vec<u64> = known.attached.iter().copied().filter(|sandbox| !rows.contains_key(sandbox)).collect();
        for sandbox in gone {
            known.attached.remove(&sandbox);
            self.send(&ToProxy::Detach { sandbox }).await?;
        }
        for (&sandbox, _) in leaving {
            if known.attached.remove(&sandbox) {
                known.parting.insert(sandbox);
                self.send(&ToProxy::Detach { sandbox }).await?;
                self.send(&ToProxy::Ping { n: FAREWELLS + sandbox }).await?;
            } else if !known.parting.contains(&sandbox) {
                // It began and ended before this proxy could be told.
                self.shared.table.gone(sandbox);
            }
        }
        for (&sandbox, entry) in living {
            if known.attached.insert(sandbox) {
                self.attach(sandbox, entry).await?;
            }
        }
        self.shared.in_line(generation);
        Ok(())
    }

    /// One that does not fit into a message has no way out; the others keep theirs.
    async fn attach(&self, sandbox: u64, entry: &Entry) -> io::Result<()> {
        let message = ToProxy::Attach(Box::new(entry.attachment(sandbox)));
        let bytes = Zeroizing::new(serde_json::to_vec(&message)?);
        if bytes.len() > PACKET_BYTES_MAX {
            tracing::error!(guest = ?entry.guest, bytes = bytes.len(), "a sandbox is too large to be told of");
            return Ok(());
        }
        self.channel.send(&bytes, &entry.sockets).await
    }

    async fn send(&self, message: &ToProxy) -> io::Result<()> {
        self.channel.send(&serde_json::to_vec(message)?, &[]).await
    }

    /// Returns when the proxy does not answer in time: a process that is stopped or spins has not ended, and all the same
    /// nobody gets out.
    async fn watch(&self, pings: mpsc::Sender<u64>) -> Ending {
        let care = self.shared.care;
        let mut ready = self.is_ready.subscribe();
        let silent = |limit: Duration| format!("it has said nothing for {} ms", limit.as_millis());
        tokio::select! {
            _ = ready.wait_for(|is_ready| *is_ready) => {}
            () = sleep_until(Instant::now() + care.start) => return silent(care.start),
        }
        let mut ticks = interval(care.ping);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // In turns and not by the clock: a server that was stopped itself has not waited, and what the proxy has answered
        // meanwhile is still to be read.
        let turns_max = care.patience.div_duration_f64(care.ping).ceil();
        let (mut asked, mut turns) = (0, 0_u32);
        loop {
            ticks.tick().await;
            if self.answered.load(Ordering::Relaxed) < asked {
                turns += 1;
                if f64::from(turns) >= turns_max {
                    return silent(care.patience);
                }
                continue;
            }
            asked += 1;
            turns = 0;
            // Full only if the one before was never sent, and that one is waited for.
            let _ = pings.try_send(asked);
        }
    }
}
