//! Secrets on a real store, attacked at rest and in text.

use std::path::Path;

use agentos_base::{
    Ambient,
    redact::{MASK, Redactor},
};
use agentos_scratch::Scratch;
use agentos_secrets::{ExposeSecret, SecretString, Secrets, SecretsKey};
use agentos_store::{Conn, Database, Sequencer, Store, StoreOptions};
use agentos_types::{Actor, Code, Result, SecretName, Timestamp, audit::AuditEvent};
use tempfile::TempDir;

use super::BACKEND;

/// A log that keeps nothing: these tests are not about it.
struct NoLog;

impl Sequencer for NoLog {
    fn load(&mut self, _: &Conn<'_>) -> Result<()> {
        Ok(())
    }
    fn seal(&mut self, _: &Conn<'_>, events: &[AuditEvent]) -> Result<()> {
        assert!(!format!("{events:?}").contains("hunter2"), "an audit event holds a secret");
        Ok(())
    }
    fn settled(&mut self, _: bool) {}
}

/// A place that outlives the stores that are opened in it.
struct House {
    directory: TempDir,
    scratch: Scratch,
}

fn house() -> House {
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
    fn bytes_at_rest(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.path()).unwrap();
        let mut bytes: Vec<u8> = files.flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
        if self.scratch.urls().is_some() {
            bytes.extend(self.scratch.postgres().data_dump());
        }
        bytes
    }
}

async fn open(house: &House, key: [u8; 32]) -> Result<(Secrets, Store, Redactor)> {
    let (ambient, _) = Ambient::fake(3, Timestamp::from_millis(5));
    let store = Store::open(StoreOptions {
        directory: house.path().into(),
        database: house.database(),
        queue_max: 64,
        readers: 1,
        sequencer: Some(Box::new(NoLog)),
        ambient: ambient.clone(),
    })?;
    let redactor = Redactor::default();
    let secrets = Secrets::open(store.clone(), ambient, SecretsKey::new(key), redactor.clone()).await?;
    Ok((secrets, store, redactor))
}

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn value(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

#[tokio::test]
async fn a_secret_lives_rotates_and_dies() {
    let house = house();
    let (secrets, _, redactor) = open(&house, [1; 32]).await.unwrap();
    let key = name("api-key");
    assert_eq!(secrets.reveal(&key).await.unwrap_err().code, Code::SECRET_NOT_FOUND);
    assert_eq!(
        secrets.rotate(&Actor::System, &key, value("hunter2-new")).await.unwrap_err().code,
        Code::SECRET_NOT_FOUND
    );
    secrets.set(&Actor::System, &key, value("hunter2-old")).await.unwrap();
    assert_eq!(secrets.rotate(&Actor::System, &key, value("hunter2-new")).await.unwrap().version, 2);
    assert_eq!(secrets.reveal(&key).await.unwrap().expose_secret(), "hunter2-new");
    assert_eq!(redactor.clean("old hunter2-old new hunter2-new"), format!("old {MASK} new {MASK}"));
    secrets.revoke(&Actor::System, &key).await.unwrap();
    assert_eq!(secrets.reveal(&key).await.unwrap_err().code, Code::SECRET_NOT_FOUND);
    assert_eq!(secrets.revoke(&Actor::System, &key).await.unwrap_err().code, Code::SECRET_NOT_FOUND);
    assert!(secrets.list().await.unwrap().iter().all(|row| row.state == "revoked"));
}

/// A call that took the value before it was erased may hand back what the other side echoed.
#[tokio::test]
async fn an_erased_value_stays_masked_for_calls_that_still_hold_it() {
    let house = house();
    let (secrets, _, redactor) = open(&house, [1; 32]).await.unwrap();
    let key = name("api-key");
    for text in ["hunter2-first", "hunter2-second"] {
        secrets.set(&Actor::System, &key, value(text)).await.unwrap();
    }
    secrets.revoke(&Actor::System, &key).await.unwrap();
    secrets.set(&Actor::System, &name("other"), value("hunter2-other")).await.unwrap();
    for text in ["hunter2-first", "hunter2-second", "hunter2-other"] {
        assert_eq!(redactor.clean(text), MASK, "{text}");
    }
}

#[tokio::test]
async fn values_that_cannot_be_masked_or_stored_are_refused() {
    let house = house();
    let (secrets, ..) = open(&house, [1; 32]).await.unwrap();
    for bad in [String::new(), "short".into(), "x".repeat(16 * 1024 + 1)] {
        let refused = secrets.set(&Actor::System, &name("a"), value(&bad)).await.unwrap_err();
        assert_eq!(refused.code, Code::SECRET_INVALID);
    }
}

#[tokio::test]
async fn nothing_readable_lies_on_disk_and_a_wrong_key_opens_nothing() {
    let house = house();
    let (secrets, store, _) = open(&house, [1; 32]).await.unwrap();
    secrets.set(&Actor::System, &name("a"), value("hunter2-at-rest")).await.unwrap();
    drop((secrets, store));
    let bytes = house.bytes_at_rest();
    assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "the value lies on disk in the clear");
    assert_eq!(open(&house, [2; 32]).await.err().map(|fault| fault.code), Some(Code::SECRET_KEY_UNUSABLE));
}

