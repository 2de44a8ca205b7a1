//! The table `witness_target`: how far each target of the own log has come.

use agentos_proof::Frontier;
use agentos_store::{Arg, Conn};
use agentos_types::{Code, Fault, Result, Timestamp};

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct TargetRow {
    /// The tree under the newest checkpoint that has arrived; empty while none has.
    pub frontier: Frontier,
    pub at: Timestamp,
    pub note: String,
    /// The witness refuses the log with this code.
    pub refused: Option<Code>,
}

pub(crate) fn read(conn: &Conn<'_>, target: &str) -> Result<Option<TargetRow>> {
    let sql = "SELECT frontier, at, note, refused_code FROM witness_target WHERE target = $1";
    let found = conn.query_one(sql, &[target.into()], |row| {
        Ok((row.bytes(0)?, row.time(1)?, row.text(2)?, row.parsed_or_null(3)?))
    })?;
    found
        .map(|(frontier, at, note, refused)| {
            Ok(TargetRow { frontier: Frontier::from_bytes(&frontier)?, at, note, refused })
        })
        .transpose()
}

pub(crate) fn write(conn: &Conn<'_>, target: &str, row: &TargetRow) -> Result<()> {
    let size = i64::try_from(row.frontier.size()).map_err(Fault::internal)?;
    let refused = row.refused.map(|code| code.to_string());
    conn.execute(
        "INSERT INTO witness_target (target, size, at, frontier, note, refused_code) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (target) DO UPDATE SET size = excluded.size, at = excluded.at, frontier = excluded.frontier,
           note = excluded.note, refused_code = excluded.refused_code",
        &[
            target.into(),
            size.into(),
            row.at.into(),
            Arg::Bytes(&row.frontier.to_bytes()),
            Arg::Text(&row.note),
            refused.as_deref().into(),
        ],
    )?;
    Ok(())
}
