//! A connection with its transaction: opened when it is needed, opened again when it was lost.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

use agentos_base::Ambient;
use agentos_types::{Code, Fault, Result, Timestamp, notify::Notice};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};
use tokio_postgres::{Error, Row};

use super::{
    database::Target,
    fault::{ends_session, fault, unavailable},
    hints,
    pipeline::{Answer, Call, Kept, Later},
    session::Session,
};
use crate::Arg;

/// Above the database's own limit for a statement: only a connection that is dead answers later.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
/// For the admin role: a migration of large tables takes its time, and nobody waits for it meanwhile.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(3_600);
const MIGRATION_SETTINGS: &str = "SET statement_timeout = '1h'; SET lock_timeout = '30s'";
/// Pauses between attempts to reach the database: the first, doubled up to the last, each shortened by chance.
pub(super) const PAUSE_FIRST_MS: u64 = 100;
pub(super) const PAUSE_MAX_MS: u64 = 5_000;
/// How long the fate of a commit without an answer is looked for, while everybody waits.
const FATE_TIMEOUT: Duration = Duration::from_secs(10);
/// Statements that are kept for the next round trip; more are sent at once, so that memory stays bounded.
const LATER_MAX: usize = 512;
/// Names the one writer of a database among all advisory locks: "agentos" in ASCII, and 1.
const WRITER_LOCK: i64 = 0x0061_6765_6e74_6f01;

/// The database's clock in microseconds. Its own rounding is to the microsecond, so that nothing is lost.
macro_rules! micros {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Holds the lock that keeps a second server out, as long as the session lives.
    Writer,
    Reader,
    Admin,
}

pub(crate) struct Link {
    target: Target,
    role: Role,
    ambient: Ambient,
    /// Gone only while the link is dropped.
    runtime: Option<Runtime>,
    session: RefCell<Option<Session>>,
    /// Sent together with the next call that is waited for.
    later: RefCell<Vec<Later>>,
    /// The savepoint stands on the server, or will when `later` has been sent.
    marked: Cell<bool>,
    /// A statement failed since the savepoint: the server refuses all others up to a rollback.
    spoilt: Cell<bool>,
    /// A kept statement failed after its operation had ended well: nothing of this transaction may be committed.
    doomed: RefCell<Option<Fault>>,
    open: bool,
    /// Number of the transaction in the database's own count, to ask after its fate.
    transaction: Option<String>,
    keeps_time: bool,
    /// Process of the database that serves this connection.
    process: Arc<AtomicI32>,
    /// When the open transaction began, by the database's clock.
    instant: Option<Timestamp>,
    /// A session was opened since the last transaction.
    renewed: bool,
    failures: u32,
    next_attempt: Option<Instant>,
}

