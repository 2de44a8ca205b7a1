//! Searching the log by its indexed columns. What is returned is decoded from the sealed body, not from the columns. What
//! was ordered to be pruned is not found any more, also while it is still being deleted.

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
     WHERE log = $1 AND seq > $2 AND seq >= (SELECT coalesce(max(first_kept), 0) FROM audit_prune WHERE log = $1)
       AND (actor = $3 OR $3 IS NULL) AND (action = $4 OR $4 IS NULL) AND (decision = $5 OR $5 IS NULL)
       AND (task = $6 OR $6 IS NULL) AND (at >= $7 OR $7 IS NULL) AND (at < $8 OR $8 IS NULL)
     ORDER BY seq ASC LIMIT $9";

const DESCENDING: &str = "SELECT body, leaf_hash FROM audit_record
     WHERE log = $1 AND seq < $2 AND seq >= (SELECT coalesce(max(first_kept), 0) FROM audit_prune WHERE log = $1)
       AND (actor = $3 OR $3 IS NULL) AND (action = $4 OR $4 IS NULL) AND (decision = $5 OR $5 IS NULL)
       AND (task = $6 OR $6 IS NULL) AND (at >= $7 OR $7 IS NULL) AND (at < $8 OR $8 IS NULL)
     ORDER BY seq DESC LIMIT $9";
