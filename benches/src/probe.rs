//! Limits of the machine, measured before and after each round of the figures that lean on them.

pub mod raw_postgres;
pub mod raw_queue;

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::task::block_in_place;

use crate::{figure::number, sample::Rounds};

/// About one journal row.
const APPEND_BYTES: usize = 300;
/// Samples before a round, and again after it: five rounds make 300.
const AROUND_ROUND: usize = 30;

/// The sync probe around the rounds of one figure: a disk changes its mood within seconds.
#[derive(Debug)]
pub struct Syncs {
    directory: PathBuf,
    /// Rest before each sample. A disk that was idle is slower than one that is kept busy, so the probe of a paced load
    /// keeps its pace.
    gap: Duration,
    round: Vec<f64>,
    rounds: Rounds,
}

impl Syncs {
    pub fn on(directory: &Path) -> Self {
        Self::at_pace(directory, Duration::ZERO)
    }

    pub fn at_pace(directory: &Path, gap: Duration) -> Self {
        Self { directory: directory.to_owned(), gap, round: Vec::new(), rounds: Rounds::default() }
    }

    pub fn before_round(&mut self) -> Result<()> {
        self.sample(AROUND_ROUND)
    }

    pub fn after_round(&mut self) -> Result<()> {
        self.sample(AROUND_ROUND)?;
        self.end_round();
        Ok(())
    }

    /// For rounds of their own shape.
    pub fn sample(&mut self, samples: usize) -> Result<()> {
        let taken = block_in_place(|| fsync(&self.directory, self.gap, samples))?;
        self.round.extend(taken);
        Ok(())
    }

    pub fn end_round(&mut self) {
        self.rounds.push(std::mem::take(&mut self.round));
    }

    pub fn rounds(&self) -> &Rounds {
        &self.rounds
    }

    pub fn p95(&self) -> f64 {
        self.rounds.p95()
    }

    /// For notes.
    pub fn text(&self) -> String {
        format!("fsync p50 {} ms, p95 {} ms", number(self.rounds.median()), number(self.rounds.p95()))
    }
}

/// Appends and syncs on the file system of `directory`: the floor under everything that promises durability. Milliseconds.
fn fsync(directory: &Path, gap: Duration, samples: usize) -> Result<Vec<f64>> {
    let path = directory.join("fsync.probe");
    let mut file = OpenOptions::new().create(true).append(true).open(&path).context("fsync probe")?;
    let bytes = [b'x'; APPEND_BYTES];
    let mut taken = Vec::with_capacity(samples);
    for _ in 0..samples {
        std::thread::sleep(gap);
        let began = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        taken.push(millis(began));
    }
    Ok(taken)
}

/// Starts the smallest program and waits for its end: the floor under everything that starts a process. Milliseconds.
pub fn spawn() -> Result<f64> {
    let began = Instant::now();
    let status = block_in_place(|| Command::new("/bin/true").stdin(Stdio::null()).status()).context("/bin/true")?;
    anyhow::ensure!(status.success(), "/bin/true failed");
    Ok(millis(began))
}

pub fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}
