//! Spawns that this process cannot measure by itself: as a user without rights, and of crun, which refuses a machine that
//! shows it cgroups of both versions. Another process of this program does it there and prints the milliseconds.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use super::{Workbench, layers::first_word, peers};
use crate::{probe::millis, sample::Rounds};

/// Whom Debian calls nobody.
pub const NOBODY: &str = "65534";
/// The words with which this program measures for itself elsewhere.
pub const SPAWNS: &str = "--spawns";
pub const PROGRAMS: &str = "--programs";
/// Before what is kept.
const WARM_UP: usize = 5;
/// Takes the hierarchy of version 2 out of the sight of this process and its children, then becomes the command.
const WITHOUT_SECOND_HIERARCHY: &str = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";

/// What can be measured there.
pub const PLAIN: &str = "plain";
pub const OWN: &str = "own";
pub const BUBBLEWRAP: &str = "bwrap";
pub const CRUN: &str = "crun";

/// All rounds of one place. What could not be had there says why.
#[derive(Default)]
pub struct Elsewhere {
    taken: BTreeMap<String, Rounds>,
    refused: BTreeMap<String, String>,
}

impl Elsewhere {
    /// One round of these kinds, as `user` or as the present one, in a mount namespace of its own.
    pub fn round(&mut self, programs: &Path, kinds: &[&str], user: Option<&str>) -> Result<()> {
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", WITHOUT_SECOND_HIERARCHY, "sh"]);
        if let Some(user) = user {
            command.args(["/usr/bin/setpriv", "--reuid", user, "--regid", user, "--clear-groups"]);
        }
        command.arg(programs.join("agentos-benches")).arg(SPAWNS).arg(kinds.join(",")).arg(PROGRAMS).arg(programs);
        let output = block_in_place(|| command.env_clear().stdin(Stdio::null()).output()).context("unshare")?;
        ensure!(output.status.success(), "spawns elsewhere: {}", String::from_utf8_lossy(&output.stderr).trim());
        let told: BTreeMap<String, Value> = serde_json::from_slice(&output.stdout).context("spawns elsewhere")?;
        for (kind, value) in told {
            match value {
                Value::String(why) => drop(self.refused.insert(kind, why)),
                numbers => self.taken.entry(kind).or_default().push(serde_json::from_value(numbers)?),
            }
        }
        Ok(())
    }

    /// Without a round where it was refused.
    pub fn taken(&self, kind: &str) -> Rounds {
        self.taken.get(kind).cloned().unwrap_or_default()
    }

    pub fn refused(&self, kind: &str) -> Option<&str> {
        self.refused.get(kind).map(String::as_str)
    }
}

/// What that other process does: one round of each kind, as JSON.
pub async fn measure(kinds: &str, programs: &Path, count: usize) -> Result<String> {
    let scratch = tempfile::Builder::new().prefix("agent-os-bench-").tempdir()?;
    let is_root = rustix::process::geteuid().is_root();
    let mut told = BTreeMap::new();
    for kind in kinds.split(',') {
        let value = match kind {
            PLAIN => json!(repeat(count, || first_word(&programs.join("first-word")))?),
            OWN => json!(own(programs, count).await?),
            BUBBLEWRAP => of_peer(peers::bubblewrap(), count)?,
            CRUN => of_peer(peers::crun(scratch.path(), is_root), count)?,
            _ => anyhow::bail!("there are no spawns of {kind}"),
        };
        told.insert(kind, value);
    }
    Ok(serde_json::to_string(&told)?)
}

/// A peer that does not work here is no failure of the run; one that stops working is.
fn of_peer(peer: Result<peers::Peer>, count: usize) -> Result<Value> {
    match peer {
        Ok(peer) => Ok(json!(repeat(count, || peer.run())?)),
        Err(error) => Ok(Value::String(format!("{error:#}"))),
    }
}

pub fn repeat(count: usize, mut once: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
    (0..count).map(|_| once()).collect()
}

async fn own(programs: &Path, count: usize) -> Result<Vec<f64>> {
    let bench = Workbench::open(programs, false)?;
    let mut taken = Vec::with_capacity(count);
    for number in 0..u32::try_from(WARM_UP + count)? {
        let plan = bench.plan(number, "idle");
        let began = Instant::now();
        let inmate = bench.start(&plan, None).await?;
        taken.push(millis(began));
        inmate.end().await?;
    }
    Ok(taken.split_off(WARM_UP))
}
