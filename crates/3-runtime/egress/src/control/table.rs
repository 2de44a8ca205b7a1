//! The sandboxes that have a way out, with their listeners. What the proxy knows is always brought in line with this.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agentos_protocol::{
    egress::{Attachment, EgressLimits},
    sandbox::{DESCRIPTORS_MAX, Listener},
};
use agentos_types::{Fault, Result};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Guest,
    keeper::Shared,
    meter::{Bytes, Meter},
    names::Names,
};

/// From the end of a sandbox to the last word of the proxy about it. Beyond it the bytes since the last ping are lost.
const FAREWELL: Duration = Duration::from_secs(1);

/// One sandbox.
pub(super) struct Entry {
    pub guest: Guest,
    pub meter: Meter,
    /// Outlive each proxy: what a program inside was told about a name stays true.
    pub names: Names,
    limits: EgressLimits,
    listeners: Vec<Listener>,
    /// Kept here for as long as the sandbox lives: a new proxy gets them again.
    pub sockets: Vec<OwnedFd>,
    /// The sandbox has ended; what the proxy still has to say about it is waited for.
    is_leaving: AtomicBool,
    /// Everything has been told.
    gone: CancellationToken,
}

impl Entry {
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// For a proxy that does not know it yet. What earlier proxies have moved counts against the limit.
    pub fn attachment(&self, sandbox: u64) -> Attachment {
        // To the proxy a limit is a number in any case; one that is used up leaves a byte, which nothing fits into.
        let or_endless = |limit: u64| if limit == 0 { u64::MAX } else { limit };
        let limits = EgressLimits {
            bytes: or_endless(self.limits.bytes).saturating_sub(self.meter.read().sum()).max(1),
            bytes_per_second: or_endless(self.limits.bytes_per_second),
            ..self.limits.clone()
        };
        Attachment {
            sandbox,
            listeners: self.listeners.clone(),
            limits,
            terminated_hosts: self.guest.terminated_hosts(),
            authority: self.guest.authority().cloned(),
            names: self.names.all(),
        }
    }
}

#[derive(Default)]
pub(super) struct Table(Mutex<Rows>);

#[derive(Default)]
struct Rows {
    last: u64,
    rows: BTreeMap<u64, Arc<Entry>>,
}

impl Table {
    pub fn get(&self, sandbox: u64) -> Option<Arc<Entry>> {
        self.with(|table| table.rows.get(&sandbox).cloned())
    }

    /// Those that live, for asking and attaching.
    pub fn living(&self, sandbox: u64) -> Option<Arc<Entry>> {
        self.get(sandbox).filter(|entry| !entry.is_leaving())
    }

    pub fn all_living(&self) -> BTreeMap<u64, Arc<Entry>> {
        let mut rows = self.all();
        rows.retain(|_, entry| !entry.is_leaving());
        rows
    }

    pub fn all(&self) -> BTreeMap<u64, Arc<Entry>> {
        self.with(|table| table.rows.clone())
    }

    /// The proxy has told everything about it, or there is none.
    pub fn gone(&self, sandbox: u64) {
        let gone = self.get(sandbox).filter(|entry| entry.is_leaving());
        if let Some(entry) = gone {
            self.with(|table| table.rows.remove(&sandbox));
            entry.gone.cancel();
        }
    }

    fn insert(&self, entry: Entry) -> (u64, Arc<Entry>) {
        let entry = Arc::new(entry);
        let sandbox = self.with(|table| {
            table.last += 1;
            table.rows.insert(table.last, entry.clone());
            table.last
        });
        (sandbox, entry)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Rows) -> T) -> T {
        // A map of whole values: sound after any panic.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The way out of one sandbox. Closed when dropped.
pub struct Attached {
    pub(super) sandbox: u64,
    entry: Arc<Entry>,
    shared: Arc<Shared>,
}

pub(super) fn attach(
    shared: &Arc<Shared>,
    guest: Guest,
    listeners: Vec<(Listener, OwnedFd)>,
    limits: EgressLimits,
) -> Result<Attached> {
    if listeners.is_empty() || listeners.len() > DESCRIPTORS_MAX {
        return Err(Fault::internal(format!("{} listeners, at most {DESCRIPTORS_MAX}", listeners.len())));
    }
    let (listeners, sockets) = listeners.into_iter().unzip();
    let entry = Entry {
        guest,
        meter: Meter::default(),
        names: Names::default(),
        limits,
        listeners,
        sockets,
        is_leaving: AtomicBool::new(false),
        gone: CancellationToken::new(),
    };
    let (sandbox, entry) = shared.table.insert(entry);
    shared.table_changed();
    Ok(Attached { sandbox, entry, shared: shared.clone() })
}

impl Attached {
    /// Moved so far, over all lives of the proxy.
    pub fn bytes(&self) -> Bytes {
        self.entry.meter.read()
    }

    /// Closes it now and waits a little for the last bytes. After this the count is complete, unless the proxy hangs.
    pub async fn end(&self) -> Bytes {
        self.leave();
        if timeout(FAREWELL, self.entry.gone.cancelled()).await.is_err() {
            tracing::warn!(guest = ?self.entry.guest, "the egress proxy has not told what was moved last");
        }
        self.bytes()
    }

    fn leave(&self) {
        if self.entry.is_leaving.swap(true, Ordering::Relaxed) {
            return;
        }
        if !self.shared.is_any_told() {
            self.shared.table.gone(self.sandbox);
        }
        // In any case: a proxy that is being told just now may have been told of this sandbox.
        self.shared.table_changed();
        let (shared, entry) = (self.shared.clone(), self.entry.clone());
        self.shared.background.spawn("egress-ended", async move { shared.judge.ended(&entry.guest).await });
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.leave();
    }
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attached").field("sandbox", &self.sandbox).field("guest", &self.entry.guest).finish()
    }
}
