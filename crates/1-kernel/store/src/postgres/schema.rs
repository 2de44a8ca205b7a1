//! What stands in the database before the server may use it: the schema, the rights of the server's role, the lock under
//! which both are made. And the proof that the server's role cannot do more than it should.

use agentos_base::Ambient;
use agentos_types::{Code, Fault, Result};

use super::{Database, Link, Role, database::Target};
use crate::{Conn, migrate};

/// Names the migration among all advisory locks: "agentos" in ASCII, and 2.
const MIGRATION_LOCK: i64 = 0x0061_6765_6e74_6f02;

/// Brings the schema up to date with the admin role, if there is one. Returns the schema's number.
pub(crate) fn prepare(database: &Database, ambient: &Ambient) -> Result<i64> {
    match &database.admin {
        Some(admin) => as_admin(admin, ambient, |conn| {
            let schema = migrate::up(&conn, ambient.now())?;
            conn.execute_script(&rights(&database.server.user))?;
            Ok(schema)
        }),
        None => current(database, ambient),
    }
}

/// Reverts every migration above `target`.
pub(crate) fn revert(database: &Database, ambient: &Ambient, target: i64) -> Result<()> {
    let admin = database.admin.as_ref().ok_or_else(|| {
        Fault::new(Code::STORE_ROLE, "the server's role may not migrate").hint("set DATABASE_ADMIN_URL")
    })?;
    as_admin(admin, ambient, |conn| migrate::down(&conn, target))
}

fn as_admin<T>(admin: &Target, ambient: &Ambient, work: impl FnOnce(Conn<'_>) -> Result<T>) -> Result<T> {
    let mut link = Link::new(admin, Role::Admin, ambient)?;
    link.begin_write()?;
    let outcome = Ok(())
        .and_then(|()| {
            link.execute_script(&format!(
                "SELECT pg_advisory_xact_lock({MIGRATION_LOCK}); CREATE SCHEMA IF NOT EXISTS agent_os"
            ))
        })
        .and_then(|()| work(Conn::postgres(&link)));
    match outcome {
        Ok(value) => link.commit().map(|()| value),
        Err(fault) => {
            link.roll_back();
            Err(fault)
        }
    }
}

fn current(database: &Database, ambient: &Ambient) -> Result<i64> {
    let mut link = Link::new(&database.server, Role::Reader, ambient)?;
    link.begin_read()?;
    let conn = Conn::postgres(&link);
    // A role without the right to use the schema sees none.
    let there =
        conn.query_one("SELECT count(*) FROM pg_class WHERE oid = to_regclass('schema_migration')", &[], |row| {
            row.integer(0)
        })?;
    if there == Some(0) { Err(migrate::older(0)) } else { migrate::require_current(&conn) }
}

/// All rights of the server's role, each time anew: a table that a migration adds is covered by the same text.
fn rights(role: &str) -> String {
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    format!(
        "GRANT USAGE ON SCHEMA agent_os TO {role};
         REVOKE ALL ON ALL TABLES IN SCHEMA agent_os FROM {role}, PUBLIC;
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA agent_os TO {role};
         REVOKE UPDATE, DELETE ON audit_record, audit_checkpoint FROM {role};
         REVOKE INSERT, UPDATE, DELETE ON schema_migration FROM {role};
         GRANT EXECUTE ON FUNCTION history_open_day(BIGINT), history_drop_day(BIGINT) TO {role}"
    )
}

/// Refuses a database that would break what the product promises: a role that can change the audit log or owns anything,
/// an encoding that cannot hold every text.
pub(crate) fn check_server(conn: &Conn<'_>, role: &str) -> Result<()> {
    let excess = conn.query_one(
        "SELECT count(*) FROM pg_class AS held
         WHERE held.relnamespace = to_regnamespace('agent_os')
           AND (pg_has_role(held.relowner, 'MEMBER')
             OR held.relname IN ('audit_record', 'audit_checkpoint')
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
