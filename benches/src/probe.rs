//! Limits of the machine, measured between the rounds of the figures that lean on them.

pub mod raw_queue;

use std::{
    fs::OpenOptions,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};

/// About one journal row.
const APPEND_BYTES: usize = 300;
/// A probe between two rounds; three of them make more than 200 samples.
pub const FSYNC_SAMPLES: usize = 80;

/// Appends and syncs on the file system of `directory`: the floor under everything that promises durability. Milliseconds.
pub fn fsync(directory: &Path, samples: usize) -> Result<Vec<f64>> {
    let path = directory.join("fsync.probe");
    let mut file = OpenOptions::new().create(true).append(true).open(&path).context("fsync probe")?;
    let bytes = [b'x'; APPEND_BYTES];
    let mut taken = Vec::with_capacity(samples);
    for _ in 0..samples {
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
    let status = Command::new("/bin/true").stdin(Stdio::null()).status().context("/bin/true")?;
    anyhow::ensure!(status.success(), "/bin/true failed");
    Ok(millis(began))
}

pub fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}
