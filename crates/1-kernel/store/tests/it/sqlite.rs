//! What only the embedded database can be made to do.

use std::path::Path;

use agentos_base::Ambient;
use agentos_store::{MIGRATIONS, Migration, Store, StoreOptions};
use agentos_types::{Code, Result, Timestamp};

use crate::future::{EXPANDED, next_release};

fn open(directory: &Path, known: &'static [Migration]) -> Result<Store> {
    let (ambient, _) = Ambient::fake(1, Timestamp::from_millis(1));
    let options = StoreOptions {
        directory: directory.into(),
        database: None,
        queue_max: 64,
        readers: 2,
        sequencer: None,
        ambient,
    };
    Store::open_as(options, known)
}

#[tokio::test]
async fn without_room_for_the_backup_nothing_is_migrated() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path(), MIGRATIONS).unwrap());
    // As if it were larger than what is free: a hole of eight terabytes behind the last page.
    let file = std::fs::OpenOptions::new().write(true).open(directory.path().join(Store::FILE_NAME)).unwrap();
    let (length, hole) = (file.metadata().unwrap().len(), 8 << 40);
    file.set_len(hole).unwrap();
    let refused = open(directory.path(), next_release()).unwrap_err();
    assert_eq!(refused.code, Code::BACKUP_FAILED);
    assert!(refused.message.contains(&format!("needs {} bytes", hole + 16 * 1024 * 1024)), "{refused}");
    file.set_len(length).unwrap();
    assert_eq!(open(directory.path(), MIGRATIONS).unwrap().schema(), Store::schema_known());
    assert_eq!(open(directory.path(), next_release()).unwrap().schema(), EXPANDED);
}

#[tokio::test]
async fn after_a_full_disk_only_a_write_with_room_counts_as_working() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), MIGRATIONS).unwrap();
    // No page more than the file has, or plenty: to the writer, a full disk and a freed one.
    let limit = async |full: bool| {
        store
            .write(move |tx| {
                let statement = if full { "PRAGMA max_page_count = 1" } else { "PRAGMA max_page_count = 1000" };
                tx.query_one(statement, &[], |row| row.integer(0))
            })
            .await
            .unwrap();
    };
    assert_eq!(store.probe().await, Ok(()));
    limit(true).await;
    let big = store.write(|tx| {
        let value = "x".repeat(256 * 1024);
        tx.execute("INSERT INTO installation (name, value) VALUES ('big', $1)", &[value.as_str().into()])
    });
    assert_eq!(big.await.unwrap_err().code, Code::STORE_UNAVAILABLE);
    assert_eq!(store.write(|_| Ok(())).await, Ok(()), "an empty write says nothing about the disk");
    for _ in 0..3 {
        assert_eq!(store.probe().await.unwrap_err().code, Code::STORE_UNAVAILABLE);
    }
    limit(false).await;
    assert_eq!(store.probe().await, Ok(()));
    let left = store.read(|conn| conn.query("SELECT name FROM installation", &[], |row| row.text(0))).await.unwrap();
    assert!(left.is_empty(), "the probe leaves nothing: {left:?}");
}
