//! What a command asks of the program itself: work that needs the server's code in this process.

mod sandbox;

use std::path::{Path, PathBuf};

use agentos_api::body::Check;
use agentos_base::config::Source;
use agentos_types::{Result, Timestamp, agent::Control, machine::Machine};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub use sandbox::{AllowedHost, Denial, NotEnforced, RunOrder, RunReport, RunUsage, Share, Wall};

#[async_trait]
pub trait Host: Send + Sync {
    /// Makes a new installation in an empty or absent directory; never touches an existing one.
    async fn init(&self, data_dir: &Path, source: Source) -> Result<InitReport>;

    /// Starts the server and sends one report when it is ready. Detached, it returns then, and the server goes on in a
    /// process of its own; in the foreground it returns when the server has stopped.
    async fn up(&self, options: UpOptions, ready: oneshot::Sender<UpReport>) -> Result<()>;

    /// Examines this machine and the installation without changing either. Works with and without a running server.
    async fn doctor(&self, data_dir: &Path, source: Source) -> Result<DoctorReport>;

    /// Looks at the schema of a stopped installation, or changes it.
    async fn migrate(&self, data_dir: &Path, source: Source, order: MigrateOrder) -> Result<MigrateReport>;

    /// Runs a command in a sandbox on the standard streams of this process, and returns when it has ended. An error means
    /// that it did not run. Needs no installation.
    async fn sandbox_run(&self, order: RunOrder) -> Result<RunReport>;
}

/// What `migrate` is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrateOrder {
    Status,
    Plan(MigrateWay),
    Change {
        way: MigrateWay,
        /// Everything is taken back.
        trial: bool,
        /// The operator answers for a backup.
        backup_taken: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrateWay {
    Up,
    /// Newest migration that stays.
    Down(i64),
}

/// Where the schema stands, and what was or would be done.
#[derive(Clone, Debug, Serialize)]
pub struct MigrateReport {
    pub database: String,
    /// Newest applied migration.
    pub schema: i64,
    /// Newest migration that this program knows.
    pub known: i64,
    pub migrations: Vec<MigrationLine>,
    pub steps: Vec<MigrateStep>,
    /// The steps were done, and stay.
    pub changed: bool,
    pub backup: Option<PathBuf>,
}

#[derive(Clone, Debug, Serialize)]
pub struct MigrationLine {
    pub number: i64,
    pub name: String,
    /// applied, pending or unknown.
    pub state: String,
    /// The oldest program that may run after it, by the newest migration that it knows.
    pub runs_from: i64,
    pub applied_at: Option<Timestamp>,
    /// Release of the program that applied it.
    pub applied_by: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct MigrateStep {
    pub number: i64,
    pub name: String,
    /// up or down.
    pub direction: String,
    /// What a step down takes away.
    pub loses: Option<String>,
}

/// What `init` has made.
#[derive(Clone, Debug, Serialize)]
pub struct InitReport {
    pub data_dir: PathBuf,
    pub files: Vec<MadeFile>,
    /// Key id under which `agent-os sign` signs here.
    pub publisher_key_id: String,
    /// Verifies the audit log; keep a copy elsewhere.
    pub audit_verifier_key: String,
}

/// One file of a new installation.
#[derive(Clone, Debug, Serialize)]
pub struct MadeFile {
    pub path: PathBuf,
    pub purpose: String,
}

/// How to start.
#[derive(Clone, Debug)]
pub struct UpOptions {
    pub data_dir: PathBuf,
    /// Replaces the port of `gateway.listen`; 0 asks for any free one.
    pub port: Option<u16>,
    pub detach: bool,
    /// Environment, and settings of the command line.
    pub source: Source,
}

/// A server that takes requests. A detached one prints it as JSON to the program that started it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpReport {
    pub url: String,
    pub pid: u32,
    pub version: String,
}

/// What `doctor` found.
#[derive(Clone, Debug, Serialize)]
pub struct DoctorReport {
    pub checks: Vec<Check>,
    /// What this machine can enforce, part by part.
    pub machine: Machine,
    pub controls: Vec<Control>,
}
