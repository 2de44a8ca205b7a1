//! Work that falls due at a fixed pace, whatever comes back.
//!
//! A thread keeps the time: the runtime's own timer counts whole milliseconds, which would be half of what is measured.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::sync::mpsc;

/// Instants at which work is due, each delivered when it has come.
pub struct Pace {
    due: mpsc::UnboundedReceiver<Instant>,
}

impl Pace {
    /// `count` instants, `period` apart. A late one does not move those after it.
    pub fn every(period: Duration, count: usize) -> Self {
        let (sender, due) = mpsc::unbounded_channel();
        thread::spawn(move || {
            let mut next = Instant::now();
            for _ in 0..count {
                next += period;
                thread::sleep(next.saturating_duration_since(Instant::now()));
                if sender.send(next).is_err() {
                    break;
                }
            }
        });
        Self { due }
    }

    pub async fn next(&mut self) -> Result<Instant> {
        self.due.recv().await.context("the pace has ended")
    }
}
