//! The place where a log joins a commit: all events of the operations that succeeded are sealed in the same transaction.

use agentos_types::{Result, audit::AuditEvent};

use crate::Conn;

/// Implemented by the audit log. Lives on the writer thread, so it needs no lock.
pub trait Sequencer: Send {
    /// Reads where the log ends. Called once after migration, before the first write.
    fn load(&mut self, conn: &Conn<'_>) -> Result<()>;

    /// Appends the events in order, inside the transaction. An error refuses every operation of the batch: no record, no act.
    fn seal(&mut self, conn: &Conn<'_>, events: &[AuditEvent]) -> Result<()>;

    /// The transaction that `seal` ran in is durable (true) or gone (false).
    fn settled(&mut self, durable: bool);
}
