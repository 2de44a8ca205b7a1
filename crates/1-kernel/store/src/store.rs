//! The handle that everybody holds: `write`, `read`, `subscribe`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use agentos_base::Ambient;
use agentos_types::{Code, Fault, Result, audit::AuditEvent, notify::Notice};
use rusqlite::Connection;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};

use crate::{
    Conn, MIGRATIONS, Sequencer, Tx,
    lock::DirectoryLock,
    migrate, sqlite,
    writer::{Operation, Pending, Writer, overloaded},
};

/// Notices that a slow subscriber may fall behind before it is told that it missed some (and reads everything again).
const NOTICES_BUFFERED: usize = 4_096;
/// What a probe writes after a refused write: more than a common write, so that the room which a refused one left does
/// not pass for a disk with space.
const PROBE_BYTES: usize = 64 * 1024;

pub struct StoreOptions {
    /// Directory of the installation; the database is `agent-os.db` in it.
    pub directory: PathBuf,
    pub queue_max: usize,
    pub readers: usize,
    /// The audit log. A store without one refuses operations that record events.
    pub sequencer: Option<Box<dyn Sequencer>>,
    pub ambient: Ambient,
}

/// Cheap to clone; the database closes when the last clone is gone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Option<mpsc::Sender<Box<dyn Operation>>>,
    queue_max: usize,
    readers: Mutex<Vec<Connection>>,
    readers_free: Arc<Semaphore>,
    notices: broadcast::Sender<Notice>,
    writer: Option<JoinHandle<()>>,
    schema: i64,
    /// The medium refused a write, and no probe has succeeded since.
    refused: AtomicBool,
    _lock: DirectoryLock,
}

impl Store {
    /// Name of the database file within the directory.
    pub const FILE_NAME: &'static str = "agent-os.db";

    /// Takes the lock, opens, migrates, starts the writer.
    pub fn open(options: StoreOptions) -> Result<Self> {
        let StoreOptions { directory, queue_max, readers, mut sequencer, ambient } = options;
        let lock = DirectoryLock::take(&directory.join("store.lock"))?;
        let path = directory.join(Self::FILE_NAME);
        let connection = sqlite::open_writer(&path)?;
        let schema = in_transaction(&connection, |conn| migrate::up(conn, ambient.now()))?;
        if let Some(sequencer) = &mut sequencer {
            sequencer.load(&Conn::new(&connection))?;
        }
        let pool = (0..readers).map(|_| sqlite::open_reader(&path)).collect::<Result<Vec<_>>>()?;
        let (sender, queue) = mpsc::channel(queue_max);
        let (notices, _) = broadcast::channel(NOTICES_BUFFERED);
        let writer = Writer { connection, queue, sequencer, notices: notices.clone() };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(Fault::internal)?;
        Ok(Self {
            inner: Arc::new(Inner {
                queue: Some(sender),
                queue_max,
                readers: Mutex::new(pool),
                readers_free: Arc::new(Semaphore::new(readers)),
                notices,
                writer: Some(thread),
                schema,
                refused: AtomicBool::new(false),
                _lock: lock,
            }),
        })
    }

    /// Reverts the schema of a closed store to `target`, for a downgrade.
    pub fn migrate_down(directory: &std::path::Path, target: i64) -> Result<()> {
        let _lock = DirectoryLock::take(&directory.join("store.lock"))?;
        let connection = sqlite::open_writer(&directory.join(Self::FILE_NAME))?;
        in_transaction(&connection, |conn| migrate::down(conn, target))
    }

    /// Number of the newest applied migration.
    pub fn schema(&self) -> i64 {
        self.inner.schema
    }

    /// Number of the newest migration that this program has.
    pub fn schema_known() -> i64 {
        MIGRATIONS.last().map_or(0, |migration| migration.number)
    }

    /// Runs `operation` on the writer and returns when its effects, audit events included, are durable.
    /// Fails at once with AOS-1103 when too many writes wait.
    pub async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let queue = self.inner.queue.as_ref().ok_or_else(|| Fault::internal("the store is closed"))?;
        queue.try_send(Box::new(Pending::new(operation, reply))).map_err(|_| overloaded(self.inner.queue_max))?;
        let outcome = answer.await.map_err(|_| Fault::internal("the store's writer has stopped"))?;
        if outcome.as_ref().is_err_and(|fault: &Fault| fault.code == Code::STORE_UNAVAILABLE) {
            self.inner.refused.store(true, Ordering::Relaxed);
        }
        outcome
    }

    /// Whether writes work. As long as none was refused, an empty one tells: it passes queue, savepoint and commit. After a
    /// refused one only real bytes do, because an empty commit succeeds on a full disk too. They are taken away again.
    pub async fn probe(&self) -> Result<()> {
        if !self.inner.refused.load(Ordering::Relaxed) {
            return self.write(|_| Ok(())).await;
        }
        self.write(|tx| {
            let filler = "-".repeat(PROBE_BYTES);
            tx.execute(
                "INSERT INTO installation (name, value) VALUES ('write-probe', $1)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                &[filler.as_str().into()],
            )
        })
        .await?;
        self.write(|tx| tx.execute("DELETE FROM installation WHERE name = 'write-probe'", &[])).await?;
        self.inner.refused.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Puts one event into the audit log and returns when it is durable. For what is recorded without another write.
    pub async fn record(&self, event: AuditEvent) -> Result<()> {
        self.write(move |tx| {
            tx.record(event);
            Ok(())
        })
        .await
    }

    /// Runs `query` on a reader, in one snapshot, off the async threads.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Conn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = self.inner.readers_free.clone().acquire_owned().await.map_err(Fault::internal)?;
        let inner = self.inner.clone();
        let work = move || {
            let _permit = permit;
            let taken = inner.readers.lock().map_err(|_| Fault::internal("reader pool poisoned"))?.pop();
            let connection = taken.ok_or_else(|| Fault::internal("reader pool empty"))?;
            // A panicking query must not take the connection with it: the pool would run dry.
            let outcome = catch_unwind(AssertUnwindSafe(|| in_snapshot(&connection, query)));
            if !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK").map_err(sqlite::fault)?;
            }
            if let Ok(mut pool) = inner.readers.lock() {
                pool.push(connection);
            }
            outcome.unwrap_or_else(|_| Err(Fault::internal("a store query panicked")))
        };
        tokio::task::spawn_blocking(work).await.map_err(Fault::internal)?
    }

    /// Every notice from now on. A receiver that lags must read its state again.
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.inner.notices.subscribe()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closing the queue ends the writer after what already waits; joining it makes the close complete.
        drop(self.queue.take());
        // An operation may itself hold the last handle; the writer cannot wait for its own end.
        if let Some(thread) = self.writer.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

fn in_transaction<T>(connection: &Connection, work: impl FnOnce(&Conn<'_>) -> Result<T>) -> Result<T> {
    connection.execute_batch("BEGIN IMMEDIATE").map_err(sqlite::fault)?;
    let outcome = work(&Conn::new(connection));
    let end = if outcome.is_ok() { "COMMIT" } else { "ROLLBACK" };
    connection.execute_batch(end).map_err(sqlite::fault)?;
    outcome
}

fn in_snapshot<T>(connection: &Connection, query: impl FnOnce(&Conn<'_>) -> Result<T>) -> Result<T> {
    connection.execute_batch("BEGIN").map_err(sqlite::fault)?;
    let found = query(&Conn::new(connection))?;
    connection.execute_batch("COMMIT").map_err(sqlite::fault)?;
    Ok(found)
}

#[cfg(test)]
mod tests;
