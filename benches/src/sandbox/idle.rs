//! Idle sandboxes without a server, and as many of bubblewrap: how soon they are up, what each holds of the machine, how soon
//! each of them answers.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use tokio::task::block_in_place;

use super::{Inmate, Workbench, usual_limits};
use crate::{probe::millis, sample::Rounds};

/// As many as the machine has processors to start them.
pub const STARTING_AT_ONCE: usize = 2;

/// What was found with all of them there.
pub struct Crowd {
    pub up_s: f64,
    /// Fall of MemAvailable for each, in KiB.
    pub memory_kib: f64,
    /// Of that, what the kernel's own small objects take.
    pub slab_kib: f64,
    /// A word to each and back, in milliseconds; none of bubblewrap.
    pub words: Rounds,
}

/// In full sandboxes with their groups.
pub async fn sandboxes(programs: &Path, count: u32) -> Result<Crowd> {
    let bench = Workbench::open(programs, true)?;
    bench.start(&bench.plan(0, "idle"), None).await?.end().await?;
    let before = Memory::read()?;
    let began = Instant::now();
    let mut inmates = Vec::with_capacity(usize::try_from(count)?);
    let numbers: Vec<u32> = (1..=count).collect();
    for some in numbers.chunks(STARTING_AT_ONCE) {
        let starts = some.iter().map(|number| start(&bench, *number));
        inmates.extend(futures_util::future::try_join_all(starts).await?);
    }
    let up_s = began.elapsed().as_secs_f64();
    let after = Memory::read()?;
    let mut words = Vec::with_capacity(inmates.len());
    for inmate in &mut inmates {
        let began = Instant::now();
        inmate.ping().await?;
        words.push(millis(began));
    }
    for inmate in inmates {
        inmate.end().await?;
    }
    Ok(Crowd {
        up_s,
        memory_kib: before.fall_to(&after) / f64::from(count),
        slab_kib: (after.slab_kib - before.slab_kib) / f64::from(count),
        words: [words].into_iter().collect(),
    })
}

async fn start(bench: &Workbench, number: u32) -> Result<Inmate> {
    let group = bench.group(number, &usual_limits())?;
    bench.start(&bench.plan(number, "idle"), group).await.with_context(|| format!("sandbox {number}"))
}

/// The same program in as many sandboxes of bubblewrap, without groups, which it does not make.
pub fn bubblewraps(programs: &Path, count: u32) -> Result<Crowd> {
    let program = programs.join("first-word");
    let before = Memory::read()?;
    let began = Instant::now();
    let mut crowd = Wrapped(Vec::with_capacity(usize::try_from(count)?));
    for _ in 0..count {
        block_in_place(|| crowd.add(&program))?;
    }
    let up_s = began.elapsed().as_secs_f64();
    let after = Memory::read()?;
    Ok(Crowd {
        up_s,
        memory_kib: before.fall_to(&after) / f64::from(count),
        slab_kib: (after.slab_kib - before.slab_kib) / f64::from(count),
        words: Rounds::default(),
    })
}

/// Killed with what is inside when dropped.
struct Wrapped(Vec<Child>);

impl Wrapped {
    /// Returns when the program has said its first word.
    fn add(&mut self, program: &Path) -> Result<()> {
        let words =
            ["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--"];
        let mut command = Command::new("bwrap");
        command.args(words).arg(program).arg("idle").env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("bwrap")?;
        let output = child.stdout.as_mut().context("it has no output")?;
        let mut word = String::new();
        BufReader::new(output).read_line(&mut word)?;
        self.0.push(child);
        ensure!(word == "ready\n", "the first word inside of bwrap is '{word}'");
        Ok(())
    }
}

impl Drop for Wrapped {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Fails only if it is gone already.
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// Of the whole machine.
pub struct Memory {
    available_kib: f64,
    slab_kib: f64,
}

impl Memory {
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string("/proc/meminfo")?;
        let field = |name: &str| -> Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
            Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
        };
        Ok(Self { available_kib: field("MemAvailable:")?, slab_kib: field("Slab:")? })
    }

    /// KiB that are no longer to be had.
    pub fn fall_to(&self, after: &Self) -> f64 {
        self.available_kib - after.available_kib
    }
}
