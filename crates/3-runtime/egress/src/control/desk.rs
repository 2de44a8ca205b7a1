//! What one proxy was granted and has not ended yet. When the proxy is gone, all of it is lost with it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use agentos_base::Background;
use agentos_monitor::egress::Closing;

use super::Passage;

/// Connections and requests of all sandboxes that are granted and not ended. Far above what the limits of agents allow a
/// machine to carry; it bounds what a proxy that has been taken over could make the server remember.
pub(super) const OPEN_MAX: usize = 65_536;

#[derive(Default)]
pub(super) struct Desk {
    /// By the number of the question. `None` once the proxy is gone.
    open: Mutex<Option<HashMap<u64, Open>>>,
}

struct Open {
    sandbox: u64,
    passage: Box<dyn Passage>,
}

impl Desk {
    pub fn new() -> Self {
        Self { open: Mutex::new(Some(HashMap::new())) }
    }

    /// Before the verdict is sent, so that the end cannot come too early. Gives it back if there is no place for it.
    pub fn put(&self, ask: u64, sandbox: u64, passage: Box<dyn Passage>) -> Result<(), Box<dyn Passage>> {
        self.with(|open| match open {
            Some(open) if open.len() < OPEN_MAX && !open.contains_key(&ask) => {
                open.insert(ask, Open { sandbox, passage });
                Ok(())
            }
            _ => Err(passage),
        })
    }

    /// What the proxy tells of one of its own.
    pub fn take(&self, ask: u64, sandbox: u64) -> Option<Box<dyn Passage>> {
        self.with(|open| {
            let open = open.as_mut()?;
            open.get(&ask).filter(|found| found.sandbox == sandbox)?;
            open.remove(&ask).map(|found| found.passage)
        })
    }

    pub fn len(&self) -> usize {
        self.with(|open| open.as_ref().map_or(0, HashMap::len))
    }

    /// The proxy is gone. What is judged after this finds no place.
    pub fn lose(&self, background: &Background) {
        let lost = self.with(Option::take).unwrap_or_default();
        if lost.is_empty() {
            return;
        }
        background.spawn("egress-lost", async move {
            for (_, Open { passage, .. }) in lost {
                passage.lose().await;
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Option<HashMap<u64, Open>>) -> T) -> T {
        work(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Records an end without holding up the socket.
pub(super) fn close(background: &Background, passage: Box<dyn Passage>, closing: Closing) {
    background.spawn("egress-closed", passage.close(closing));
}
