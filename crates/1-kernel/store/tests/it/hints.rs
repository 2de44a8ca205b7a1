//! What nodes of one database tell each other: with each commit, to everybody but themselves, and never as the only way.

use std::time::Duration;

use agentos_base::Ambient;
use agentos_scratch::{Backend, Scratch};
use agentos_store::{Database, Store, StoreOptions};
use agentos_types::{AgentName, Fault, TaskId, Timestamp, notify::Notice};
use futures_util::{StreamExt, stream};
use tempfile::TempDir;
use tokio::sync::{broadcast, mpsc};
use tokio_postgres::{AsyncMessage, NoTls};

fn node() -> (TempDir, Scratch, Store) {
    let (directory, scratch) = (tempfile::tempdir().unwrap(), Backend::Postgres.scratch());
    let (url, admin) = scratch.urls().unwrap();
    let options = StoreOptions {
        directory: directory.path().into(),
        database: Some(Database::parse(url, Some(admin)).unwrap()),
        queue_max: 1_024,
        readers: 1,
        sequencer: None,
        ambient: Ambient::fake(1, Timestamp::from_millis(1)).0,
    };
    let store = Store::open(options).unwrap();
    (directory, scratch, store)
}

fn agent() -> AgentName {
    "echo".parse().unwrap()
}

async fn announce(store: &Store, notice: Notice) {
    let told = store.write(move |tx| {
        tx.announce(notice);
        Ok(())
    });
    told.await.unwrap();
}

/// Only a defect lets the time-out pass.
async fn next(notices: &mut broadcast::Receiver<Notice>) -> Notice {
    tokio::time::timeout(Duration::from_secs(20), notices.recv()).await.unwrap().unwrap()
}

/// What another session says, as another node would.
fn say(scratch: &Scratch, payload: &str) {
    scratch.postgres().ask(&format!("SELECT pg_notify('agent_os', '{payload}')::text"));
}

/// Another node's ear: the payloads that it hears.
async fn overhear(scratch: &Scratch) -> mpsc::UnboundedReceiver<String> {
    let (client, mut connection) = tokio_postgres::connect(scratch.urls().unwrap().0, NoTls).await.unwrap();
    let (sender, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(said) = message {
                let _ = sender.send(said.payload().to_owned());
            }
        }
    });
    client.batch_execute("LISTEN agent_os").await.unwrap();
    // Lives as long as the test.
    Box::leak(Box::new(client));
    heard
}

#[tokio::test]
async fn what_others_commit_is_heard_and_what_we_commit_is_heard_once() {
    let (_directory, scratch, store) = node();
    let mut notices = store.subscribe();
    say(&scratch, "work:echo event:task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E");
    assert_eq!(next(&mut notices).await, Notice::WorkFor(agent()));
    assert!(matches!(next(&mut notices).await, Notice::TaskEvents(_)));
    announce(&store, Notice::Schedules).await;
    assert_eq!(next(&mut notices).await, Notice::Schedules);
    // The words of a session are heard in their order: had our own come back, they would be here.
    let mut records = store.subscribe_audit();
    say(&scratch, "audit");
    assert_eq!(next(&mut records).await, Notice::Audit);
    say(&scratch, "words of a later release");
    assert_eq!(next(&mut records).await, Notice::Missed);
    assert_eq!(next(&mut notices).await, Notice::Missed);
}

#[tokio::test]
async fn others_hear_a_commit_once_and_nothing_of_what_was_taken_back() {
    let (_directory, scratch, store) = node();
    let mut heard = overhear(&scratch).await;
    let refused = store.write(|tx| {
        tx.announce(Notice::Schedules);
        tx.announce_here(Notice::Schedules);
        Err::<(), _>(Fault::internal("no"))
    });
    assert!(refused.await.is_err());
    let told = store.write(|tx| {
        for _ in 0..3 {
            tx.announce(Notice::WorkFor(agent()));
            tx.announce(Notice::Agent(agent()));
            tx.announce_here(Notice::Schedules);
        }
        Ok(())
    });
    told.await.unwrap();
    assert_eq!(heard.recv().await.as_deref(), Some("agent:echo work:echo"));
    // More than one payload holds.
    let many = store.write(|tx| {
        (0..600).for_each(|number| tx.announce(Notice::TaskEvents(TaskId::generate(Timestamp::ZERO, number))));
        Ok(())
    });
    many.await.unwrap();
    let mut words = 0;
    while words < 600 {
        let payload = heard.recv().await.unwrap();
        assert!(payload.len() < 8_000, "{}", payload.len());
        words += payload.split(' ').count();
    }
    assert_eq!(words, 600);
    announce(&store, Notice::Audit).await;
    assert_eq!(heard.recv().await.as_deref(), Some("audit"));
}

#[tokio::test]
async fn after_a_lost_connection_subscribers_read_again_and_hear_again() {
    let (_directory, scratch, store) = node();
    let (mut notices, mut records) = (store.subscribe(), store.subscribe_audit());
    for _ in 0..2 {
        scratch.postgres().disconnect_all();
        assert_eq!(next(&mut notices).await, Notice::Missed);
        assert_eq!(next(&mut records).await, Notice::Missed);
        say(&scratch, "work:echo");
        assert_eq!(next(&mut notices).await, Notice::WorkFor(agent()));
        // The writer has another session now, and is still not heard twice.
        announce(&store, Notice::Schedules).await;
        assert_eq!(next(&mut notices).await, Notice::Schedules);
        say(&scratch, "audit");
        assert_eq!(next(&mut records).await, Notice::Audit);
    }
}

#[tokio::test]
async fn a_store_closes_at_once_while_its_ear_waits_for_the_database() {
    let (_directory, scratch, store) = node();
    scratch.postgres().refuse_connections(true);
    scratch.postgres().disconnect_all();
    let start = std::time::Instant::now();
    drop(store);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    scratch.postgres().refuse_connections(false);
}
