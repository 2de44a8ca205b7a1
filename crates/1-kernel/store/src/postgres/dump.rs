//! The backup of a Postgres database before its schema changes, made by `pg_dump` as the role that owns the tables.
//!
//! Credentials go by the environment of that one process, never by its arguments, which everybody on the machine may
//! read.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use agentos_types::{Code, Fault, Result};
use tokio_postgres::config::Host;

use super::database::Target;
use crate::Conn;

/// A dump that takes longer belongs to the tools of the database, and is said with `--backup-taken`.
const DUMP_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Between two looks at the process: nothing waits for it in less.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What it has to say about a failure.
const COMPLAINT_BYTES_MAX: u64 = 2_000;
/// Where distributions put the programs, besides the search path; below each a directory a version.
const PLACES: &[&str] = &["/usr/lib/postgresql", "/usr/local/pgsql"];
/// Where the authorities of the system lie for a client library that does not know the word "system" yet.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Begins every dump in the custom format.
const MAGIC: &[u8] = b"PGDMP";
/// Variables of the operator's shell that would lead elsewhere.
const MISLEADING: &[&str] =
    &["PGSERVICE", "PGSERVICEFILE", "PGHOSTADDR", "PGOPTIONS", "PGREQUIRESSL", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL"];

/// Bytes that a dump takes at most: the tables without their indexes, as they lie on the disk.
pub(crate) fn bytes(conn: &Conn<'_>) -> Result<u64> {
    let sum = conn.query_one(
        "SELECT coalesce(sum(pg_table_size(oid)), 0)::bigint FROM pg_class
         WHERE relnamespace = to_regnamespace('agent_os') AND relkind IN ('r', 'p')",
        &[],
        |row| row.integer(0),
    )?;
    Ok(sum.and_then(|sum| u64::try_from(sum).ok()).unwrap_or(0))
}

/// Fills the file with a dump of the schema and its rows.
pub(crate) fn dump(admin: &Target, to: &Path) -> Result<()> {
    let child = start(admin, to)?;
    let (succeeded, complaint) = wait(child)?;
    if !succeeded {
        return Err(failed("pg_dump failed", complaint));
    }
    let mut magic = [0; 5];
    let read = File::open(to).and_then(|mut file| file.read_exact(&mut magic));
    if read.is_err() || magic != MAGIC {
        return Err(failed("pg_dump succeeded, and what it wrote is no dump", complaint));
    }
    Ok(())
}

fn start(admin: &Target, to: &Path) -> Result<Child> {
    for program in programs() {
        let file = OpenOptions::new().write(true).open(to).map_err(|source| crate::backup::failed(to, &source))?;
        let mut command = command(&program, admin);
        match command.stdin(Stdio::null()).stdout(file).stderr(Stdio::piped()).spawn() {
            Ok(child) => return Ok(child),
            Err(absent) if absent.kind() == std::io::ErrorKind::NotFound => {}
            Err(other) => return Err(failed("pg_dump cannot be started", other.to_string())),
        }
    }
    Err(failed("pg_dump is not installed", String::new()))
}

fn command(program: &Path, admin: &Target) -> Command {
    let mut command = Command::new(program);
    command.args(["--format=custom", "--schema=agent_os", "--no-password", "--lock-wait-timeout=10s"]);
    address(&mut command, admin);
    command
}

/// The one of the search path first, then the newest of the distribution's.
fn programs() -> Vec<PathBuf> {
    let mut programs = vec![PathBuf::from("pg_dump")];
    for place in PLACES {
        let versions = std::fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut versions: Vec<PathBuf> = versions.collect();
        versions.sort_by_key(|path| version(path));
        programs.extend(versions.into_iter().rev().map(|path| path.join("bin/pg_dump")));
        programs.push(Path::new(place).join("bin/pg_dump"));
    }
    programs
}

fn version(path: &Path) -> u32 {
    path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()).unwrap_or(0)
}

