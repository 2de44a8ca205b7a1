//! Records that are on their way into the log, and whoever has to know when they have arrived.

use agentos_types::{Code, Fault, Result};
use tokio::sync::oneshot;

use crate::Store;

/// What [`Store::note`] returns. Dropped, it changes nothing: the records are written all the same.
#[derive(Debug)]
#[must_use = "a record is not durable before somebody has waited for it"]
pub struct Noted {
    store: Store,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// In the file, under this number.
    Spooled(u64),
    /// Behind other writes.
    Queued(oneshot::Receiver<Result<()>>),
}

impl Noted {
    pub(crate) fn spooled(store: Store, number: u64) -> Self {
        Self { store, way: Way::Spooled(number) }
    }

    pub(crate) fn queued(store: Store, answer: oneshot::Receiver<Result<()>>) -> Self {
        Self { store, way: Way::Queued(answer) }
    }

    /// They are in a file: what ends the process does not take them along, and only the machine could.
    pub fn outlives_process(&self) -> bool {
        matches!(self.way, Way::Spooled(_))
    }

    /// Returns when the records are durable. After a fault nobody knows: they may be in the log all the same.
    pub async fn durable(self) -> Result<()> {
        let number = match self.way {
            Way::Queued(answer) => return self.store.answered(answer).await,
            Way::Spooled(number) => number,
        };
        let spool = self.store.spool().ok_or_else(|| Fault::internal("this store has no spool"))?;
        if spool.durable(number).await {
            return Ok(());
        }
        // The file has failed. What was written to it is in memory too, and every commit takes that.
        self.store.write(|_| Ok(())).await?;
        if spool.has_drained(number) {
            return Ok(());
        }
        Err(Fault::new(Code::AUDIT_UNAVAILABLE, "the audit record could not be written, so nothing was done"))
    }
}
