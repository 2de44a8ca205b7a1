//! What the installation holds at one moment: rows and bytes of the database, memory and descriptors of its processes.

use std::collections::BTreeMap;

use agentos_kit::TestOs;
use agentos_scratch::Scratch;

use crate::chaos::processes::{descriptors, resident_kib, workers};

/// Tables of the audit log have a retention of their own, and what nobody prunes is not counted either.
const OTHERS: &[&str] = &["audit_record", "audit_checkpoint", "audit_frontier", "schema_migration"];

#[derive(Clone, Debug)]
pub struct Gauge {
    pub rows: BTreeMap<String, i64>,
    /// Of all tables and indexes but those of the audit log.
    pub bytes: i64,
    /// Of the whole database with its log of changes.
    pub bytes_all: i64,
    pub resident_kib: u64,
    pub descriptors: usize,
}

impl Gauge {
    pub fn read(os: &TestOs, scratch: &Scratch) -> Self {
        let (rows, bytes, bytes_all) = match scratch.urls() {
            None => embedded(os),
            Some(_) => postgres(scratch),
        };
        let server = os.server_pid();
        let processes: Vec<u32> =
            std::iter::once(server).chain(workers(server).iter().map(|seen| seen.process.pid)).collect();
        Self {
            rows,
            bytes,
            bytes_all,
            resident_kib: processes.iter().map(|pid| resident_kib(*pid)).sum(),
            descriptors: processes.iter().map(|pid| descriptors(*pid)).sum(),
        }
    }

    pub fn rows_of(&self, table: &str) -> i64 {
        self.rows.get(table).copied().unwrap_or(0)
    }
}

fn embedded(os: &TestOs) -> (BTreeMap<String, i64>, i64, i64) {
    let path = os.home().join("agent-os.db");
    let database = rusqlite::Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let number = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let mut names = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let counted = names.into_iter().filter(|name| !OTHERS.contains(&name.as_str()) && !name.starts_with("sqlite_"));
    let rows = counted.map(|name| (name.clone(), number(&format!("SELECT count(*) FROM {name}")))).collect();
    let bytes = number("SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name NOT LIKE '%audit%'");
    let size = |name: &str| std::fs::metadata(os.home().join(name)).map_or(0, |metadata| metadata.len());
    let all = size("agent-os.db") + size("agent-os.db-wal");
    (rows, bytes, i64::try_from(all).unwrap())
}

fn postgres(scratch: &Scratch) -> (BTreeMap<String, i64>, i64, i64) {
    let ask = |sql: &str| scratch.postgres().ask(sql).unwrap_or_default();
    let others: Vec<String> = OTHERS.iter().map(|name| format!("'{name}'")).collect();
    let names = ask(&format!(
        "SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'agent_os'::regnamespace
         AND relkind IN ('r', 'p') AND NOT relispartition AND relname NOT IN ({})",
        others.join(", ")
    ));
    let number = |sql: &str| ask(sql).parse().unwrap_or(0);
    let rows = names
        .split_whitespace()
        .map(|name| (name.to_owned(), number(&format!("SELECT count(*) FROM agent_os.{name}"))))
        .collect();
    // Dead versions that its own vacuum clears when it pleases must not decide about the test.
    scratch.postgres().vacuum();
    let bytes = number(
        "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
         WHERE relnamespace = 'agent_os'::regnamespace AND relkind = 'r' AND relname NOT LIKE '%audit%'",
    );
    (rows, bytes, number("SELECT pg_database_size(current_database())"))
}
