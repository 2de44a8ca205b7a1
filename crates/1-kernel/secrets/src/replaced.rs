//! Versions of secrets that were replaced long ago. A retiring value is kept to be masked in whatever still prints it; after
//! a year nothing does, and a value that nobody needs is better not stored.

use agentos_store::{Conn, Tx};
use agentos_types::{Result, Timestamp};

/// Not active, and its successor was made before the instant. The newest version of a name always stays: the next one
/// counts on from it.
macro_rules! replaced {
    () => {
        "state <> 'active' AND EXISTS (SELECT 1 FROM secret AS next
           WHERE next.name = secret.name AND next.version > secret.version AND next.created_at < $1)"
    };
}

pub fn count_replaced(conn: &Conn<'_>, before: Timestamp) -> Result<u64> {
    let found =
        conn.query_one(concat!("SELECT count(*) FROM secret WHERE ", replaced!()), &[before.into()], |row| {
            row.integer(0)
        })?;
    Ok(found.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(0))
}

/// Takes at most so many of them away. Their values stay masked until the end of the process.
pub fn prune_replaced(tx: &mut Tx<'_>, before: Timestamp, rows_max: i64) -> Result<u64> {
    let taken = tx.execute(
        concat!(
            "DELETE FROM secret WHERE (name, version) IN (SELECT name, version FROM secret WHERE ",
            replaced!(),
            " ORDER BY name, version LIMIT $2)"
        ),
        &[before.into(), rows_max.into()],
    )?;
    Ok(taken as u64)
}