/// What `DATABASE_ADMIN_URL` says, in the words of the client library.
fn address(command: &mut Command, admin: &Target) {
    for name in MISLEADING {
        command.env_remove(name);
    }
    let config = &admin.config;
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    let ports: Vec<String> = config.get_ports().iter().map(u16::to_string).collect();
    command
        .env("PGHOST", hosts.join(","))
        .env("PGPORT", if ports.is_empty() { "5432".to_owned() } else { ports.join(",") })
        .env("PGUSER", &admin.user)
        .env("PGDATABASE", config.get_dbname().unwrap_or_default())
        .env("PGAPPNAME", "agent-os")
        .env("PGCONNECT_TIMEOUT", "5");
    if !config.get_hostaddrs().is_empty() {
        let addresses: Vec<String> = config.get_hostaddrs().iter().map(ToString::to_string).collect();
        command.env("PGHOSTADDR", addresses.join(","));
    }
    if let Some(password) = config.get_password() {
        use std::os::unix::ffi::OsStrExt;
        command.env("PGPASSWORD", std::ffi::OsStr::from_bytes(password));
    }
    command.env("PGSSLMODE", if admin.encrypted { "verify-full" } else { "disable" });
    let system = Path::new(SYSTEM_AUTHORITIES);
    match &admin.authority {
        Some(file) => command.env("PGSSLROOTCERT", file),
        None if system.exists() => command.env("PGSSLROOTCERT", system),
        None => command.env("PGSSLROOTCERT", "system"),
    };
}

/// Whether it succeeded, and what it said.
fn wait(mut child: Child) -> Result<(bool, String)> {
    let end = Instant::now() + DUMP_TIMEOUT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < end => thread::sleep(LOOK_EVERY),
            outcome => {
                let _ = child.kill().and_then(|()| child.wait().map(drop));
                let why = outcome.err().map_or_else(|| format!("not done within {DUMP_TIMEOUT:?}"), |e| e.to_string());
                return Err(failed("pg_dump was ended", why));
            }
        }
    };
    let mut complaint = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(COMPLAINT_BYTES_MAX).read_to_string(&mut complaint);
    }
    Ok((status.success(), complaint))
}

fn failed(what: &str, detail: String) -> Fault {
    let fault =
        Fault::new(Code::BACKUP_FAILED, format!("the database must be backed up before it is migrated: {what}")).hint(
            "install the client programs of the database's version (postgresql-client), or take a backup yourself and \
             run: agent-os migrate up --backup-taken",
        );
    if detail.is_empty() { fault } else { fault.detail(detail.trim()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Database;

    fn told(url: &str) -> (String, BTreeMap<String, Option<String>>) {
        let database = Database::parse("postgres://server:x@localhost/d", Some(url)).unwrap();
        let command = command(Path::new("pg_dump"), &database.admin.unwrap());
        let text = |word: &std::ffi::OsStr| word.to_str().unwrap().to_owned();
        let arguments: Vec<String> = command.get_args().map(text).collect();
        (arguments.join(" "), command.get_envs().map(|(name, value)| (text(name), value.map(text))).collect())
    }

    #[test]
    fn the_password_is_in_no_argument_and_the_way_is_the_same() {
        let (arguments, variables) = told("postgres://admin:hunter2hunter2@db.example:5433/agent_os");
        assert!(!arguments.contains("hunter2") && !arguments.contains("db.example"), "{arguments}");
        for (name, value) in [
            ("PGPASSWORD", "hunter2hunter2"),
            ("PGHOST", "db.example"),
            ("PGPORT", "5433"),
            ("PGUSER", "admin"),
            ("PGDATABASE", "agent_os"),
            ("PGSSLMODE", "verify-full"),
        ] {
            assert_eq!(variables[name].as_deref(), Some(value), "{name}");
        }
        assert!(variables["PGSSLROOTCERT"].is_some());
        // What the operator's shell says of other databases leads nowhere.
        assert_eq!((&variables["PGSERVICE"], &variables["PGOPTIONS"]), (&None, &None));
        let (_, variables) = told("postgres://admin:hunter2hunter2@%2Fvar%2Frun/agent_os");
        assert_eq!(variables["PGHOST"].as_deref(), Some("/var/run"));
        assert_eq!(
            (variables["PGPORT"].as_deref(), variables["PGSSLMODE"].as_deref()),
            (Some("5432"), Some("disable"))
        );
    }
}
