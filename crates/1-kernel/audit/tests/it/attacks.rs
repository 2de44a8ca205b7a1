//! Attacks by somebody who has the database and the stolen key, found by who holds an older checkpoint; and a database that
//! takes no record.

use agentos_audit::{AuditLog, LogIdentity, LogWriter};
use agentos_base::Ambient;
use agentos_proof::{FindingKind, Report, VerifyError, source::segment};
use agentos_scratch::Scratch;
use agentos_store::{Database, Dialect, Store, StoreOptions};
use agentos_types::{Actor, Code, Result, Timestamp, audit::AuditEvent};
use tempfile::TempDir;

use super::BACKEND;

/// A log of its own, by whoever has the key.
struct Log {
    store: Store,
    log: AuditLog,
    ambient: Ambient,
    directory: TempDir,
    scratch: Scratch,
}

async fn log_of(actions: &[&'static str]) -> Log {
    let (directory, scratch) = (tempfile::tempdir().unwrap(), BACKEND.scratch());
    let (ambient, _) = Ambient::fake(7, Timestamp::from_millis(1_000));
    let identity = LogIdentity::new("node-1", &[7; 32]).unwrap();
    let store = Store::open(StoreOptions {
        directory: directory.path().into(),
        database: scratch.urls().map(|(url, admin)| Database::parse(url, Some(admin)).unwrap()),
        queue_max: 64,
        readers: 1,
        sequencer: Some(Box::new(LogWriter::new(identity.clone(), ambient.clone()))),
        ambient: ambient.clone(),
    })
    .unwrap();
    let log = Log { log: AuditLog::new(identity, store.clone(), directory.path()), store, ambient, directory, scratch };
    for action in actions {
        log.record(action).await.unwrap();
    }
    log
}

impl Log {
    fn event(&self, action: &str) -> AuditEvent {
        AuditEvent::new(self.ambient.event_id(), self.ambient.now(), Actor::System, action, "thing")
    }

    async fn record(&self, action: &str) -> Result<()> {
        self.store.record(self.event(action)).await
    }

    /// What an auditor with the public key and a held checkpoint sees of an exported log.
    async fn judged(&self, held: &[String]) -> Result<Report, VerifyError> {
        let path = self.directory.path().join("segment.jsonl");
        std::fs::write(&path, self.log.export(0).await.unwrap()).unwrap();
        segment::verify(&path, &self.log.identity().verifier_key().clone(), held)
    }
}

fn kind(judged: Result<Report, VerifyError>) -> FindingKind {
    match judged {
        Err(VerifyError::Finding(finding)) => finding.kind,
        other => panic!("{other:?} is no finding"),
    }
}

#[tokio::test]
async fn who_has_the_key_cannot_cut_or_rewrite_past_a_held_checkpoint() {
    let truth = ["test.a", "test.b", "test.c", "test.d", "test.e"];
    let log = log_of(&truth).await;
    let held = [log.log.checkpoint().await.unwrap()];
    assert_eq!(log.judged(&held).await.unwrap().held, 1);
    log.record("test.f").await.unwrap();
    assert_eq!(log.judged(&held).await.unwrap().held, 1, "a log that has grown continues what is held");
    // Each of these is a log that verifies: everything in it is signed by the key.
    let cut = log_of(&truth[..3]).await;
    let rewritten = log_of(&["test.a", "test.b", "test.harmless", "test.d", "test.e"]).await;
    let longer = log_of(&["test.a", "test.b", "test.harmless", "test.d", "test.e", "test.f", "test.g"]).await;
    for (attacked, expected) in
        [(&cut, FindingKind::Truncated), (&rewritten, FindingKind::Fork), (&longer, FindingKind::Fork)]
    {
        assert_eq!(attacked.log.verify().await.unwrap().finding, None);
        assert!(attacked.judged(&[]).await.is_ok());
        assert_eq!(kind(attacked.judged(&held).await), expected);
    }
}

#[tokio::test]
async fn a_database_that_takes_no_record_takes_no_act() {
    for table in ["audit_record", "audit_checkpoint"] {
        let log = log_of(&["test.before"]).await;
        if log.store.dialect() == Dialect::Postgres {
            log.scratch.postgres().run(&format!("REVOKE INSERT ON agent_os.{table} FROM agent_os_server"));
        } else {
            let refuse =
                "CREATE TRIGGER refuse_record BEFORE INSERT ON audit_record BEGIN SELECT RAISE(ABORT, 'no'); END";
            let refuse_checkpoint = "CREATE TRIGGER refuse_checkpoint BEFORE INSERT ON audit_checkpoint BEGIN SELECT RAISE(ABORT, 'no'); END";
            let statement = if table == "audit_record" { refuse } else { refuse_checkpoint };
            log.store.write(move |tx| tx.execute(statement, &[])).await.unwrap();
        }
        let event = log.event("test.act");
        let act = log.store.write(move |tx| {
            tx.execute("INSERT INTO installation (name, value) VALUES ('act', 'done')", &[])?;
            tx.record(event);
            Ok(())
        });
        let refused = act.await.unwrap_err();
        assert_eq!(refused.code, Code::AUDIT_UNAVAILABLE, "{table}: {refused}");
        assert!(refused.retry_after.is_some());
        let acts = log.store.read(|conn| {
            conn.query_one("SELECT count(*) FROM installation WHERE name = 'act'", &[], |row| row.integer(0))
        });
        assert_eq!(acts.await.unwrap(), Some(0), "{table}: the act was done without its record");
        assert_eq!(log.log.verify().await.unwrap().records, 1);
        // What needs no record still works, so that the server can tell what is wrong.
        log.store.write(|tx| tx.execute("DELETE FROM installation WHERE name = 'nothing'", &[])).await.unwrap();
    }
}
