//! What only the embedded database can be made to do.

use agentos_base::Ambient;
use agentos_store::{Store, StoreOptions};
use agentos_types::{Code, Timestamp};

#[tokio::test]
async fn after_a_full_disk_only_a_write_with_room_counts_as_working() {
    let directory = tempfile::tempdir().unwrap();
    let (ambient, _) = Ambient::fake(1, Timestamp::from_millis(1));
    let options = StoreOptions {
        directory: directory.path().into(),
        database: None,
        queue_max: 64,
        readers: 2,
        sequencer: None,
        ambient,
    };
    let store = Store::open(options).unwrap();
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
