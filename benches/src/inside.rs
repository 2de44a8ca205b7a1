//! Figures that are measured in this process, over the kernel's own crates on a real store.

pub mod audit;
pub mod egress;
pub mod syscalls;
pub mod tasks;
pub mod traced;

use std::{path::Path, time::Duration};

use agentos_audit::{AuditLog, LogIdentity, LogWriter};
use agentos_base::Ambient;
use agentos_store::{Arg, Database, Store, StoreOptions};
use agentos_tasks::{Tasks, TasksOptions};
use agentos_types::{Actor, AgentName};
use anyhow::Result;

/// Longer than any round: no lease is lost while something is measured.
const LEASE: Duration = Duration::from_secs(600);

/// A store with the real audit log, and the journal on it.
pub struct Kernel {
    pub store: Store,
    pub tasks: Tasks,
    pub log: AuditLog,
    pub ambient: Ambient,
    pub agent: AgentName,
}

impl Kernel {
    pub async fn open(directory: &Path) -> Result<Self> {
        Self::open_on(directory, None).await
    }

    /// On Postgres, if a database is given.
    pub async fn open_on(directory: &Path, database: Option<Database>) -> Result<Self> {
        Self::open_with(directory, database, Ambient::system()).await
    }

    /// With spans going where the ambient says.
    pub async fn open_with(directory: &Path, database: Option<Database>, ambient: Ambient) -> Result<Self> {
        let identity = LogIdentity::new("bench", &ambient.random())?;
        let store = Store::open(StoreOptions {
            directory: directory.to_owned(),
            database,
            queue_max: 16_384,
            readers: 4,
            sequencer: Some(Box::new(LogWriter::new(identity.clone(), ambient.clone()))),
            ambient: ambient.clone(),
        })?;
        let options = TasksOptions {
            node: "bench".into(),
            attempts_max: 1,
            lease: LEASE,
            queue_max: 1_000_000,
            interval_min: Duration::from_secs(1),
        };
        let tasks = Tasks::new(store.clone(), ambient.clone(), options);
        let log = AuditLog::new(identity, store.clone(), directory);
        let kernel = Self { store, tasks, log, ambient, agent: "bench".parse()? };
        kernel.know_agent().await?;
        Ok(kernel)
    }

    /// The journal takes tasks only for agents that it knows; no process stands behind this one.
    async fn know_agent(&self) -> Result<()> {
        let name = self.agent.clone();
        self.store
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO agent (name, version, manifest_sha256, signed_by, state, desired, deployed_at, state_since)
                     VALUES ($1, '1.0.0', 'none', 'nobody', 'running', 'running', 0, 0)",
                    &[Arg::Text(name.as_str())],
                )
            })
            .await?;
        Ok(())
    }

    /// Who submits.
    pub fn person(&self) -> Actor {
        Actor::System
    }
}
