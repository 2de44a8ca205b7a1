//! What commands of one life use beside the agent's own processes. Where a group counts them they are in its figures already;
//! where none does, this is all that is known of them.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use agentos_protocol::sandbox::Rusage;

#[derive(Debug, Default)]
pub(crate) struct Beside(Mutex<State>);

#[derive(Clone, Debug, Default)]
struct State {
    /// First processes of commands that run.
    running: BTreeSet<u32>,
    /// Of commands that have ended.
    cpu_us: u64,
    memory_peak_bytes: u64,
    /// The most that was seen of the agent's own processes: one that ends takes its time along.
    own_cpu_ms: u64,
}

impl Beside {
    pub(crate) fn begin(&self, init: u32) {
        self.with(|state| state.running.insert(init));
    }

    pub(crate) fn end(&self, init: u32, rusage: &Rusage) {
        self.with(|state| {
            state.running.remove(&init);
            state.cpu_us = state.cpu_us.saturating_add(rusage.cpu_us);
            state.memory_peak_bytes = state.memory_peak_bytes.max(rusage.memory_peak_bytes);
        });
    }

    pub(crate) fn running(&self) -> Vec<u32> {
        self.with(|state| state.running.iter().copied().collect())
    }

    /// All of the life, with what is now seen of the agent's own processes.
    pub(crate) fn cpu_ms(&self, own: u64) -> u64 {
        self.with(|state| {
            state.own_cpu_ms = state.own_cpu_ms.max(own);
            state.own_cpu_ms.saturating_add(state.cpu_us / 1_000)
        })
    }

    pub(crate) fn memory_peak_bytes(&self) -> u64 {
        self.with(|state| state.memory_peak_bytes)
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // Numbers: whole after any panic.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commands_used_adds_to_the_most_that_was_seen_of_the_agent() {
        let beside = Beside::default();
        assert_eq!(beside.cpu_ms(100), 100);
        beside.begin(7);
        beside.begin(8);
        beside.end(7, &Rusage { cpu_us: 50_000, memory_peak_bytes: 9 });
        assert_eq!((beside.cpu_ms(20), beside.running()), (150, vec![8]));
        beside.end(8, &Rusage { cpu_us: 1_000, memory_peak_bytes: 3 });
        assert_eq!((beside.cpu_ms(120), beside.memory_peak_bytes()), (171, 9));
    }
}
