//! What `/metrics` shows of all sandboxes together.

use std::sync::atomic::{AtomicU64, Ordering};

use super::meter::Bytes;

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub allowed: u64,
    pub denied: u64,
    /// By the proxy itself, before anybody was asked.
    pub refused: u64,
    pub out_bytes: u64,
    pub in_bytes: u64,
    /// Granted and not ended.
    pub open: u64,
    pub sandboxes: u64,
    /// Proxies that were started after the first one.
    pub restarts: u64,
    pub is_up: bool,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub allowed: AtomicU64,
    pub denied: AtomicU64,
    pub refused: AtomicU64,
    pub restarts: AtomicU64,
    out_bytes: AtomicU64,
    in_bytes: AtomicU64,
}

pub(super) fn one_more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub fn add(&self, bytes: Bytes) {
        self.out_bytes.fetch_add(bytes.out, Ordering::Relaxed);
        self.in_bytes.fetch_add(bytes.r#in, Ordering::Relaxed);
    }

    pub fn read(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            allowed: of(&self.allowed),
            denied: of(&self.denied),
            refused: of(&self.refused),
            out_bytes: of(&self.out_bytes),
            in_bytes: of(&self.in_bytes),
            restarts: of(&self.restarts),
            ..Counts::default()
        }
    }
}
