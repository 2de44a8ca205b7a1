//! The log beside the database is carried into it by a thread of its own. Whoever commits would wait for that otherwise: each
//! hundredth commit for a thousand pages and two more syncs of the disk.
//!
//! The log begins anew once all of it is carried over and nobody reads in it. While one commit follows another that moment does
//! not come by itself: from a certain length on the writer carries the rest over.

use std::{
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use agentos_types::{Fault, Result};
use rusqlite::{Connection, hooks::Wal};

use super::{fault, prepare};

/// Pages by which the log grows until it is carried over: 8 MiB.
const PAGES_EVERY: i32 = 2_000;
/// The length from which on the writer does it: 32 MiB. A server that was killed reads all of it when it starts.
const PAGES_MAX: i32 = 8_000;

/// Dropped, it waits for the end of its thread.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    wake: SyncSender<Wake>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Wake {
    /// There is something to carry over.
    Grown,
    End,
}

impl Checkpointer {
    pub(crate) fn start(writer: &mut Connection, path: &Path) -> Result<Self> {
        let (wake, woken) = sync_channel(1);
        let path = path.to_owned();
        let thread = thread::Builder::new().name("store-log".into()).spawn(move || carry(&path, &woken));
        let thread = thread.map_err(Fault::internal)?;
        let (mut due, grown) = (PAGES_EVERY, wake.clone());
        let committed = move |log: &mut Wal, pages: i32| {
            if pages < due - PAGES_EVERY {
                due = PAGES_EVERY;
            }
            if pages >= PAGES_MAX.max(due) {
                // The commit is durable, whatever becomes of this. While the thread is at it the next commit tries again.
                due = if log.checkpoint().is_ok() { pages + PAGES_EVERY } else { pages };
            } else if pages >= due {
                due = pages + PAGES_EVERY;
                // Full: it is awake.
                let _ = grown.try_send(Wake::Grown);
            }
            Ok(())
        };
        let kept = Self { wake, thread: Some(thread) };
        writer.wal_hook(Some(committed)).map_err(fault)?;
        Ok(kept)
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.wake.send(Wake::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What fails is tried again with the next pages.
fn carry(path: &Path, woken: &Receiver<Wake>) {
    let mut opened = None;
    while let Ok(Wake::Grown) = woken.recv() {
        let connection = match opened.take() {
            Some(connection) => Ok(connection),
            None => Connection::open(path).map_err(fault).and_then(prepare),
        };
        // Passive: it waits for nobody, and nobody for it.
        let carried = connection.and_then(|connection| {
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).map_err(fault)?;
            Ok(connection)
        });
        match carried {
            Ok(connection) => opened = Some(connection),
            Err(fault) => tracing::warn!(%fault, detail = fault.detail, "the database's log is not carried over"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sqlite::open_writer;

    /// 4 KiB a row, each a commit of its own.
    fn fill(writer: &Connection, rows: usize) {
        for _ in 0..rows {
            writer.execute("INSERT INTO filler VALUES (randomblob(4000))", []).unwrap();
        }
    }

    #[test]
    fn the_log_is_carried_over_beside_the_commits_and_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.db");
        let mut writer = open_writer(&path).unwrap();
        writer.execute_batch("PRAGMA synchronous = OFF; CREATE TABLE filler (bytes BLOB)").unwrap();
        let checkpointer = Checkpointer::start(&mut writer, &path).unwrap();
        let database = || std::fs::metadata(&path).unwrap().len();
        let log = || std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
        fill(&writer, 200);
        assert!(database() < 200 * 4_096, "nothing is carried over by a commit");
        fill(&writer, 1_000);
        let began = Instant::now();
        while database() < 1_000 * 4_096 {
            assert!(began.elapsed() < Duration::from_secs(60), "the thread has not carried the log over");
            thread::yield_now();
        }
        fill(&writer, 8_000);
        assert!(log() < 2 * u64::try_from(PAGES_MAX).unwrap() * 4_096, "the log has a bound");
        drop(writer);
        drop(checkpointer);
        let reopened = Connection::open(&path).unwrap();
        let rows: i64 = reopened.query_row("SELECT count(*) FROM filler", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 9_200);
    }
}
