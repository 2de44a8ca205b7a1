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
use agentos_failpoint::{Point, hit};
use agentos_types::{Code, Fault, Result, audit::AuditEvent, notify::Notice};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};

use crate::{
    Backup, Conn, Database, Dialect, MIGRATIONS, Migration, Sequencer, Tx, Way,
    bell::Bell,
    link::Link,
    lock::DirectoryLock,
    migrate,
    migrator::{self, Order},
    noted::Noted,
    postgres,
    spool::{self, Backlog, Keeper, Spool},
    sqlite::Checkpointer,
    writer::{Operation, Pending, Records, Writer, overloaded},
};

/// What a probe writes after a refused write: more than a common write, so that the room which a refused one left does
/// not pass for a disk with space.
const PROBE_BYTES: usize = 64 * 1024;

pub struct StoreOptions {
    /// Directory of the installation; the embedded database is `agent-os.db` in it.
    pub directory: PathBuf,
    /// Postgres instead of the embedded database.
    pub database: Option<Database>,
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
    readers: Mutex<Vec<Link>>,
    readers_free: Arc<Semaphore>,
    bell: Bell,
    spool: Option<Arc<Spool>>,
    keeper: Option<Keeper>,
    writer: Option<JoinHandle<()>>,
    schema: i64,
    /// The medium refused a write, and no probe has succeeded since.
    refused: AtomicBool,
    dialect: Dialect,
    /// For work of the owner on Postgres.
    database: Option<Database>,
    ambient: Ambient,
    /// Hears other nodes, on Postgres.
    _listener: Option<postgres::Listener>,
    _lock: DirectoryLock,
}

impl Store {
    /// Name of the database file within the directory.
    pub const FILE_NAME: &'static str = "agent-os.db";

    /// Takes the lock, opens, migrates, starts the writer.
    pub fn open(options: StoreOptions) -> Result<Self> {
        Self::open_as(options, MIGRATIONS)
    }

    /// As a program that knows other migrations, for tests of compatibility.
    #[doc(hidden)]
    pub fn open_as(options: StoreOptions, known: &'static [Migration]) -> Result<Self> {
        let lock = DirectoryLock::take(&options.directory.join("store.lock"))?;
        hit(Point::StoreOpenLocked);
        let (queue_max, readers_max) = (options.queue_max, options.readers);
        let dialect = if options.database.is_some() { Dialect::Postgres } else { Dialect::Sqlite };
        let (database, ambient) = (options.database.clone(), options.ambient.clone());
        let system = if dialect == Dialect::Postgres { "postgresql" } else { "sqlite" };
        // On a thread of its own: a connection to Postgres may not wait on a thread that runs tasks.
        let bell = Bell::new();
        let Opened { writer, checkpointer, sequencer, spool, readers, schema, listener } =
            apart(|| open_links(options, known, &bell))?;
        hit(Point::StoreOpenMigrated);
        let (sender, queue) = mpsc::channel(queue_max);
        let keeper = spool.clone().map(|spool| Keeper::start(spool, sender.downgrade())).transpose()?;
        let writer = Writer {
            link: writer,
            checkpointer,
            queue,
            sequencer,
            spool: spool.clone(),
            backlog: Backlog::default(),
            bell: bell.clone(),
            ambient: ambient.clone(),
            system,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(Fault::internal)?;
        Ok(Self {
            inner: Arc::new(Inner {
                queue: Some(sender),
                queue_max,
                readers: Mutex::new(readers),
                readers_free: Arc::new(Semaphore::new(readers_max)),
                bell,
                spool,
                keeper,
                writer: Some(thread),
                schema,
                refused: AtomicBool::new(false),
                dialect,
                database,
                ambient,
                _listener: listener,
                _lock: lock,
            }),
        })
    }

    /// Which database this store is.
    pub fn dialect(&self) -> Dialect {
        self.inner.dialect
    }

    /// Number of the newest applied migration.
    pub fn schema(&self) -> i64 {
        self.inner.schema
    }

    /// Number of the newest migration that this program has.
    pub fn schema_known() -> i64 {
        migrate::newest(MIGRATIONS)
    }

    /// Runs `operation` on the writer and returns when its effects, audit events included, are durable.
    /// Fails at once with AOS-1103 when too many writes wait.
    pub async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.queued(Box::new(Pending::new(operation, reply)), answer).await
    }

