//! Installed packages that nobody needs any more: files of versions that were replaced long ago, of agents that ended long ago, and
//! of deployments that were refused. Part of the daily run of retention.
//!
//! An agent runs the version that its row names, and a deployment never goes back. What goes back is a database that is restored: its
//! rows name the versions of its day, whose files have to be there. So a version stays for as long as backups may be used.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use agentos_base::Ambient;
use agentos_store::{Conn, Store};
use agentos_tasks::retention::{Kind, Pass, Pruner};
use agentos_types::{Actor, AgentName, Fault, Result, Timestamp, agent::AgentState, audit::AuditEvent};
use async_trait::async_trait;
use tokio::sync::RwLock;

const KIND: Kind = "packages";
/// Of one batch: their files are removed while no deployment can begin.
const BATCH_MAX: usize = 20;
/// An installation has fewer; what is beyond is looked at when these are gone.
const LISTED_MAX: usize = 100_000;

/// Held by each deployment from its first file to its row, and by a batch of removals against all of them.
pub type Installing = Arc<RwLock<()>>;

pub struct Packages {
    pub directory: PathBuf,
    /// From the day on which nobody needed them any more; 0 is for ever.
    pub days: u64,
    pub installing: Installing,
    pub ambient: Ambient,
}

/// `AGENT/VERSION` below the directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Installed {
    agent: AgentName,
    version: String,
    /// When it was put there, as the file system says.
    made_at: Timestamp,
}

impl Installed {
    fn name(&self) -> String {
        format!("{}@{}", self.agent, self.version)
    }

    /// Since when nobody needs it. `None`: it is needed.
    fn idle_since(&self, conn: &Conn<'_>) -> Result<Option<Timestamp>> {
        let agent = conn.query_one(
            "SELECT version, state, state_since FROM agent WHERE name = $1",
            &[(&self.agent).into()],
            |row| Ok((row.text(0)?, row.text(1)?, row.time(2)?)),
        )?;
        let Some((present, state, since)) = agent else { return Ok(Some(self.made_at)) };
        if present == self.version {
            return Ok((state == AgentState::Terminated.as_str()).then_some(since));
        }
        let own = "SELECT deployed_at FROM agent_version WHERE agent = $1 AND version = $2";
        let of_this = [(&self.agent).into(), self.version.as_str().into()];
        let Some(deployed_at) = conn.query_one(own, &of_this, |row| row.time(0))? else {
            return Ok(Some(self.made_at));
        };
        let later = "SELECT min(deployed_at) FROM agent_version WHERE agent = $1 AND deployed_at > $2";
        let replaced_at =
            conn.query_one(later, &[(&self.agent).into(), deployed_at.into()], |row| row.time_or_null(0))?;
        // One that was deployed in the same instant as its successor.
        Ok(Some(replaced_at.flatten().unwrap_or(deployed_at)))
    }
}

impl Packages {
    fn before(&self, now: Timestamp) -> Option<Timestamp> {
        let days = u32::try_from(self.days).ok().filter(|days| *days > 0)?;
        Some(now.before(Duration::from_secs(86_400).saturating_mul(days)))
    }

    /// What may go, in the order of its names, after the cursor.
    async fn due(&self, store: &Store, now: Timestamp, cursor: String) -> Result<Vec<Installed>> {
        let Some(before) = self.before(now) else { return Ok(Vec::new()) };
        let directory = self.directory.clone();
        let listed = tokio::task::spawn_blocking(move || listed(&directory)).await.map_err(Fault::internal)?;
        let mut listed = listed.map_err(Fault::internal)?;
        listed.sort();
        listed.retain(|installed| installed.name() > cursor);
        store
            .read(move |conn| {
                let mut due = Vec::new();
                for installed in listed {
                    if installed.idle_since(conn)?.is_some_and(|since| since < before) {
                        due.push(installed);
                    }
                }
                Ok(due)
            })
            .await
    }
}

#[async_trait]
impl Pruner for Packages {
    async fn count(&self, store: &Store, now: Timestamp) -> Result<Vec<(Kind, u64)>> {
        let due = self.due(store, now, String::new()).await?;
        Ok(vec![(KIND, due.len() as u64)])
    }

    /// The record first: nothing goes that the log does not name. What could not be removed is tried again by the next run.
    async fn batch(&self, pass: &Pass) -> Result<bool> {
        // No deployment waits for this; the next run comes tomorrow.
        let Ok(_nobody_installs) = self.installing.try_write() else { return Ok(false) };
        let mut due = self.due(&pass.store, pass.now, pass.cursor()).await?;
        let is_last = due.len() <= BATCH_MAX;
        due.truncate(BATCH_MAX);
        let Some(last) = due.last() else { return Ok(false) };
        pass.advance(last.name());
        let (named, ambient) = (due.clone(), self.ambient.clone());
        pass.write(move |tx| {
            for installed in &named {
                let (id, now) = (ambient.event_id(), ambient.now());
                tx.record(AuditEvent::new(id, now, Actor::System, "package.prune", installed.name()));
            }
            Ok(vec![(KIND, named.len() as u64)])
        })
        .await?;
        let directory = self.directory.clone();
        let removed = tokio::task::spawn_blocking(move || {
            for installed in &due {
                if let Err(error) = remove(&directory, installed) {
                    tracing::warn!(package = installed.name(), %error, "a package that nobody needs could not be removed");
                }
            }
        });
        removed.await.map_err(Fault::internal)?;
        Ok(!is_last)
    }
}

/// Directories alone: a link is nobody's package. What a deployment has left half-way has another form of name.
fn listed(directory: &Path) -> io::Result<Vec<Installed>> {
    let mut found = Vec::new();
    for agent in fs::read_dir(directory)? {
        let agent = agent?;
        let Some(name) = agent.file_name().to_str().and_then(|name| name.parse::<AgentName>().ok()) else { continue };
        if !agent.file_type()?.is_dir() {
            continue;
        }
        for version in fs::read_dir(agent.path())? {
            let version = version?;
            let text = version.file_name().into_string().unwrap_or_default();
            let is_version = text.starts_with(|first: char| first.is_ascii_digit());
            if is_version && version.file_type()?.is_dir() && found.len() < LISTED_MAX {
                let made = version.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                let made_at = Timestamp(i64::try_from(made.as_micros()).unwrap_or(i64::MAX));
                found.push(Installed { agent: name.clone(), version: text, made_at });
            }
        }
    }
    Ok(found)
}

fn remove(directory: &Path, installed: &Installed) -> io::Result<()> {
    let versions = directory.join(installed.agent.as_str());
    fs::remove_dir_all(versions.join(&installed.version))?;
    // Stays where there are others.
    let _ = fs::remove_dir(versions);
    Ok(())
}
