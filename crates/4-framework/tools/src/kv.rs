//! `kv`: an agent's own durable values. One agent never sees another's: the agent's name is part of every key.

use agentos_failpoint::{Point, hit};
use agentos_protocol::syscall::{
    KvDelete, KvDeleteResult, KvGet, KvGetResult, KvList, KvListResult, KvPut, KvPutResult,
};
use agentos_store::{Arg, Conn, Tx};
use agentos_types::{AgentName, Code, Envelope, Fault, Result, Timestamp, limits::KV_VALUE_BYTES_MAX};

/// Keys of one agent. Together with the value limit this bounds what an agent can make the store hold.
const KEYS_MAX: i64 = 10_000;
/// Keys of one listing.
const LIST_MAX: usize = 500;

pub(crate) fn get(conn: &Conn<'_>, agent: &AgentName, args: &KvGet) -> Result<KvGetResult> {
    let found = conn.query_one(
        "SELECT version, value_key, value FROM kv WHERE agent = $1 AND key = $2",
        &[agent.into(), Arg::Text(&args.key)],
        |row| Ok((row.integer(0)?, Envelope { key_id: row.integer(1)?, bytes: row.bytes(2)? })),
    )?;
    match found {
        Some((version, value)) => Ok(KvGetResult { value: Some(value.open_value()?), version }),
        None => Ok(KvGetResult { value: None, version: 0 }),
    }
}

pub(crate) fn put(tx: &mut Tx<'_>, agent: &AgentName, args: &KvPut, now: Timestamp) -> Result<KvPutResult> {
    let value = Envelope::seal(&args.value)?;
    if value.bytes.len() > KV_VALUE_BYTES_MAX {
        return Err(Fault::new(
            Code::KV_LIMIT,
            format!("the value has {} bytes, more than {KV_VALUE_BYTES_MAX}", value.bytes.len()),
        ));
    }
    let stored = version_of(tx, agent, &args.key)?;
    if let Some(expected) = args.if_version
        && expected != stored
    {
        return Err(Fault::new(Code::KV_CONFLICT, format!("'{}' has version {stored}, not {expected}", args.key)));
    }
    if stored == 0 && count(tx, agent)? >= KEYS_MAX {
        return Err(Fault::new(Code::KV_LIMIT, format!("agent '{agent}' has {KEYS_MAX} keys already")));
    }
    let version = stored + 1;
    tx.execute(
        "INSERT INTO kv (agent, key, version, value_key, value, updated_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (agent, key) DO UPDATE
         SET version = excluded.version, value_key = excluded.value_key, value = excluded.value, updated_at = excluded.updated_at",
        &[
            agent.into(),
            Arg::Text(&args.key),
            version.into(),
            value.key_id.into(),
            Arg::Bytes(&value.bytes),
            now.into(),
        ],
    )?;
    hit(Point::ToolsKvWritten);
    Ok(KvPutResult { version })
}

pub(crate) fn delete(tx: &mut Tx<'_>, agent: &AgentName, args: &KvDelete) -> Result<KvDeleteResult> {
    let removed = tx.execute("DELETE FROM kv WHERE agent = $1 AND key = $2", &[agent.into(), Arg::Text(&args.key)])?;
    Ok(KvDeleteResult { existed: removed > 0 })
}

/// Keys with the prefix, by byte order. A range instead of LIKE: no character of a key has a second meaning.
pub(crate) fn list(conn: &Conn<'_>, agent: &AgentName, args: &KvList) -> Result<KvListResult> {
    let from = args.after.as_deref().unwrap_or_default();
    // The surplus key tells whether there are more.
    let one_more = i64::try_from(LIST_MAX + 1).map_err(Fault::internal)?;
    let mut keys = conn.query(
        "SELECT key FROM kv WHERE agent = $1 AND key > $2 AND key >= $3 AND substr(key, 1, length($3)) = $3
         ORDER BY key LIMIT $4",
        &[agent.into(), Arg::Text(from), Arg::Text(&args.prefix), one_more.into()],
        |row| row.text(0),
    )?;
    let truncated = keys.len() > LIST_MAX;
    keys.truncate(LIST_MAX);
    Ok(KvListResult { keys, truncated })
}

fn version_of(conn: &Conn<'_>, agent: &AgentName, key: &str) -> Result<i64> {
    let found = conn.query_one(
        "SELECT version FROM kv WHERE agent = $1 AND key = $2",
        &[agent.into(), Arg::Text(key)],
        |row| row.integer(0),
    )?;
    Ok(found.unwrap_or(0))
}

fn count(conn: &Conn<'_>, agent: &AgentName) -> Result<i64> {
    let found = conn.query_one("SELECT count(*) FROM kv WHERE agent = $1", &[agent.into()], |row| row.integer(0))?;
    Ok(found.unwrap_or(0))
}
