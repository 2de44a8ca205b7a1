//! A damaged file of the embedded database: it is refused, or the verifier finds it, or it holds what it held before.
//!
//! SQLite has no checksum over its pages, so that a changed byte inside a value passes unseen where nothing else covers
//! it. Everything in the audit log is covered by hashes and signatures; these tests change bytes anywhere.

use std::{fs, path::Path, time::Duration};

use agentos_audit::{AuditLog, Filter, LogIdentity, LogWriter, query};
use agentos_base::Ambient;
use agentos_proof::source;
use agentos_store::{Store, StoreOptions};
use agentos_types::{Actor, Code, Result, Timestamp, audit::AuditEvent};
use tempfile::TempDir;

const RECORDS: usize = 40;
const FLIPS: u64 = 120;

fn ambient() -> Ambient {
    Ambient::fake(7, Timestamp::from_millis(1_000)).0
}

fn identity() -> LogIdentity {
    LogIdentity::new("node-1", &[7; 32]).unwrap()
}

fn open(directory: &Path) -> Result<(Store, AuditLog)> {
    let store = Store::open(StoreOptions {
        directory: directory.into(),
        database: None,
        queue_max: 64,
        readers: 1,
        sequencer: Some(Box::new(LogWriter::new(identity(), ambient()))),
        ambient: ambient(),
    })?;
    Ok((store.clone(), AuditLog::new(identity(), store, directory)))
}

/// In a commit of its own.
async fn record(store: &Store, number: usize) {
    let ambient = ambient();
    let event =
        AuditEvent::new(ambient.event_id(), ambient.now(), Actor::System, "test.act", format!("thing-{number}"));
    let write = store.write(move |tx| {
        tx.record(event);
        Ok(())
    });
    write.await.unwrap();
}

/// What the log says, as a reader sees it.
async fn content(store: &Store) -> Result<Vec<String>> {
    let filter = Filter { limit: 500, ascending: true, ..Filter::default() };
    let found = store.read(move |conn| query(conn, "node-1", &filter)).await?;
    Ok(found.into_iter().map(|stored| format!("{:?}", stored.record)).collect())
}

/// A closed installation and what its log says.
async fn sound() -> (TempDir, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path()).unwrap();
    for number in 0..RECORDS {
        record(&store, number).await;
    }
    let said = content(&store).await.unwrap();
    (directory, said)
}

fn file(directory: &Path) -> std::path::PathBuf {
    directory.join(Store::FILE_NAME)
}

/// Codes that tell a person what to do; an internal error would not.
fn is_told(code: Code) -> bool {
    [Code::STORE_CORRUPT, Code::AUDIT_TAMPERED, Code::MIGRATION_CHANGED, Code::SCHEMA_NEWER].contains(&code)
}

#[tokio::test]
async fn no_changed_byte_of_the_file_changes_what_the_log_says_unseen() {
    let (directory, said) = sound().await;
    let bytes = fs::read(file(directory.path())).unwrap();
    let (dice, _) = Ambient::fake(1, Timestamp::ZERO);
    let (mut refused, mut found, mut harmless) = (0, 0, 0);
    for flip in 0..FLIPS {
        let damaged = tempfile::tempdir().unwrap();
        let mut bytes = bytes.clone();
        // Where something is written; every third in the first page, which holds header and schema.
        let end = if flip % 3 == 0 { 4_096 } else { bytes.len() };
        let written: Vec<usize> = (0..end).filter(|place| bytes[*place] != 0).collect();
        let place = written[usize::try_from(dice.random_up_to(written.len() as u64 - 1)).unwrap()];
        bytes[place] ^= 1 << dice.random_up_to(7);
        fs::write(file(damaged.path()), bytes).unwrap();
        let (store, log) = match open(damaged.path()) {
            Ok(opened) => opened,
            Err(fault) => {
                assert!(is_told(fault.code), "byte {place}: {fault} {:?}", fault.detail);
                refused += 1;
                continue;
            }
        };
        match (content(&store).await, log.verify().await) {
            (_, Ok(seen)) if seen.finding.is_some() => found += 1,
            (_, Err(fault)) | (Err(fault), _) => {
                assert!(is_told(fault.code), "byte {place}: {fault} {:?}", fault.detail);
                found += 1;
            }
            (Ok(now), Ok(_)) => {
                assert_eq!(now, said, "byte {place} changed the log, and it verifies");
                harmless += 1;
            }
        }
    }
    assert!(refused > 0 && found > 0, "{refused} refused, {found} found, {harmless} harmless");
}

