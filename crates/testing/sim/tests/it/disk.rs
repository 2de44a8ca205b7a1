//! What is left of the machine when its process dies: the files, and nothing else.
//!
//! The files lie in memory (`/dev/shm`), where a sync costs nothing. What a run simulates is therefore the death of the
//! process, or of the machine with a disk that keeps its promises; a disk that lies about a sync is not simulated.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use agentos_audit::LogWriter;
use agentos_scratch::Backend;
use agentos_store::{Conn, Sequencer, Store};
use agentos_types::{Code, Fault as Refusal, Result, audit::AuditEvent};
use tempfile::TempDir;

use crate::deed::Fault;

pub fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => TempDir::with_prefix_in("agentos-sim-", memory).unwrap(),
        false => TempDir::with_prefix("agentos-sim-").unwrap(),
    }
}

/// Decides what the next write meets, and remembers what it did.
#[derive(Clone)]
pub struct Trap {
    state: Arc<Mutex<State>>,
    backend: Backend,
}

struct State {
    armed: Option<Fault>,
    sprung: Option<Fault>,
    /// Directory of the database, and the copy of it that was made in the moment of death.
    live: PathBuf,
    image: Option<TempDir>,
}

impl Trap {
    pub fn new(backend: Backend, live: &Path) -> Self {
        let state = State { armed: None, sprung: None, live: live.into(), image: None };
        Self { state: Arc::new(Mutex::new(state)), backend }
    }

    pub fn arm(&self, fault: Fault) {
        self.state.lock().unwrap().armed = Some(fault);
    }

    pub fn armed(&self) -> Option<Fault> {
        self.state.lock().unwrap().armed
    }

    pub fn disarm(&self) {
        self.state.lock().unwrap().armed = None;
    }

    /// What has happened since the last call.
    pub fn sprung(&self) -> Option<Fault> {
        self.state.lock().unwrap().sprung.take()
    }

    /// Did something happen that nobody has looked at yet?
    pub fn has_sprung(&self) -> bool {
        self.state.lock().unwrap().sprung.is_some()
    }

    /// The files as they were in the moment of death.
    pub fn image(&self) -> Option<TempDir> {
        self.state.lock().unwrap().image.take()
    }

    /// The process dies now: whatever the store does from here on never happened.
    pub fn die_now(&self) {
        if self.backend == Backend::Sqlite {
            let mut state = self.state.lock().unwrap();
            state.image = Some(copy(&state.live));
        }
    }

    fn take(&self, wanted: impl Fn(Fault) -> bool) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        let fault = state.armed.filter(|fault| wanted(*fault))?;
        (state.armed, state.sprung) = (None, Some(fault));
        if fault != Fault::RefuseCommit && self.backend == Backend::Sqlite {
            state.image = Some(copy(&state.live));
        }
        Some(fault)
    }
}

/// The files of a database whose process has died.
fn copy(from: &Path) -> TempDir {
    let to = directory();
    let database = ["", "-wal"].map(|suffix| format!("{}{suffix}", Store::FILE_NAME));
    let waiting = ["audit-spool.0", "audit-spool.1"].map(str::to_owned);
    for name in waiting.into_iter().chain(database) {
        // There is no log before the first write, and no record waits before the first that did not.
        if from.join(&name).exists() {
            fs::copy(from.join(&name), to.path().join(&name)).unwrap();
        }
    }
    to
}

/// A write that was under way leaves garbage behind the last commit.
pub fn tear(image: &Path, garbage: &[u8]) {
    let log = image.join(format!("{}-wal", Store::FILE_NAME));
    if log.exists() {
        fs::OpenOptions::new().append(true).open(log).unwrap().write_all(garbage).unwrap();
    }
}

/// The audit log behind the trap.
pub struct Trapped {
    pub trap: Trap,
    pub log: LogWriter,
}

impl Trapped {
    fn refusal() -> Refusal {
        Refusal::new(Code::AUDIT_UNAVAILABLE, "the simulated disk takes no record")
    }
}

impl Sequencer for Trapped {
    fn load(&mut self, conn: &Conn<'_>) -> Result<()> {
        self.log.load(conn)
    }

    fn seal(&mut self, conn: &Conn<'_>, events: &[AuditEvent]) -> Result<()> {
        // Postgres is a process of its own: its transaction is lost because it is rolled back.
        let lost = self.trap.backend == Backend::Postgres;
        if self.trap.take(|fault| fault == Fault::DieBeforeSeal).is_some() && lost {
            return Err(Self::refusal());
        }
        self.log.seal(conn, events)?;
        match self.trap.take(|fault| matches!(fault, Fault::DieBeforeCommit | Fault::RefuseCommit)) {
            Some(Fault::RefuseCommit) => Err(Self::refusal()),
            Some(_) if lost => Err(Self::refusal()),
            _ => Ok(()),
        }
    }

    fn settled(&mut self, durable: bool) {
        self.log.settled(durable);
        if durable {
            self.trap.take(|fault| fault == Fault::DieBeforeAnswer);
        }
    }
}
