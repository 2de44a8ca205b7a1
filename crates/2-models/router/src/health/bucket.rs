//! How many extra requests a provider bears: a share of the ordinary ones, so that retries never multiply an outage.

use std::sync::atomic::{AtomicU32, Ordering};

/// In parts of one extra request. Begins full, so that a quiet installation can try again.
#[derive(Debug)]
pub(crate) struct Bucket {
    parts: AtomicU32,
    cost: u32,
}

/// Extra requests that may come at once.
const BURST: u32 = 10;

impl Bucket {
    /// One for ten.
    pub fn retries() -> Self {
        Self::new(10)
    }

    /// One for fifty.
    pub fn hedges() -> Self {
        Self::new(50)
    }

    fn new(cost: u32) -> Self {
        Self { parts: AtomicU32::new(cost * BURST), cost }
    }

    /// An ordinary request was sent.
    pub fn earn(&self) {
        let max = self.cost * BURST;
        let more = |parts: u32| Some(parts.saturating_add(1).min(max));
        // Never refused: the closure always has an answer.
        let _ = self.parts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    pub fn has(&self) -> bool {
        self.parts.load(Ordering::Relaxed) >= self.cost
    }

    /// Takes one extra request, if there is one.
    pub fn spend(&self) -> bool {
        let less = |parts: u32| parts.checked_sub(self.cost);
        self.parts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}
