//! One pass of a pruner over its rows: how much it may take at once, how long that took, and the counts that belong into
//! the same transaction as the rows.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use agentos_base::Ambient;
use agentos_store::{Conn, Store, Tx};
use agentos_types::{Result, Timestamp};
use async_trait::async_trait;

use super::{Kind, Pruner, horizon, state};

/// Rows that one transaction takes at most.
pub const ROWS_MAX: i64 = 1_000;
/// On a slow machine fewer, but enough to come to an end.
const ROWS_MIN: i64 = 50;
/// A batch that holds the writer longer than this is followed by a smaller one.
const BUSY_MAX: Duration = Duration::from_millis(20);
/// The writer belongs to others nineteen twentieths of the time, so that the 95th percentile of their waits meets no batch.
const PAUSE_FACTOR: u32 = 19;
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What was taken, by kind.
pub type Taken = Vec<(Kind, u64)>;

/// The state of one pass. Nothing of it outlives the process; the rows themselves tell where a run goes on.
#[derive(Debug)]
pub struct Pass {
    pub store: Store,
    pub now: Timestamp,
    ambient: Ambient,
    rows_max: AtomicI64,
    cursor: Mutex<String>,
    busy: Mutex<Duration>,
}

impl Pass {
    pub(crate) fn new(store: Store, ambient: Ambient, now: Timestamp) -> Self {
        Self {
            store,
            now,
            ambient,
            rows_max: AtomicI64::new(ROWS_MAX),
            cursor: Mutex::default(),
            busy: Mutex::default(),
        }
    }

    pub fn rows_max(&self) -> i64 {
        self.rows_max.load(Ordering::Relaxed)
    }

    /// Where the next look begins. Rows that a pruner looked at and left alone are not looked at again in this pass.
    pub fn cursor(&self) -> String {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn advance(&self, cursor: String) {
        *self.cursor.lock().unwrap_or_else(PoisonError::into_inner) = cursor;
    }

    /// Takes rows and counts them in one transaction.
    pub async fn write(&self, take: impl FnOnce(&mut Tx<'_>) -> Result<Taken> + Send + 'static) -> Result<u64> {
        let begun = self.ambient.now();
        let taken = self
            .store
            .write(move |tx| {
                let counts = take(tx)?;
                state::count(tx, &counts)?;
                Ok(counts.iter().map(|(_, rows)| rows).sum())
            })
            .await?;
        // With its commit, which others of the same moment share; where they made it slow, slower is right as well.
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = self.ambient.now().since(begun);
        Ok(taken)
    }

    /// Does other work of a pass, and leaves the writer alone for as long as after a batch of rows.
    pub async fn timed<T>(&self, work: impl Future<Output = T>) -> T {
        let begun = self.ambient.now();
        let done = work.await;
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = self.ambient.now().since(begun);
        done
    }

    /// Fits the next batch to how long the last one held the writer, and tells how long to leave it alone.
    pub(crate) fn pace(&self) -> Duration {
        let busy = std::mem::take(&mut *self.busy.lock().unwrap_or_else(PoisonError::into_inner));
        let rows = self.rows_max();
        let next = if busy > BUSY_MAX { rows / 2 } else { rows.saturating_mul(2) };
        self.rows_max.store(next.clamp(ROWS_MIN, ROWS_MAX), Ordering::Relaxed);
        busy.saturating_mul(PAUSE_FACTOR).min(PAUSE_MAX)
    }
}

/// A pruner of rows that are simply too old: one statement counts them, one takes some of them away.
#[derive(Clone, Copy)]
pub struct Rows {
    pub kind: Kind,
    /// 0 keeps them for ever.
    pub days: u64,
    /// Rows older than the instant.
    pub count: fn(&Conn<'_>, Timestamp) -> Result<u64>,
    /// Takes at most so many of them away, and tells how many.
    pub take: fn(&mut Tx<'_>, Timestamp, i64) -> Result<u64>,
}

#[async_trait]
impl Pruner for Rows {
    async fn count(&self, store: &Store, now: Timestamp) -> Result<Vec<(Kind, u64)>> {
        let Rows { kind, count, days, .. } = *self;
        let Some(before) = horizon(now, days) else { return Ok(vec![(kind, 0)]) };
        let rows = store.read(move |conn| count(conn, before)).await?;
        Ok(vec![(kind, rows)])
    }

    async fn batch(&self, pass: &Pass) -> Result<bool> {
        let (Rows { kind, count: _, take, days }, rows_max) = (*self, pass.rows_max());
        let Some(before) = horizon(pass.now, days) else { return Ok(false) };
        let taken = pass.write(move |tx| Ok(vec![(kind, take(tx, before, rows_max)?)])).await?;
        Ok(i64::try_from(taken).is_ok_and(|taken| taken >= rows_max))
    }
}

/// A `count(*)` as a number of rows.
pub(crate) fn counted(found: Option<i64>) -> u64 {
    found.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(0)
}

/// A list of ids as the one parameter that both dialects can take apart.
pub(crate) fn listed(conn: &Conn<'_>, ids: &[String]) -> String {
    match conn.dialect() {
        agentos_store::Dialect::Sqlite => serde_json::json!(ids).to_string(),
        // Ids hold no commas.
        agentos_store::Dialect::Postgres => ids.join(","),
    }
}

/// The same statement for a list of ids in `$1`, as each dialect says it.
macro_rules! for_listed {
    ($conn:expr, $before:expr, $column:literal, $after:expr) => {
        match $conn.dialect() {
            agentos_store::Dialect::Sqlite => {
                concat!($before, " ", $column, " IN (SELECT value FROM json_each($1)) ", $after)
            }
            agentos_store::Dialect::Postgres => {
                concat!($before, " ", $column, " = ANY (string_to_array($1, ',')) ", $after)
            }
        }
    };
}
pub(crate) use for_listed;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_is_not_of_rows_is_followed_by_the_same_rest() {
        let directory = tempfile::tempdir().unwrap();
        let (ambient, clock) = Ambient::fake(1, Timestamp::from_millis(1_000));
        let store = Store::open(agentos_store::StoreOptions {
            directory: directory.path().into(),
            database: None,
            queue_max: 16,
            readers: 1,
            sequencer: None,
            ambient: ambient.clone(),
        })
        .unwrap();
        let pass = Pass::new(store, ambient, Timestamp::from_millis(1_000));
        assert_eq!(pass.pace(), Duration::ZERO, "nothing was done yet");
        let done = pass.timed(async { clock.advance(Duration::from_millis(40)) });
        done.await;
        let rows = pass.rows_max();
        assert_eq!(pass.pace(), Duration::from_millis(40) * PAUSE_FACTOR);
        assert_eq!(pass.rows_max(), rows / 2, "too long for one piece: the next is smaller");
        assert_eq!(pass.pace(), Duration::ZERO, "each rest follows its own work");
        pass.timed(async { clock.advance(Duration::from_secs(600)) }).await;
        assert_eq!(pass.pace(), PAUSE_MAX, "no rest holds up a run for minutes");
    }
}