#[tokio::test]
async fn a_sealed_value_cannot_be_moved_to_another_name() {
    let house = house();
    let (secrets, store, _) = open(&house, [1; 32]).await.unwrap();
    for (secret, text) in [("low", "hunter2-low"), ("high", "hunter2-high")] {
        secrets.set(&Actor::System, &name(secret), value(text)).await.unwrap();
    }
    store
        .write(|tx| {
            tx.execute(
                "UPDATE secret SET sealed = (SELECT sealed FROM secret WHERE name = 'high') WHERE name = 'low'",
                &[],
            )
        })
        .await
        .unwrap();
    assert_eq!(secrets.reveal(&name("low")).await.unwrap_err().code, Code::SECRET_KEY_UNUSABLE);
}

/// Asks at the moment of the commit whether the redactor knows the value that is being stored.
struct KnownInTime(Redactor);

impl Sequencer for KnownInTime {
    fn load(&mut self, _: &Conn<'_>) -> Result<()> {
        Ok(())
    }
    fn seal(&mut self, _: &Conn<'_>, _: &[AuditEvent]) -> Result<()> {
        assert_eq!(self.0.clean("hunter2-new"), MASK, "a call could use the value before it is masked");
        Ok(())
    }
    fn settled(&mut self, _: bool) {}
}

#[tokio::test]
async fn a_value_is_masked_before_it_can_be_used() {
    let house = house();
    let (ambient, _) = Ambient::fake(3, Timestamp::from_millis(5));
    let redactor = Redactor::default();
    let store = Store::open(StoreOptions {
        directory: house.path().into(),
        database: house.database(),
        queue_max: 64,
        readers: 1,
        sequencer: Some(Box::new(KnownInTime(redactor.clone()))),
        ambient: ambient.clone(),
    })
    .unwrap();
    let secrets = Secrets::open(store, ambient, SecretsKey::new([1; 32]), redactor.clone()).await.unwrap();
    secrets.set(&Actor::System, &name("one"), value("hunter2-new")).await.unwrap();
    let refused = secrets.rotate(&Actor::System, &name("two"), value("hunter2-not-stored")).await;
    assert_eq!(refused.unwrap_err().code, Code::SECRET_NOT_FOUND);
    assert_eq!(redactor.clean("hunter2-not-stored"), "hunter2-not-stored", "what was not stored is no secret");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_at_once_leave_no_value_unmasked() {
    let house = house();
    let (secrets, _, redactor) = open(&house, [1; 32]).await.unwrap();
    let sets: Vec<_> = (0..20)
        .map(|index| {
            let secrets = secrets.clone();
            tokio::spawn(async move {
                secrets.set(&Actor::System, &name(&format!("s{index}")), value(&format!("hunter2-{index:04}"))).await
            })
        })
        .collect();
    for set in sets {
        set.await.unwrap().unwrap();
    }
    for index in 0..20 {
        assert_eq!(redactor.clean(&format!("hunter2-{index:04}")), MASK, "{index}");
    }
}

#[tokio::test]
async fn replaced_versions_go_when_their_time_is_over_and_the_newest_stays() {
    let house = house();
    let (secrets, store, redactor) = open(&house, [1; 32]).await.unwrap();
    let (rotated, revoked) = (name("rotated"), name("revoked"));
    for key in [&rotated, &revoked] {
        secrets.set(&Actor::System, key, value("hunter2-first")).await.unwrap();
        secrets.rotate(&Actor::System, key, value("hunter2-second")).await.unwrap();
    }
    secrets.revoke(&Actor::System, &revoked).await.unwrap();
    let prune = async |before: Timestamp, rows_max: i64| {
        let count = store.read(move |conn| agentos_secrets::count_replaced(conn, before)).await.unwrap();
        let taken = store.write(move |tx| agentos_secrets::prune_replaced(tx, before, rows_max)).await.unwrap();
        (count, taken)
    };
    // All of it happened at this very instant.
    let now = Timestamp::from_millis(5);
    assert_eq!(prune(now, 10).await, (0, 0), "replaced only just now");
    let later = Timestamp::from_millis(6);
    assert_eq!(prune(later, 1).await, (2, 1), "no more at once than asked for");
    assert_eq!(prune(later, 10).await, (1, 1));
    let left: Vec<_> = secrets.list().await.unwrap().into_iter().map(|row| (row.version, row.state)).collect();
    assert_eq!(left, [(2, "revoked".to_owned()), (2, "active".to_owned())]);
    assert_eq!(secrets.reveal(&rotated).await.unwrap().expose_secret(), "hunter2-second");
    // Numbers are never used again, and a value that lived stays masked as long as the process does.
    assert_eq!(secrets.set(&Actor::System, &revoked, value("hunter2-third")).await.unwrap().version, 3);
    assert_eq!(redactor.clean("hunter2-first"), MASK);
}
