//! Searching the log by its indexed columns. What is returned is decoded from the sealed body, not from the columns.

use agentos_proof::{Record, leaf};
use agentos_store::{Arg, Conn};
use agentos_types::{Code, Fault, Result, TaskId, Timestamp, audit::Decision, limits::PAGE_MAX};

/// All given parts must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub actor: Option<String>,
    pub action: Option<String>,
    pub decision: Option<Decision>,
    pub task: Option<TaskId>,
    /// Inclusive.
    pub since: Option<Timestamp>,
    /// Exclusive.
    pub until: Option<Timestamp>,
    /// Continue after this sequence number, in the chosen direction.
    pub cursor: Option<i64>,
    pub limit: usize,
    pub ascending: bool,
}

/// A record and the hash under which it stands in the tree.
#[derive(Clone, Debug)]
pub struct StoredRecord {
    pub record: Record,
    pub leaf_hash: Vec<u8>,
}

pub fn query(conn: &Conn<'_>, log: &str, filter: &Filter) -> Result<Vec<StoredRecord>> {
    let decision = filter.decision.map(Decision::as_str);
    let limit = i64::try_from(filter.limit.clamp(1, PAGE_MAX + 1)).map_err(Fault::internal)?;
    let cursor = filter.cursor.unwrap_or(if filter.ascending { -1 } else { i64::MAX });
    let args = [
        Arg::Text(log),
        cursor.into(),
        filter.actor.as_deref().into(),
        filter.action.as_deref().into(),
        decision.into(),
        filter.task.as_ref().map(TaskId::as_str).into(),
        filter.since.into(),
        filter.until.into(),
        limit.into(),
    ];
    let sql = if filter.ascending { ASCENDING } else { DESCENDING };
    conn.query(sql, &args, |row| {
        let record = leaf::decode(&row.bytes(0)?)
            .map_err(|source| Fault::new(Code::AUDIT_TAMPERED, "an audit record cannot be read").detail(source))?;
        Ok(StoredRecord { record, leaf_hash: row.bytes(1)? })
    })
}

const ASCENDING: &str = "SELECT body, leaf_hash FROM audit_record
     WHERE log = $1 AND seq > $2
       AND ($3 IS NULL OR actor = $3) AND ($4 IS NULL OR action = $4) AND ($5 IS NULL OR decision = $5)
       AND ($6 IS NULL OR task = $6) AND ($7 IS NULL OR at >= $7) AND ($8 IS NULL OR at < $8)
     ORDER BY seq ASC LIMIT $9";

const DESCENDING: &str = "SELECT body, leaf_hash FROM audit_record
     WHERE log = $1 AND seq < $2
       AND ($3 IS NULL OR actor = $3) AND ($4 IS NULL OR action = $4) AND ($5 IS NULL OR decision = $5)
       AND ($6 IS NULL OR task = $6) AND ($7 IS NULL OR at >= $7) AND ($8 IS NULL OR at < $8)
     ORDER BY seq DESC LIMIT $9";
