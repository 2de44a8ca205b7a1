//! A store with a ledger, whose clock the test owns.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use agentos_base::{Ambient, ambient::FakeClock};
use agentos_ledger::{Amount, Budget, Ledger, LedgerOptions, Origin, Payer};
use agentos_scratch::Scratch;
use agentos_store::{Conn, Database, Sequencer, Store, StoreOptions};
use agentos_types::{
    Actor, Code, Fault, Result, Timestamp,
    audit::AuditEvent,
    budget::{BudgetScope, BudgetUnit, Period},
};
use tempfile::TempDir;

use super::BACKEND;

/// A log that keeps the names of what happened.
struct Names {
    names: Arc<Mutex<Vec<String>>>,
    refuses: Arc<AtomicBool>,
}

impl Sequencer for Names {
    fn load(&mut self, _: &Conn<'_>) -> Result<()> {
        Ok(())
    }
    fn seal(&mut self, _: &Conn<'_>, events: &[AuditEvent]) -> Result<()> {
        if self.refuses.load(SeqCst) {
            return Err(Fault::new(Code::STORE_BUSY, "the log takes no record"));
        }
        self.names.lock().unwrap().extend(events.iter().map(|event| event.action.clone()));
        Ok(())
    }
    fn settled(&mut self, _: bool) {}
}

pub(super) struct House {
    directory: TempDir,
    scratch: Scratch,
    pub ambient: Ambient,
    pub clock: Arc<FakeClock>,
    names: Arc<Mutex<Vec<String>>>,
    /// The log takes no record: a write that has one fails.
    pub refuses: Arc<AtomicBool>,
}

/// 2026-11-23T10:00:30Z.
pub(super) const NOON: Timestamp = Timestamp(1_795_428_030_000_000);

impl House {
    pub fn new() -> Self {
        let (ambient, clock) = Ambient::fake(7, NOON);
        let (directory, scratch) = (tempfile::tempdir().unwrap(), BACKEND.scratch());
        Self { directory, scratch, ambient, clock, names: Arc::default(), refuses: Arc::default() }
    }

    /// Only where a second session can write.
    pub fn postgres(&self) -> Option<&agentos_scratch::ScratchDatabase> {
        self.scratch.urls().map(|_| self.scratch.postgres())
    }

    pub fn store(&self) -> Store {
        let database = self.scratch.urls().map(|(url, admin)| Database::parse(url, Some(admin)).unwrap());
        Store::open(StoreOptions {
            directory: self.directory.path().to_owned(),
            database,
            queue_max: 1_024,
            readers: 2,
            sequencer: Some(Box::new(Names { names: self.names.clone(), refuses: self.refuses.clone() })),
            ambient: self.ambient.clone(),
        })
        .unwrap()
    }

    pub async fn ledger(&self) -> Ledger {
        self.ledger_on(self.store(), "a").await
    }

    pub async fn ledger_on(&self, store: Store, node: &str) -> Ledger {
        Ledger::open(LedgerOptions { store, ambient: self.ambient.clone(), node: node.into() }).await.unwrap()
    }

    /// How often the audit log tells of it.
    pub fn recorded(&self, action: &str) -> usize {
        self.names.lock().unwrap().iter().filter(|name| *name == action).count()
    }
}

pub(super) fn payer() -> Payer {
    Payer {
        run: Some("task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E".parse().unwrap()),
        agent: Some("a".parse().unwrap()),
        team: Some("blue".into()),
        ..Payer::default()
    }
}

pub(super) fn usd(nano_usd: i64) -> Amount {
    Amount { nano_usd, tokens: 10, requests: 1 }
}

pub(super) fn budget(scope: &str, period: Period, unit: BudgetUnit, amount: i64) -> Budget {
    let scope: BudgetScope = scope.parse().unwrap();
    Budget { scope, period, unit, origin: Origin::Operator, amount, set_by: "token:x".into(), set_at: NOON }
}

pub(super) async fn set(ledger: &Ledger, scope: &str, period: Period, unit: BudgetUnit, amount: i64) {
    ledger.set(&Actor::System, budget(scope, period, unit, amount)).await.unwrap();
}

/// Used and reserved of the one budget that is set.
pub(super) async fn stands(ledger: &Ledger) -> (i64, i64) {
    let standing = ledger.standing(None).await.unwrap();
    assert_eq!(standing.len(), 1, "{standing:?}");
    (standing[0].used, standing[0].reserved)
}
