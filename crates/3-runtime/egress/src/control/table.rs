//! The sandboxes that have a way out, with their listeners. What the proxy knows is always brought in line with this.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use agentos_protocol::{
    egress::{Attachment, EgressLimits},
    sandbox::{DESCRIPTORS_MAX, Listener},
};
use agentos_types::{Fault, Result};

use super::{
    Guest,
    keeper::Shared,
    meter::{Bytes, Meter},
};

/// One sandbox.
pub(super) struct Entry {
    pub guest: Guest,
    pub meter: Meter,
    limits: EgressLimits,
    listeners: Vec<Listener>,
    /// Kept here for as long as the sandbox lives: a new proxy gets them again.
    pub sockets: Vec<OwnedFd>,
}

impl Entry {
    /// For a proxy that does not know it yet. What earlier proxies have moved counts against the limit.
    pub fn attachment(&self, sandbox: u64) -> Attachment {
        let mut limits = self.limits.clone();
        if limits.bytes > 0 {
            // 0 would mean no limit.
            limits.bytes = limits.bytes.saturating_sub(self.meter.read().sum()).max(1);
        }
        Attachment {
            sandbox,
            listeners: self.listeners.clone(),
            limits,
            terminated_hosts: self.guest.terminated_hosts(),
            authority: self.guest.authority().cloned(),
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

    pub fn all(&self) -> BTreeMap<u64, Arc<Entry>> {
        self.with(|table| table.rows.clone())
    }

    pub fn len(&self) -> usize {
        self.with(|table| table.rows.len())
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

    fn remove(&self, sandbox: u64) {
        self.with(|table| table.rows.remove(&sandbox));
    }

    fn with<T>(&self, work: impl FnOnce(&mut Rows) -> T) -> T {
        // A map of whole values: sound after any panic.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The way out of one sandbox. Closed when dropped.
pub struct Attached {
    sandbox: u64,
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
    let entry = Entry { guest, meter: Meter::default(), limits, listeners, sockets };
    let (sandbox, entry) = shared.table.insert(entry);
    shared.table_changed();
    Ok(Attached { sandbox, entry, shared: shared.clone() })
}

impl Attached {
    /// Moved so far, over all lives of the proxy.
    pub fn bytes(&self) -> Bytes {
        self.entry.meter.read()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.shared.table.remove(self.sandbox);
        self.shared.table_changed();
        let (shared, entry) = (self.shared.clone(), self.entry.clone());
        self.shared.background.spawn("egress-ended", async move { shared.judge.ended(&entry.guest).await });
    }
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attached").field("sandbox", &self.sandbox).field("guest", &self.entry.guest).finish()
    }
}
