//! What stands in the database before the server may use it: the schema, the rights of the server's role, the lock under
//! which both are made. And the proof that the server's role cannot do more than it should.

use agentos_base::Ambient;
use agentos_types::{Code, Fault, Result};

use super::{Database, Link, Role, database::Target};
use crate::{Conn, Migration, link, migrate};

/// Names the migration among all advisory locks: "agentos" in ASCII, and 2.
const MIGRATION_LOCK: i64 = 0x0061_6765_6e74_6f02;

/// A connection that may migrate, if its role may.
pub(crate) fn admin(target: &Target, ambient: &Ambient) -> Result<link::Link> {
    let mut link = Link::new(target, Role::Admin, ambient)?;
    link.connect()?;
    Ok(link::Link::Postgres(Box::new(link)))
}

/// At the begin of a transaction that migrates.
pub(crate) fn enter(conn: &Conn<'_>) -> Result<()> {
    conn.execute_script(&format!(
        "SELECT pg_advisory_xact_lock({MIGRATION_LOCK}); CREATE SCHEMA IF NOT EXISTS agent_os"
    ))
}

/// Runs work of the owner: a transaction of its own on a connection that ends with it.
pub(crate) fn administer<T>(
    admin: Option<&Target>,
    ambient: &Ambient,
    work: impl FnOnce(&Conn<'_>) -> Result<T>,
) -> Result<T> {
    let admin = admin.ok_or_else(|| {
        Fault::new(Code::STORE_ROLE, "the server's role may not do this").hint(
            "set DATABASE_ADMIN_URL to the role that owns the tables, for this start; the server works as it in nothing else",
        )
    })?;
    let mut link = Link::new(admin, Role::Admin, ambient)?;
    link.begin_write()?;
    match work(&Conn::postgres(&link)) {
        Ok(value) => link.commit(&[]).map(|()| value),
        Err(fault) => {
            link.roll_back();
            Err(fault)
        }
    }
}

/// Number of the schema, for a server whose role may not migrate: it must let this program run as it is.
pub(crate) fn require_current(
    database: &Database,
    ambient: &Ambient,
    known: &'static [Migration],
) -> Result<migrate::State> {
    let mut link = Link::new(&database.server, Role::Reader, ambient)?;
    link.begin_read()?;
    migrate::require_current(&Conn::postgres(&link), known)
}

/// All rights of the server's role, each time anew: a table that a migration adds is covered by the same text.
pub(crate) fn grant(conn: &Conn<'_>, role: &str) -> Result<()> {
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    let quoted = role.replace('\'', "''");
    conn.execute_script(&format!(
        "GRANT USAGE ON SCHEMA agent_os TO {role};
         REVOKE ALL ON ALL TABLES IN SCHEMA agent_os FROM {role}, PUBLIC;
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA agent_os TO {role};
         REVOKE UPDATE, DELETE ON audit_record, audit_checkpoint FROM {role};
         DO $rights$ DECLARE held regclass; BEGIN
           FOR held IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_record'::regclass LOOP
             EXECUTE 'REVOKE ALL ON ' || held || ' FROM {quoted}, PUBLIC';
           END LOOP;
           FOR held IN SELECT oid FROM pg_class WHERE relnamespace = 'agent_os'::regnamespace
             AND relname IN ('audit_day', 'audit_prune', 'audit_key') LOOP
             EXECUTE 'REVOKE UPDATE, DELETE ON ' || held || ' FROM {quoted}';
           END LOOP;
           IF to_regprocedure('audit_open_days(bigint, bigint)') IS NOT NULL THEN
             EXECUTE 'GRANT EXECUTE ON FUNCTION audit_open_days(BIGINT, BIGINT) TO {quoted}';
           END IF;
         END $rights$;
         REVOKE INSERT, UPDATE, DELETE ON schema_migration FROM {role}"
    ))?;
    // Not there in a schema of an older program. One by one: a function that runs with the owner's rights is not for all.
    let there = conn.query_one(
        "SELECT count(*) FROM pg_proc WHERE oid = to_regprocedure('agent_os.history_open_day(bigint)')",
        &[],
        |row| row.integer(0),
    )?;
    if there == Some(0) {
        return Ok(());
    }
    conn.execute_script(&format!(
        "GRANT EXECUTE ON FUNCTION history_open_day(BIGINT), history_drop_day(BIGINT) TO {role}"
    ))
}

/// Refuses a database that would break what the product promises: a role that can change the audit log or owns anything,
/// an encoding that cannot hold every text.
pub(crate) fn check_server(conn: &Conn<'_>, role: &str) -> Result<()> {
    let excess = conn.query_one(
        "SELECT count(*) FROM pg_class AS held
         WHERE held.relnamespace = to_regnamespace('agent_os')
           AND (pg_has_role(held.relowner, 'MEMBER')
             OR (held.relname IN ('audit_record', 'audit_checkpoint', 'audit_day', 'audit_prune', 'audit_key')
                 OR held.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass('audit_record')))
               AND held.relkind IN ('r', 'p')
               AND has_table_privilege(held.oid, 'UPDATE, DELETE, TRUNCATE, TRIGGER'))",
        &[],
        |row| row.integer(0),
    )?;
    if excess != Some(0) {
        return Err(Fault::new(
            Code::STORE_ROLE,
            format!("the role '{role}' of DATABASE_URL owns tables of AgentOS or may change audit records"),
        )
        .hint("use a role that is no superuser, owns nothing, and got its rights from the migration"));
    }
    let encoding = conn.query_one("SELECT current_setting('server_encoding')", &[], |row| row.text(0))?;
    if encoding.as_deref() != Some("UTF8") {
        return Err(Fault::new(Code::CONFIG_INVALID_VALUE, "the database is not in UTF8")
            .hint("create it with: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"));
    }
    let fsync = conn.query_one("SELECT current_setting('fsync')", &[], |row| row.text(0))?;
    if fsync.as_deref() == Some("off") {
        tracing::warn!("the database runs with fsync = off: what was acknowledged is lost when its machine fails");
    }
    Ok(())
}
