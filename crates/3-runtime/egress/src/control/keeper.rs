//! Keeps a proxy running, and holds what outlives it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentos_base::Background;
use agentos_types::Result;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Care, Counts, Judge,
    channel::Channel,
    counts::{Counters, one_more},
    desk::Desk,
    process::StartProxy,
    session::Session,
    table::Table,
};

/// A proxy that lived this long was well: its end does not count against the next one.
const HEALTHY: Duration = Duration::from_secs(30);
/// The first restart is immediate, the second waits this long, each further one twice as long.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Agents wait meanwhile, and whoever repairs the machine does not want to wait longer than this.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A killed proxy that is not gone by now hangs in the kernel; it holds no listener that the next one needs for itself.
const END: Duration = Duration::from_secs(5);
const TIDY: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) enum State {
    Starting,
    Up(u32),
    Down(String),
}

/// What outlives each proxy.
pub(super) struct Shared {
    pub judge: Arc<dyn Judge>,
    pub background: Background,
    pub care: Care,
    pub table: Table,
    pub counters: Counters,
    state: Mutex<(State, Arc<Desk>)>,
    changed: Notify,
    /// Counts changes of the table, and up to which of them the present proxy knows; `None` while there is no proxy.
    generation: watch::Sender<u64>,
    told: watch::Sender<Option<u64>>,
}

impl Shared {
    pub fn new(judge: Arc<dyn Judge>, background: Background, care: Care) -> Self {
        Self {
            judge,
            background,
            care,
            table: Table::default(),
            counters: Counters::default(),
            state: Mutex::new((State::Starting, Arc::default())),
            changed: Notify::new(),
            generation: watch::channel(0).0,
            told: watch::channel(None).0,
        }
    }

    pub fn table_changed(&self) {
        self.generation.send_modify(|generation| *generation += 1);
        self.changed.notify_one();
    }

    /// Returns once for each time that the table has changed since the last return.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    pub fn in_line(&self, generation: u64) {
        self.told.send_replace(Some(generation));
    }

    /// Whether there is a proxy that knows of sandboxes.
    pub fn is_any_told(&self) -> bool {
        self.told.borrow().is_some()
    }

    pub async fn settled(&self) {
        let wanted = self.generation();
        // Fails only when the sender is gone, which is this value.
        let _ = self.told.subscribe().wait_for(|told| told.is_some_and(|told| told >= wanted)).await;
    }

    pub fn state(&self) -> State {
        self.with(|(state, _)| state.clone())
    }

    pub fn counts(&self) -> Counts {
        let (is_up, open) = self.with(|(state, desk)| (matches!(state, State::Up(_)), desk.len()));
        Counts { is_up, open: open as u64, sandboxes: self.table.all_living().len() as u64, ..self.counters.read() }
    }

    pub fn begin(&self, desk: Arc<Desk>) {
        self.with(|held| held.1 = desk);
    }

    fn set(&self, state: State) {
        self.with(|held| held.0 = state);
    }

    fn with<T>(&self, work: impl FnOnce(&mut (State, Arc<Desk>)) -> T) -> T {
        // Whole values: sound after any panic.
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One proxy after the other, until the server stops.
pub(super) async fn keep(shared: Arc<Shared>, starter: Arc<dyn StartProxy>) {
    let shutdown = shared.background.shutdown();
    let mut failures = 0;
    loop {
        let began_at = Instant::now();
        let ending = tokio::select! {
            ending = one_life(&shared, starter.as_ref()) => ending,
            () = shutdown.cancelled() => break,
        };
        let reason = ending.unwrap_or_else(|fault| {
            let detail = fault.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
            format!("{}{detail}", fault.message)
        });
        failures = if began_at.elapsed() >= HEALTHY { 1 } else { failures + 1 };
        tracing::warn!(reason, failures, "the egress proxy has ended; nothing leaves a sandbox until it is back");
        shared.set(State::Down(reason));
        one_more(&shared.counters.restarts);
        tokio::select! {
            () = sleep(backoff(failures)) => {}
            () = shutdown.cancelled() => break,
        }
    }
    shared.set(State::Down("the server is stopping".to_owned()));
}

/// Kept apart from what keeps the proxy, so that neither waits for the other.
pub(super) async fn tidy(shared: Arc<Shared>) {
    let shutdown = shared.background.shutdown();
    let mut ticks = interval(TIDY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => shared.judge.tidy().await,
            () = shutdown.cancelled() => return,
        }
    }
}

async fn one_life(shared: &Arc<Shared>, starter: &dyn StartProxy) -> Result<String> {
    let (channel, theirs) = Channel::pair().map_err(agentos_types::Fault::internal)?;
    let mut process = starter.start(theirs).await?;
    let pid = process.pid();
    let _forgotten = Forgotten(shared);
    // The first look at the table is owed in any case.
    shared.changed.notify_one();
    let on_ready = || {
        tracing::info!(pid, "the egress proxy is ready");
        shared.set(State::Up(pid));
    };
    let session = Box::pin(Session::run(shared.clone(), channel, on_ready));
    let ending = tokio::select! {
        ending = session => ending,
        ending = process.ended() => ending,
    };
    process.kill();
    let _ = timeout(END, process.ended()).await;
    Ok(ending)
}

/// Whatever way a life ends: nobody knows the table any more, and the next proxy counts bytes from nothing.
struct Forgotten<'s>(&'s Arc<Shared>);

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        self.0.told.send_replace(None);
        for (sandbox, entry) in self.0.table.all() {
            entry.meter.proxy_ended();
            self.0.table.gone(sandbox);
        }
        // Also when the session was dropped in the middle.
        let desk = self.0.with(|(_, desk)| desk.clone());
        desk.lose(&self.0.background);
    }
}

/// Before the next start, after so many failures in a row.
fn backoff(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        // 2^10 times the first wait is far above the greatest one.
        more => BACKOFF_FIRST.saturating_mul(1 << (more - 2).min(10)).min(BACKOFF_MAX),
    }
}