impl Link {
    pub(crate) fn new(target: &Target, role: Role, ambient: &Ambient) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Fault::internal)?;
        Ok(Self {
            target: target.clone(),
            role,
            ambient: ambient.clone(),
            runtime: Some(runtime),
            session: RefCell::new(None),
            later: RefCell::default(),
            marked: Cell::new(false),
            spoilt: Cell::new(false),
            doomed: RefCell::default(),
            open: false,
            transaction: None,
            keeps_time: false,
            process: Arc::default(),
            instant: None,
            renewed: false,
            failures: 0,
            next_attempt: None,
        })
    }

    /// With the database's clock as that of its transactions.
    pub(crate) fn keeping_time(mut self, keeps_time: bool) -> Self {
        self.keeps_time = keeps_time;
        self
    }

    /// Process of the database that serves this connection, whenever it is asked; 0 for none yet.
    pub(crate) fn process(&self) -> Arc<AtomicI32> {
        self.process.clone()
    }

    /// When the open transaction began, if the database keeps the time.
    pub(crate) fn instant(&self) -> Option<Timestamp> {
        self.instant
    }

    /// Connects now, so that a wrong address is found at the start.
    pub(crate) fn connect(&mut self) -> Result<()> {
        self.next_attempt = None;
        self.ensure_session()
    }

    /// True when the session is another one than at the last call.
    pub(crate) fn begin_write(&mut self) -> Result<bool> {
        // The number is taken now and not at the commit, when there may be nobody to ask any more.
        let answer = self.begin(concat!("BEGIN; SELECT pg_current_xact_id()::text || ' ' || ", micros!()))?;
        let (number, now) = answer.as_deref().and_then(|answer| answer.split_once(' ')).unzip();
        self.transaction = number.map(str::to_owned);
        self.instant = self.time_of(now)?;
        Ok(std::mem::take(&mut self.renewed))
    }

    pub(crate) fn begin_read(&mut self) -> Result<()> {
        let now = self.begin(concat!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT ", micros!()))?;
        self.instant = self.time_of(now.as_deref())?;
        Ok(())
    }

    fn time_of(&self, micros: Option<&str>) -> Result<Option<Timestamp>> {
        if !self.keeps_time {
            return Ok(None);
        }
        let micros = micros.and_then(|micros| micros.parse().ok());
        micros
            .map(|micros| Some(Timestamp(micros)))
            .ok_or_else(|| Fault::internal("the database did not tell the time"))
    }

    fn begin(&mut self, sql: &str) -> Result<Option<String>> {
        self.later.take();
        self.doomed.take();
        self.marked.set(false);
        self.spoilt.set(false);
        self.ensure_session()?;
        let answer = match self.run(async |session| session.ask(sql).await) {
            // Nothing was done yet: a session that died while it was idle is replaced unnoticed.
            Err(_) if self.session.borrow().is_none() => {
                self.ensure_session()?;
                // What failed is not of this transaction.
                self.spoilt.set(false);
                self.run(async |session| session.ask(sql).await)
            }
            answer => answer,
        };
        self.open = true;
        if answer.is_err() {
            self.roll_back();
        }
        answer
    }

    /// Durable when this returns `Ok`. If the answer is lost, the database is asked what became of the transaction. What
    /// other nodes should hear goes with it, in the same round trip.
    pub(crate) fn commit(&mut self, notices: &[Notice]) -> Result<()> {
        if self.spoilt.get() || self.doomed.borrow().is_some() {
            // The server would answer such a COMMIT without an error, and roll back.
            self.roll_back();
            let unsaid = || Fault::internal("a transaction with a failed statement was to be committed");
            return Err(self.doomed.take().unwrap_or_else(unsaid));
        }
        let commit = format!("{}COMMIT", hints::statements(notices));
        let answer = self.exchange(Call::Script(&commit));
        // A hint that is refused, or anything before it, leaves the transaction open.
        self.open = answer.is_err() && self.session.borrow().is_some();
        match (answer, self.transaction.take()) {
            (Err(lost), Some(number)) if self.session.borrow().is_none() => self.fate(&number, lost),
            (answer, _) => answer.map(drop),
        }
    }

    /// Waits for a new session and asks it. The caller learns `Ok` only from a transaction that is durable.
    fn fate(&mut self, number: &str, lost: Fault) -> Result<()> {
        let question = format!("SELECT pg_xact_status('{number}'::xid8)");
        let end = Instant::now() + FATE_TIMEOUT;
        while Instant::now() < end {
            let answer = self.ensure_session().and_then(|()| self.run(async |session| session.ask(&question).await));
            match answer.ok().flatten().as_deref() {
                Some("committed") => return Ok(()),
                Some("aborted") => return Err(lost),
                // The database is not there yet, or the old session has not noticed that we are gone.
                _ => std::thread::sleep(Duration::from_millis(PAUSE_FIRST_MS)),
            }
        }
        let detail = format!("the fate of transaction {number} is unknown; {}", lost.detail.unwrap_or_default());
        Err(unavailable(detail))
    }

    pub(crate) fn roll_back(&mut self) {
        self.later.take();
        if std::mem::take(&mut self.open)
            && self.session.borrow().is_some()
            && self.run(async |session| session.script("ROLLBACK").await).is_err()
        {
            self.session.replace(None);
        }
    }

    pub(crate) fn begin_operation(&self) {
        self.spoilt.set(false);
        let mut later = self.later.borrow_mut();
        // One that is the last to be sent is empty: no statement has come since.
        if !later.last().is_some_and(Later::is_mark) {
            let again = self.marked.replace(true);
            later.push(Later::Mark(if again {
                "RELEASE operation; SAVEPOINT operation"
            } else {
                "SAVEPOINT operation"
            }));
        }
    }

    pub(crate) fn undo_operation(&self) -> Result<()> {
        let mut later = self.later.borrow_mut();
        if let Some(mark) = later.iter().rposition(Later::is_mark) {
            // Nothing of this operation has left.
            later.truncate(mark + 1);
            return Ok(());
        }
        later.clear();
        drop(later);
        self.spoilt.set(false);
        self.run(async |session| session.script("ROLLBACK TO operation").await)
    }

    pub(crate) fn is_spoilt(&self) -> bool {
        self.spoilt.get()
    }

    pub(crate) fn query(&self, sql: &'static str, args: &[Arg<'_>]) -> Result<Vec<Row>> {
        match self.exchange(Call::Query(sql, args))? {
            Answer::Rows(rows) => Ok(rows),
            other => Err(Fault::internal(format!("a query was answered with {other:?}"))),
        }
    }

    pub(crate) fn execute(&self, sql: &'static str, args: &[Arg<'_>]) -> Result<usize> {
        match self.exchange(Call::Execute(sql, args))? {
            Answer::Count(count) => usize::try_from(count).map_err(Fault::internal),
            other => Err(Fault::internal(format!("a statement was answered with {other:?}"))),
        }
    }

    /// Sends the statement with the next call that is waited for. If it fails, nothing of the transaction is committed.
    pub(crate) fn execute_later(&self, sql: &'static str, args: &[Arg<'_>]) -> Result<()> {
        let waiting = {
            let mut later = self.later.borrow_mut();
            later.push(Later::Statement(sql, args.iter().map(Kept::of).collect()));
            later.len()
        };
        if waiting < LATER_MAX { Ok(()) } else { self.settle() }
    }

    /// Waits for everything that was left for later.
    pub(crate) fn settle(&self) -> Result<()> {
        self.exchange(Call::Script("")).map(drop)
    }

    /// Sends what was left for later and then `last`, all in one round trip, and returns the answer to `last`.
    fn exchange(&self, last: Call<'_>) -> Result<Answer> {
        let later = self.later.take();
        let lent: Vec<Vec<Arg<'_>>> = later.iter().map(Later::args).collect();
        let mut calls: Vec<Call<'_>> = later.iter().zip(&lent).map(|(later, args)| later.call(args)).collect();
        calls.push(last);
        let failed_early = Cell::new(false);
        let outcome = self.run(async |session| {
            let mut newest = None;
            for (index, answer) in session.exchange(&calls).await.into_iter().enumerate() {
                failed_early.set(answer.is_err() && index < later.len());
                newest = Some(answer?);
            }
            Ok(newest)
        });
        if let Err(fault) = &outcome
            && failed_early.get()
        {
            self.doomed.replace(Some(fault.clone()));
        }
        outcome?.ok_or_else(|| Fault::internal("the database was asked nothing"))
    }

    pub(crate) fn execute_script(&self, sql: &str) -> Result<()> {
        self.run(async |session| session.script(sql).await)
    }

    /// Ends the session in order: its locks are free when this returns.
    pub(crate) fn close(self) {
        let Ok(runtime) = self.runtime() else { return };
        if let Some(session) = self.session.take() {
            let goodbye = async {
                let _ = session.script("SELECT pg_advisory_unlock_all()").await;
                session.close().await
            };
            let _ = runtime.block_on(async { timeout(Duration::from_secs(1), goodbye).await });
        }
    }

    /// Runs one exchange with the server. A session that ends with it is dropped.
    fn run<T>(&self, exchange: impl AsyncFnOnce(&mut Session) -> Result<T, Error>) -> Result<T> {
        let mut place = self.session.borrow_mut();
        let session = place.as_mut().ok_or_else(|| unavailable("the connection to the database is lost"))?;
        let outcome = self.runtime()?.block_on(async { timeout(self.patience(), exchange(session)).await });
        let (lost, fault) = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(source)) => (ends_session(&source), fault(&source)),
            Err(_) => (true, unavailable("the database did not answer in time")),
        };
        self.spoilt.set(true);
        if lost {
            *place = None;
        }
        Err(fault)
    }

    fn ensure_session(&mut self) -> Result<()> {
        if self.session.borrow().is_some() {
            return Ok(());
        }
        if let Some(wait) = self.next_attempt.and_then(|at| at.checked_duration_since(Instant::now())) {
            let later = unavailable("the next attempt to reach the database comes later");
            return Err(later.retry_after(wait.max(Duration::from_secs(1))));
        }
        match self.open_session() {
            Ok(session) => {
                self.session.replace(Some(session));
                (self.failures, self.next_attempt, self.renewed) = (0, None, true);
                Ok(())
            }
            Err(fault) => {
                let most = PAUSE_FIRST_MS.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX_MS);
                let pause = most / 2 + self.ambient.random_up_to(most / 2);
                self.failures = self.failures.saturating_add(1);
                self.next_attempt = Some(Instant::now() + Duration::from_millis(pause));
                Err(fault)
            }
        }
    }

    fn open_session(&self) -> Result<Session> {
        let runtime = self.runtime()?;
        runtime.block_on(async {
            let opening = async {
                let session = Session::open(&self.target, runtime).await?;
                match self.role {
                    Role::Writer => {
                        take_lock(&session).await?;
                        let process = session.ask("SELECT pg_backend_pid()").await.map_err(|source| fault(&source))?;
                        let process = process.and_then(|process| process.parse().ok()).unwrap_or(0);
                        self.process.store(process, Ordering::SeqCst);
                    }
                    Role::Admin => session.script(MIGRATION_SETTINGS).await.map_err(|source| fault(&source))?,
                    Role::Reader => {}
                }
                Ok(session)
            };
            timeout(ANSWER_TIMEOUT, opening)
                .await
                .unwrap_or_else(|_| Err(unavailable("the database did not let us in")))
        })
    }

    /// How long an answer may take.
    fn patience(&self) -> Duration {
        if self.role == Role::Admin { MIGRATION_TIMEOUT } else { ANSWER_TIMEOUT }
    }

    fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().ok_or_else(|| Fault::internal("the connection is closed"))
    }
}

/// Waits as long as `lock_timeout` says: the session of a server that was killed may still be ending.
async fn take_lock(session: &Session) -> Result<()> {
    session.script(&format!("SELECT pg_advisory_lock({WRITER_LOCK})")).await.map_err(|source| match fault(&source) {
        taken if source.code() == Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE) => {
            Fault::new(Code::STORE_LOCKED, "the database is in use by another server")
                .hint("stop that server first, or give this one a database of its own")
                .detail(taken.detail.unwrap_or_default())
        }
        other => other,
    })
}

impl Drop for Link {
    fn drop(&mut self) {
        // Must not wait: the last handle of a store may be dropped by a task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({:?}, {:?})", self.role, self.target)
    }
}
