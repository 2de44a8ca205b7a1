//! Ended tokens, which stay listed for a while so that records which name them can be read, and then go.

use agentos_store::{Conn, Tx};
use agentos_types::{Result, Timestamp};

/// Rows of tokens that were revoked or had expired before the instant.
pub fn count_ended(conn: &Conn<'_>, before: Timestamp) -> Result<u64> {
    let found = conn.query_one(
        "SELECT count(*) FROM token WHERE revoked_at < $1 OR expires_at < $1",
        &[before.into()],
        |row| row.integer(0),
    )?;
    Ok(found.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(0))
}

/// Takes at most so many of them away. A successor keeps the name of its line: no row is needed for it.
pub fn prune_ended(tx: &mut Tx<'_>, before: Timestamp, rows_max: i64) -> Result<u64> {
    let taken = tx.execute(
        "DELETE FROM token WHERE id IN
           (SELECT id FROM token WHERE revoked_at < $1 OR expires_at < $1 ORDER BY id LIMIT $2)",
        &[before.into(), rows_max.into()],
    )?;
    Ok(taken as u64)
}