    async fn queued<T>(&self, operation: Box<dyn Operation>, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        self.queue()?.try_send(operation).map_err(|_| overloaded(self.inner.queue_max))?;
        self.answered(answer).await
    }

    fn queue(&self) -> Result<&mpsc::Sender<Box<dyn Operation>>> {
        self.inner.queue.as_ref().ok_or_else(|| Fault::internal("the store is closed"))
    }

    pub(crate) async fn answered<T>(&self, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        let outcome = answer.await.map_err(|_| Fault::internal("the store's writer has stopped"))?;
        if outcome.as_ref().is_err_and(|fault: &Fault| fault.code == Code::STORE_UNAVAILABLE) {
            self.inner.refused.store(true, Ordering::Relaxed);
            self.inner.distrust();
        }
        outcome
    }

    pub(crate) fn spool(&self) -> Option<&Arc<Spool>> {
        self.inner.spool.as_ref()
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
        self.record_all(vec![event]).await
    }

    /// The same with several, of which all are durable or none is.
    pub async fn record_all(&self, events: Vec<AuditEvent>) -> Result<()> {
        self.note(events)?.durable().await
    }

    /// Puts events on their way into the audit log, in this place of it, without waiting for the disk: for somebody who has
    /// something to do meanwhile. On the embedded database they are in a file when this returns, so that they outlive the process;
    /// in any case they are written even if nobody waits for what is returned. Fails at once with AOS-1103 when too many writes wait.
    pub fn note(&self, events: Vec<AuditEvent>) -> Result<Noted> {
        let events = match &self.inner.spool {
            Some(spool) => match spool.append(events) {
                Ok(number) => return Ok(Noted::spooled(self.clone(), number)),
                Err(events) => events,
            },
            None => events,
        };
        let (reply, answer) = oneshot::channel();
        self.queue()?.try_send(Box::new(Records::new(events, reply))).map_err(|_| overloaded(self.inner.queue_max))?;
        Ok(Noted::queued(self.clone(), answer))
    }

    /// Waits until the database has every record that was durable before. [`Store::read`] does so by itself; whoever opens the
    /// database's file has to. If the database refuses, it has what it has: its readers go on, so that it can be told why.
    pub async fn settle(&self) {
        let Some(spool) = &self.inner.spool else { return };
        if spool.waiting() == 0 {
            return;
        }
        let (reply, answer) = oneshot::channel();
        if let Ok(queue) = self.queue()
            && queue.send(Box::new(Records::new(Vec::new(), reply))).await.is_ok()
        {
            // What was refused, the writer's log tells, and whoever records next.
            drop(answer.await);
        }
    }

    /// Runs `query` on a reader, in one snapshot, off the async threads. It sees everything that was answered before.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Conn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.settle().await;
        self.look(query).await
    }

    /// The same for what has nothing to do with the audit log, on the way of a call: only records reach the database after they
    /// were answered, and this does not wait for them.
    pub async fn look<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Conn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = self.inner.readers_free.clone().acquire_owned().await.map_err(Fault::internal)?;
        let inner = self.inner.clone();
        let work = move || {
            let _permit = permit;
            let taken = inner.readers.lock().map_err(|_| Fault::internal("reader pool poisoned"))?.pop();
            let mut link = taken.ok_or_else(|| Fault::internal("reader pool empty"))?;
            // A panicking query must not take the connection with it: the pool would run dry.
            let outcome = catch_unwind(AssertUnwindSafe(|| in_snapshot(&mut link, query)));
            link.roll_back();
            if let Ok(mut pool) = inner.readers.lock() {
                pool.push(link);
            }
            let outcome = outcome.unwrap_or_else(|_| Err(Fault::internal("a store query panicked")));
            if outcome.as_ref().is_err_and(|fault| [Code::STORE_CORRUPT, Code::STORE_UNAVAILABLE].contains(&fault.code))
            {
                inner.distrust();
            }
            outcome
        };
        tokio::task::spawn_blocking(work).await.map_err(Fault::internal)?
    }

    /// Runs work that only the owner of the tables may do, in a transaction of its own, and returns when it is durable. On
    /// Postgres that is the role of `DATABASE_ADMIN_URL`, and without it AOS-1108; the embedded database has one owner.
    pub async fn administer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Conn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Some(database) = self.inner.database.clone() else {
            return self.write(move |tx| work(tx)).await;
        };
        let ambient = self.inner.ambient.clone();
        let work = move || postgres::administer(database.admin.as_ref(), &ambient, work);
        tokio::task::spawn_blocking(work).await.map_err(Fault::internal)?
    }

    /// Whether [`Store::administer`] can work here.
    pub fn may_administer(&self) -> bool {
        self.inner.database.as_ref().is_none_or(|database| database.admin.is_some())
    }

    /// Every notice from now on, but those of audit records. A receiver that lags must read its state again.
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.inner.bell.changes()
    }

    /// The notices of new audit records.
    pub fn subscribe_audit(&self) -> broadcast::Receiver<Notice> {
        self.inner.bell.records()
    }
}

