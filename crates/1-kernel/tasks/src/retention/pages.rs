//! The file of the embedded database. Pages that pruning frees are used again, so that the file stops growing; when more
//! than a quarter of it is free, for example after a retention was shortened, pages go back to the file system.

use agentos_store::{Conn, Dialect, Store};
use agentos_types::{Result, Timestamp};
use async_trait::async_trait;

use super::{Kind, Pass, Pruner, pass::counted};

/// A smaller file is not worth the work.
const FREE_PAGES_MIN: u64 = 1_000;
/// What is kept free for the next day's rows: a quarter.
const KEPT_PART: u64 = 4;

pub(super) struct Pages;

#[async_trait]
impl Pruner for Pages {
    async fn count(&self, store: &Store, _: Timestamp) -> Result<Vec<(Kind, u64)>> {
        Ok(vec![("free-pages", surplus(store).await?)])
    }

    async fn batch(&self, pass: &Pass) -> Result<bool> {
        let wanted = surplus(&pass.store).await?;
        if wanted == 0 {
            return Ok(false);
        }
        let freed = pass
            .write(|tx| {
                let before = free(tx)?;
                // A constant, because a pragma takes no parameters; half a thousand pages hold the writer for milliseconds.
                tx.query("PRAGMA incremental_vacuum(500)", &[], |_| Ok(()))?;
                Ok(vec![("free-pages", before.saturating_sub(free(tx)?))])
            })
            .await?;
        Ok(freed > 0)
    }
}

/// Pages above what is kept. None on Postgres, whose own vacuum does this, and none in a file that was made before pages
/// could be given back.
async fn surplus(store: &Store) -> Result<u64> {
    if store.dialect() == Dialect::Postgres {
        return Ok(0);
    }
    store
        .read(|conn| {
            let number = |sql| conn.query_one(sql, &[], |row| row.integer(0)).map(counted);
            let (free, all) = (free(conn)?, number("PRAGMA page_count")?);
            let can = number("PRAGMA auto_vacuum")? == 2;
            let kept = (all / KEPT_PART).max(FREE_PAGES_MIN);
            Ok(if can { free.saturating_sub(kept) } else { 0 })
        })
        .await
}

fn free(conn: &Conn<'_>) -> Result<u64> {
    conn.query_one("PRAGMA freelist_count", &[], |row| row.integer(0)).map(counted)
}
