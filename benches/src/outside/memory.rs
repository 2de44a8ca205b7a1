//! What an idle installation holds in memory: the server and everything that it has started, with the Monitor deployed.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::Installation;
use crate::{
    figure::{Figure, Goal},
    place::Place,
    progress::Progress,
    sample::{Rounds, median},
};

const ROUNDS: usize = 3;
const READINGS_PER_ROUND: usize = 3;
/// Idle means that nothing has happened for a while.
const SETTLE: Duration = Duration::from_secs(2);
const BETWEEN_READINGS: Duration = Duration::from_millis(500);
const RSS_MAX_MB: f64 = 40.0;
/// The unit of smaps_rollup is 1,024 bytes.
const MB_PER_KIB: f64 = 1_024.0 / 1_000_000.0;

const MONITOR: &str = r#"schema = 1
name = "monitor"
version = "1.0.0"
description = "Watches pages, files and directories"
command = ["agent-os-monitor"]

[[grants]]
category = "kv"
actions = ["read", "write"]
resources = ["*"]

[[grants]]
category = "schedule"
actions = ["read", "write"]
resources = ["self"]

[[grants]]
category = "notify"
actions = ["event"]
resources = ["event:*"]

[limits]
concurrent_tasks = 4
"#;

/// One process at one moment, in MB.
pub struct Reading {
    pub pid: u32,
    pub name: String,
    /// It makes sandboxes.
    pub is_launcher: bool,
    /// It is the first process of one.
    pub is_init: bool,
    pub rss: f64,
    pub pss: f64,
    /// What no file stands behind.
    pub anonymous: f64,
}

pub async fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let (mut rss, mut pss) = (Rounds::default(), Vec::new());
    let mut parts = String::new();
    for round in 1..=ROUNDS {
        progress.say(&format!("idle memory, round {round} of {ROUNDS}"));
        let installation = Installation::make(place)?;
        let (server, _) = installation.up()?;
        installation.deploy(&server, &installation.programs().monitor, MONITOR).await?;
        sleep(SETTLE).await;
        let mut sums = Vec::new();
        for _ in 0..READINGS_PER_ROUND {
            let processes = processes(server.pid())?;
            anyhow::ensure!(processes.len() >= 2, "the server and one agent are at least two processes");
            sums.push(processes.iter().map(|process| process.rss).sum());
            pss.push(processes.iter().map(|process| process.pss).sum());
            parts = processes.iter().map(|p| format!("{} {:.1}", p.name, p.rss)).collect::<Vec<_>>().join(", ");
            sleep(BETWEEN_READINGS).await;
        }
        rss.push(sums);
        server.stop()?;
    }
    let values = vec![("RSS", rss.median()), ("PSS", median(pss))];
    let figure = Figure::values("idle memory, all processes, Monitor deployed", "MB", values, &rss)
        .goal(Goal::at_most(RSS_MAX_MB))
        .note(format!("RSS counts shared pages once a process; last reading in MB: {parts}"));
    Ok(vec![figure])
}

/// The process and all that descend from it.
pub fn processes(root: u32) -> Result<Vec<Reading>> {
    let parents = parents()?;
    let is_family = |mut pid: u32| {
        // Ends because every step goes to a parent, and nobody has more ancestors than there are processes.
        for _ in 0..=parents.len() {
            if pid == root {
                return true;
            }
            match parents.get(&pid) {
                Some(parent) => pid = *parent,
                None => return false,
            }
        }
        false
    };
    parents.keys().filter(|pid| is_family(**pid)).map(|pid| reading(*pid)).collect()
}

/// Each process with its parent.
fn parents() -> Result<BTreeMap<u32, u32>> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end between the listing and the look.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name stands in parentheses and may hold anything; state and parent follow the last one.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if let Some(parent) = after_name.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()) {
            parents.insert(pid, parent);
        }
    }
    Ok(parents)
}

fn reading(pid: u32) -> Result<Reading> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).with_context(|| format!("memory of {pid}"))?;
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        kib.map(|kib| kib * MB_PER_KIB).with_context(|| format!("smaps_rollup of {pid} has no {name}"))
    };
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    // The launcher and the inits are one program, and tell by a word which of its lives it leads.
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let leads = |word: &str| words.split(|byte| *byte == 0).nth(1) == Some(word.as_bytes());
    let (is_launcher, is_init) = (leads("--serve"), leads("--init"));
    let (rss, pss, anonymous) = (field("Rss:")?, field("Pss:")?, field("Anonymous:")?);
    Ok(Reading { pid, name, is_launcher, is_init, rss, pss, anonymous })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_a_process_and_its_children_and_nobody_else() {
        let mut child = std::process::Command::new("/bin/sleep").arg("600").spawn().unwrap();
        let own = processes(std::process::id()).unwrap();
        let alone = processes(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(own.len() >= 2 && own.iter().any(|process| process.name == "sleep"));
        assert_eq!(alone.len(), 1);
        assert!(alone[0].rss > 0.0 && alone[0].pss <= alone[0].rss);
    }
}
