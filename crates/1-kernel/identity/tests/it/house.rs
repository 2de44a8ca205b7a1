//! A store that outlives its openings, and a log that keeps the actions of its records and nothing else.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use agentos_base::{Ambient, ambient::FakeClock};
use agentos_identity::Tokens;
use agentos_scratch::Scratch;
use agentos_store::{Conn, Database, Sequencer, Store, StoreOptions};
use agentos_types::{Result, Timestamp, audit::AuditEvent};
use tempfile::TempDir;

use super::BACKEND;

/// A log that keeps the actions of its records and nothing else.
#[derive(Clone, Default)]
pub struct NoLog(pub Arc<Mutex<Vec<(String, String)>>>);

impl Sequencer for NoLog {
    fn load(&mut self, _: &Conn<'_>) -> Result<()> {
        Ok(())
    }
    fn seal(&mut self, _: &Conn<'_>, events: &[AuditEvent]) -> Result<()> {
        self.0.lock().unwrap().extend(events.iter().map(|event| (event.action.clone(), event.resource.clone())));
        Ok(())
    }
    fn settled(&mut self, _: bool) {}
}

/// A place that outlives the stores that are opened in it.
pub struct House {
    directory: TempDir,
    pub scratch: Scratch,
}

pub fn house() -> House {
    House { directory: tempfile::tempdir().unwrap(), scratch: BACKEND.scratch() }
}

impl House {
    fn database(&self) -> Option<Database> {
        self.scratch.urls().map(|(url, admin)| Database::parse(url, Some(admin)).unwrap())
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Everything that lies on disk, in files or in tables.
    pub fn bytes_at_rest(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.path()).unwrap();
        let mut bytes: Vec<u8> = files.flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
        if self.scratch.urls().is_some() {
            bytes.extend(self.scratch.postgres().data_dump());
        }
        bytes
    }
}

/// With a single reader, so that a test can hold all of them.
pub fn open_store(house: &House) -> (Store, Ambient, Arc<FakeClock>, NoLog) {
    let log = NoLog::default();
    let (ambient, clock) = Ambient::fake(3, Timestamp::from_millis(5));
    let options = StoreOptions {
        directory: house.path().into(),
        database: house.database(),
        queue_max: 64,
        readers: 1,
        sequencer: Some(Box::new(log.clone())),
        ambient: ambient.clone(),
    };
    (Store::open(options).unwrap(), ambient, clock, log)
}

pub fn open_with_log(house: &House) -> (Tokens, Arc<FakeClock>, NoLog) {
    let (store, ambient, clock, log) = open_store(house);
    (Tokens::new(store, ambient), clock, log)
}

pub fn open(house: &House) -> (Tokens, Arc<FakeClock>) {
    let (tokens, clock, _) = open_with_log(house);
    (tokens, clock)
}
