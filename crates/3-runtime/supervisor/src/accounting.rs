//! The running total of one agent over its lives. Readers and the actor share it.

use std::sync::{Arc, Mutex, PoisonError};

use agentos_sandbox::Ended;
use agentos_types::{InstanceId, agent::Usage};

use crate::surroundings::Surroundings;

#[derive(Debug)]
pub(crate) struct Meter(Mutex<State>);

#[derive(Debug)]
struct State {
    /// All lives that have ended.
    ended: Usage,
    /// The present life.
    present: Usage,
    process: Option<Living>,
}

#[derive(Clone, Debug)]
struct Living {
    instance: InstanceId,
    pid: u32,
    surroundings: Arc<Surroundings>,
}

impl Meter {
    pub(crate) fn new(ended: Usage) -> Self {
        Self(Mutex::new(State { ended, present: unread(&ended), process: None }))
    }

    pub(crate) fn begin(&self, instance: InstanceId, pid: u32, surroundings: Arc<Surroundings>) {
        self.with(|state| state.process = Some(Living { instance, pid, surroundings }));
    }

    pub(crate) fn process(&self) -> Option<(InstanceId, u32)> {
        self.with(|state| state.process.as_ref().map(|living| (living.instance.clone(), living.pid)))
    }

    /// Total as of the last reading. Reads nothing.
    pub(crate) fn last(&self) -> Usage {
        self.with(|state| sum(&state.ended, &state.present))
    }

    /// Total so far; reads the living processes now. Reads files: not for async threads.
    pub(crate) fn read(&self) -> Usage {
        // Without the lock: a large workspace takes long to measure.
        let (living, before) = self.with(|state| (state.process.clone(), state.present));
        let reading = living.as_ref().map(|living| living.surroundings.reading(living.pid, &before));
        self.with(|state| {
            let is_the_same = |now: &Living| living.as_ref().is_some_and(|then| then.instance == now.instance);
            if let Some(reading) = reading.filter(|_| state.process.as_ref().is_some_and(is_the_same)) {
                state.present = later(&state.present, &reading);
            }
            sum(&state.ended, &state.present)
        })
    }

    /// The last reading of a life. Its processes have ended; their group still tells what they used.
    pub(crate) fn end(&self, ended: &Ended) -> Usage {
        if let Some(living) = self.with(|state| state.process.clone()) {
            // What the last reading of the processes has missed.
            living.surroundings.beside().cpu_ms(ended.rusage.cpu_us / 1_000);
        }
        self.read();
        self.with(|state| {
            let present = Usage {
                cpu_ms: state.present.cpu_ms.max(ended.rusage.cpu_us / 1_000),
                memory_peak_bytes: state.present.memory_peak_bytes.max(ended.rusage.memory_peak_bytes),
                ..state.present
            };
            let total = sum(&state.ended, &present);
            state.process = None;
            state.ended = Usage { memory_bytes: 0, processes: 0, ..total };
            state.present = unread(&state.ended);
            state.ended
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // Plain numbers: whole after any panic.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A life before its first reading. The workspace outlives every process, so it is as it was.
fn unread(ended: &Usage) -> Usage {
    Usage { workspace_bytes: ended.workspace_bytes, ..Usage::default() }
}

/// A counter of a life never goes back, also where a process that it was read from is gone.
fn later(before: &Usage, now: &Usage) -> Usage {
    Usage {
        cpu_ms: before.cpu_ms.max(now.cpu_ms),
        memory_bytes: now.memory_bytes,
        memory_peak_bytes: before.memory_peak_bytes.max(now.memory_peak_bytes),
        disk_read_bytes: before.disk_read_bytes.max(now.disk_read_bytes),
        disk_write_bytes: before.disk_write_bytes.max(now.disk_write_bytes),
        processes: now.processes,
        processes_peak: before.processes_peak.max(now.processes_peak),
        oom_kills: before.oom_kills.max(now.oom_kills),
        throttled_ms: before.throttled_ms.max(now.throttled_ms),
        workspace_bytes: now.workspace_bytes,
        egress_in_bytes: before.egress_in_bytes.max(now.egress_in_bytes),
        egress_out_bytes: before.egress_out_bytes.max(now.egress_out_bytes),
    }
}

fn sum(ended: &Usage, present: &Usage) -> Usage {
    Usage {
        cpu_ms: ended.cpu_ms.saturating_add(present.cpu_ms),
        memory_bytes: present.memory_bytes,
        memory_peak_bytes: ended.memory_peak_bytes.max(present.memory_peak_bytes),
        disk_read_bytes: ended.disk_read_bytes.saturating_add(present.disk_read_bytes),
        disk_write_bytes: ended.disk_write_bytes.saturating_add(present.disk_write_bytes),
        processes: present.processes,
        processes_peak: ended.processes_peak.max(present.processes_peak),
        oom_kills: ended.oom_kills.saturating_add(present.oom_kills),
        throttled_ms: ended.throttled_ms.saturating_add(present.throttled_ms),
        workspace_bytes: present.workspace_bytes,
        egress_in_bytes: ended.egress_in_bytes.saturating_add(present.egress_in_bytes),
        egress_out_bytes: ended.egress_out_bytes.saturating_add(present.egress_out_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_over_lives_and_peaks_do_not() {
        let ended = Usage { cpu_ms: 5, memory_peak_bytes: 50, processes_peak: 3, oom_kills: 1, ..Usage::default() };
        let first = Usage { cpu_ms: 7, memory_bytes: 40, memory_peak_bytes: 40, processes: 2, ..Usage::default() };
        let second = Usage { cpu_ms: 6, memory_bytes: 10, processes_peak: 9, oom_kills: 1, ..Usage::default() };
        let present = later(&first, &second);
        assert_eq!((present.cpu_ms, present.memory_bytes, present.memory_peak_bytes), (7, 10, 40));
        let total = sum(&ended, &present);
        assert_eq!((total.cpu_ms, total.memory_peak_bytes, total.processes_peak, total.oom_kills), (12, 50, 9, 2));
    }

    #[test]
    fn what_lies_in_the_workspace_stays_when_the_process_ends() {
        let ended = Usage { workspace_bytes: 9, ..Usage::default() };
        assert_eq!(Meter::new(ended).last().workspace_bytes, 9);
        assert_eq!(sum(&ended, &unread(&ended)).workspace_bytes, 9);
    }

    #[test]
    fn a_workspace_that_was_emptied_is_empty() {
        let ended = Usage { workspace_bytes: 9, ..Usage::default() };
        let emptied = later(&unread(&ended), &Usage::default());
        assert_eq!(sum(&ended, &emptied).workspace_bytes, 0);
    }
}
