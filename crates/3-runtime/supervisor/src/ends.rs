//! How often processes have ended since the server started without being asked to, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

use agentos_sandbox::Reason;

#[derive(Debug, Default)]
pub(crate) struct Ends([AtomicU64; Reason::NAMES.len()]);

impl Ends {
    pub(crate) fn count(&self, reason: Reason) {
        let place = Reason::NAMES.iter().position(|name| *name == reason.as_str());
        if let Some(counter) = place.and_then(|place| self.0.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts: Vec<_> = self.0.iter().map(|counter| counter.load(Ordering::Relaxed)).collect();
        Reason::NAMES.into_iter().zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_counts_for_itself() {
        let ends = Ends::default();
        ends.count(Reason::Memory);
        ends.count(Reason::Memory);
        ends.count(Reason::LauncherLost);
        let counts: Vec<_> = ends.counts().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [("memory", 2), ("launcher-lost", 1)]);
    }
}