impl Inner {
    /// What cannot be read or written will not take records either: until it has, none is acknowledged before.
    fn distrust(&self) {
        if let Some(spool) = &self.spool {
            spool.refuse();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.keeper.take());
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

/// What an open store consists of.
struct Opened {
    writer: Link,
    checkpointer: Option<Checkpointer>,
    sequencer: Option<Box<dyn Sequencer>>,
    spool: Option<Arc<Spool>>,
    readers: Vec<Link>,
    schema: i64,
    listener: Option<postgres::Listener>,
}

fn open_links(options: StoreOptions, known: &'static [Migration], bell: &Bell) -> Result<Opened> {
    let StoreOptions { directory, database, readers, mut sequencer, ambient, .. } = options;
    let order =
        Order { known, directory: &directory, database: database.as_ref(), ambient: &ambient, backup: Backup::Take };
    let (mut writer, checkpointer, schema, readers, listener) = match &database {
        None => {
            let path = directory.join(Store::FILE_NAME);
            let mut writer = Link::sqlite_writer(&path)?;
            let schema = migrator::migrate(&mut writer, &order, Way::Up)?.to;
            let checkpointer = writer.checkpointer(&path)?;
            let readers = (0..readers).map(|_| Link::sqlite_reader(&path)).collect::<Result<Vec<_>>>()?;
            (writer, checkpointer, schema, readers, None)
        }
        Some(database) => {
            let open = |role| {
                let link = postgres::Link::new(&database.server, role, &ambient)?;
                Ok::<_, Fault>(link.keeping_time(database.keeps_time))
            };
            let mut writer = open(postgres::Role::Writer)?;
            // Holds the writer's lock from here on: nobody else migrates under a running server.
            writer.connect()?;
            let schema = match &database.admin {
                Some(admin) => migrator::migrate(&mut postgres::admin(admin, &ambient)?, &order, Way::Up)?.to,
                None => postgres::require_current(database, &ambient, known)?.schema(),
            };
            // Readers connect when they are first needed.
            let readers = (0..readers).map(|_| open(postgres::Role::Reader).map(Box::new).map(Link::Postgres));
            let listener = postgres::Listener::start(&database.server, &ambient, bell.clone(), writer.process())?;
            (Link::Postgres(Box::new(writer)), None, schema, readers.collect::<Result<Vec<_>>>()?, Some(listener))
        }
    };
    in_snapshot(&mut writer, |conn| {
        if let Some(database) = &database {
            postgres::check_server(conn, &database.server.user)?;
        }
        sequencer.as_mut().map_or(Ok(()), |sequencer| sequencer.load(conn))
    })?;
    // Drawn always, so that the same work draws the same on each database.
    let life = ambient.random();
    // Who has no log leaves what waits for it to those who do.
    let spool = match sequencer.as_deref_mut().filter(|_| database.is_none()) {
        Some(sequencer) => {
            spool::recover(&directory, &mut writer, sequencer)?;
            Some(Spool::new(&directory, life))
        }
        None => None,
    };
    Ok(Opened { writer, checkpointer, sequencer, spool, readers, schema, listener })
}

/// Runs `work` on a thread of its own and waits for it.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(Fault::internal("opening the store panicked")))
}

pub(crate) fn in_snapshot<T>(link: &mut Link, query: impl FnOnce(&Conn<'_>) -> Result<T>) -> Result<T> {
    link.begin_read()?;
    let outcome = query(&link.conn());
    match outcome {
        // A read that cannot end its snapshot has still read.
        Ok(found) => {
            link.roll_back();
            Ok(found)
        }
        Err(fault) => Err(fault),
    }
}