/// What a check for damage answers to each kind of file that is not the database.
#[tokio::test]
async fn a_file_that_is_not_the_database_is_refused_and_left_as_it_is() {
    let (directory, _) = sound().await;
    let whole = fs::read(file(directory.path())).unwrap();
    let foreign = {
        let other = tempfile::tempdir().unwrap();
        let path = other.path().join("other.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE recipe (name TEXT); INSERT INTO recipe VALUES ('soup')").unwrap();
        drop(connection);
        fs::read(path).unwrap()
    };
    let mut no_magic = whole.clone();
    no_magic[..16].copy_from_slice(b"\x89PNG\r\n\x1a\n________");
    let mut wrong_page_size = whole.clone();
    wrong_page_size[16] = 3;
    let zeroed = vec![0; whole.len()];
    for (name, bytes) in [
        ("another kind of file", &no_magic[..]),
        ("a header with a page size that does not exist", &wrong_page_size),
        ("zeroes", &zeroed),
        ("text", b"this is not a database, and it is longer than a header of one hundred bytes would be, so that it is read as one"),
        ("cut within the header", &whole[..60]),
        ("cut within the first page", &whole[..2_000]),
        ("cut in half", &whole[..whole.len() / 2]),
        ("one page short", &whole[..whole.len() - 4_096]),
        ("another program's database", &foreign),
    ] {
        let damaged = tempfile::tempdir().unwrap();
        fs::write(file(damaged.path()), bytes).unwrap();
        let outcome = match open(damaged.path()) {
            Ok((_, log)) => log.verify().await.and_then(|seen| match seen.finding {
                None => Ok(()),
                Some(finding) => Err(agentos_types::Fault::new(Code::AUDIT_TAMPERED, finding).hint("found")),
            }),
            Err(fault) => Err(fault),
        };
        let fault = outcome.err().unwrap_or_else(|| panic!("{name} was taken for a sound database"));
        assert!(is_told(fault.code) && fault.hint.is_some(), "{name}: {fault:?}");
        if name == "another program's database" || name == "text" {
            assert_eq!(fs::read(file(damaged.path())).unwrap(), bytes, "{name} was written to");
        }
    }
}

/// Frames of the write-ahead log that fail their checksum end it: what follows was never there, as far as SQLite can tell.
/// A checkpoint that somebody else holds shows the loss; nothing inside the file can.
#[tokio::test]
async fn a_damaged_write_ahead_log_loses_its_end_and_a_held_checkpoint_shows_it() {
    let directory = tempfile::tempdir().unwrap();
    let (store, log) = open(directory.path()).unwrap();
    for number in 0..RECORDS {
        record(&store, number).await;
    }
    let held = log.checkpoint().await.unwrap();
    let wal_name = format!("{}-wal", Store::FILE_NAME);
    let (main, wal) = (fs::read(file(directory.path())).unwrap(), fs::read(directory.path().join(&wal_name)).unwrap());
    let said = content(&store).await.unwrap();
    assert!(wal.len() > 100_000, "the log of this test holds everything: {}", wal.len());
    for (name, damage) in [
        ("garbage behind the end", Box::new(|wal: &mut Vec<u8>| wal.extend([7; 9_000])) as Box<dyn Fn(&mut Vec<u8>)>),
        (
            "a flipped byte in the middle",
            Box::new(|wal: &mut Vec<u8>| {
                let middle = wal.len() / 2;
                wal[middle] ^= 1
            }),
        ),
        ("cut in the middle of a frame", Box::new(|wal: &mut Vec<u8>| wal.truncate(wal.len() - 5_000))),
        (
            "garbage from the middle on",
            Box::new(|wal: &mut Vec<u8>| {
                let middle = wal.len() / 2;
                wal[middle..].fill(7)
            }),
        ),
    ] {
        let damaged = tempfile::tempdir().unwrap();
        let mut wal = wal.clone();
        damage(&mut wal);
        fs::write(file(damaged.path()), &main).unwrap();
        fs::write(damaged.path().join(&wal_name), wal).unwrap();
        let (store, log) = open(damaged.path()).unwrap();
        let now = content(&store).await.unwrap();
        assert!(said.starts_with(&now), "{name}: what is left is the beginning");
        assert_eq!(log.verify().await.unwrap().finding, None, "{name}: what is left is whole");
        let lost = now.len() < said.len();
        assert_eq!(lost, name != "garbage behind the end", "{name}: {} of {}", now.len(), said.len());
        let judged =
            source::sqlite::verify_file(&file(damaged.path()), &identity().verifier_key(), std::slice::from_ref(&held));
        assert_eq!(judged.is_err(), lost, "{name}: the held checkpoint");
        // The log goes on where it ends.
        record(&store, 99).await;
        assert_eq!(log.verify().await.unwrap().finding, None, "{name}");
    }
}

/// The file is damaged under a running server: reads and writes fail with a code, and the store lives on.
#[tokio::test]
async fn damage_under_a_running_server_is_told_and_kills_nothing() {
    let (directory, _) = sound().await;
    let (store, _) = open(directory.path()).unwrap();
    let length = fs::metadata(file(directory.path())).unwrap().len();
    let garbage = vec![0xA5; usize::try_from(length).unwrap() - 4_096];
    use std::os::unix::fs::FileExt;
    fs::OpenOptions::new().write(true).open(file(directory.path())).unwrap().write_all_at(&garbage, 4_096).unwrap();
    let read = tokio::time::timeout(Duration::from_secs(20), content(&store)).await.unwrap();
    assert_eq!(read.unwrap_err().code, Code::STORE_CORRUPT);
    for number in 0..3 {
        let event =
            AuditEvent::new(ambient().event_id(), ambient().now(), Actor::System, "test.act", format!("{number}"));
        let refused = store.record(event).await.unwrap_err();
        assert!([Code::STORE_CORRUPT, Code::AUDIT_UNAVAILABLE].contains(&refused.code), "{refused}");
    }
    // What needs no page still works: the readers are there, and the writer answers.
    assert_eq!(store.read(|_| Ok(1)).await, Ok(1));
    let answered = tokio::time::timeout(Duration::from_secs(20), store.write(|_| Ok(()))).await.unwrap();
    assert!(answered.is_ok() || answered.as_ref().is_err_and(|fault| is_told(fault.code)), "{answered:?}");
}
