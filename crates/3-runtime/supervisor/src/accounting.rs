//! What an agent uses, read from `/proc`.
//!
//! Counted: CPU time of the agent's process and of those of its children that it has waited for; resident memory, present
//! and highest, of the process itself; bytes that the process and its waited-for children moved to and from disks.
//! Not counted: children that still run or that nobody waited for, and memory of any child; that needs a cgroup. When the
//! process ends, its zombie still tells CPU time and bytes exactly; the memory peak is that of the last reading before.

use std::{
    fs,
    sync::{Mutex, PoisonError},
};

use agentos_types::{InstanceId, agent::Usage};

/// Reads one process. A field that cannot be read is 0, as after the end of the process.
fn sample(pid: u32) -> Usage {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let (status, io) = (read("status"), read("io"));
    Usage {
        cpu_ms: cpu_ms(&read("stat"), rustix::param::clock_ticks_per_second()),
        memory_bytes: field(&status, "VmRSS:").saturating_mul(1024),
        memory_peak_bytes: field(&status, "VmHWM:").saturating_mul(1024),
        disk_read_bytes: field(&io, "read_bytes:"),
        disk_write_bytes: field(&io, "write_bytes:"),
        ..Usage::default()
    }
}

/// Fields 14 to 17 of proc(5) stat: user, system, waited-for children's user and system time. The name in field 2 may hold
/// spaces and brackets, so the count begins after its last bracket.
fn cpu_ms(stat: &str, ticks_per_second: u64) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name.split_whitespace().skip(11).take(4).filter_map(|text| text.parse::<u64>().ok()).sum();
    ticks.saturating_mul(1_000) / ticks_per_second.max(1)
}

/// The first number after `name` at the start of a line.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// The running total of one agent over its lives. Readers and the actor share it.
#[derive(Debug)]
pub(crate) struct Meter(Mutex<State>);

#[derive(Debug)]
struct State {
    /// All lives that have ended.
    ended: Usage,
    /// The present life.
    present: Usage,
    process: Option<(InstanceId, u32)>,
}

impl Meter {
    pub(crate) fn new(ended: Usage) -> Self {
        Self(Mutex::new(State { ended, present: Usage::default(), process: None }))
    }

    pub(crate) fn begin(&self, instance: InstanceId, pid: u32) {
        self.with(|state| state.process = Some((instance, pid)));
    }

    pub(crate) fn process(&self) -> Option<(InstanceId, u32)> {
        self.with(|state| state.process.clone())
    }

    /// Total so far; reads the living process now.
    pub(crate) fn read(&self) -> Usage {
        self.with(State::read)
    }

    /// The last reading of a life. The process has ended and must not have been reaped: until then its number is its own.
    pub(crate) fn end(&self) -> Usage {
        self.with(|state| {
            let total = state.read();
            state.process = None;
            state.present = Usage::default();
            state.ended = Usage { memory_bytes: 0, ..total };
            state.ended
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // Plain numbers: whole after any panic.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn read(&mut self) -> Usage {
        if let Some((_, pid)) = &self.process {
            let now = sample(*pid);
            let before = self.present;
            self.present = Usage {
                cpu_ms: before.cpu_ms.max(now.cpu_ms),
                memory_bytes: now.memory_bytes,
                memory_peak_bytes: before.memory_peak_bytes.max(now.memory_peak_bytes),
                disk_read_bytes: before.disk_read_bytes.max(now.disk_read_bytes),
                disk_write_bytes: before.disk_write_bytes.max(now.disk_write_bytes),
                ..Usage::default()
            };
        }
        Usage {
            cpu_ms: self.ended.cpu_ms.saturating_add(self.present.cpu_ms),
            memory_bytes: self.present.memory_bytes,
            memory_peak_bytes: self.ended.memory_peak_bytes.max(self.present.memory_peak_bytes),
            disk_read_bytes: self.ended.disk_read_bytes.saturating_add(self.present.disk_read_bytes),
            disk_write_bytes: self.ended.disk_write_bytes.saturating_add(self.present.disk_write_bytes),
            ..Usage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 250 50 30 20 20 0 1";
        assert_eq!(cpu_ms(&format!("7 (a) b (c)) {rest}"), 100), 3_500);
        assert_eq!(cpu_ms("", 100), 0);
        assert_eq!(cpu_ms("garbage", 0), 0);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "VmPeak:\t  9 kB\nVmHWM:\t   1234 kB\nVmRSS:\t    77 kB\n";
        assert_eq!((field(status, "VmRSS:"), field(status, "VmHWM:"), field(status, "VmSwap:")), (77, 1_234, 0));
    }

    #[test]
    fn totals_add_up_over_lives_and_peaks_do_not() {
        let meter = Meter::new(Usage { cpu_ms: 1 << 40, memory_peak_bytes: 1 << 50, ..Usage::default() });
        let (ambient, _) = agentos_base::Ambient::fake(1, agentos_types::Timestamp::ZERO);
        meter.begin(ambient.instance_id(), std::process::id());
        let alive = meter.read();
        assert!(alive.memory_bytes > 0 && alive.cpu_ms >= 1 << 40);
        assert_eq!(alive.memory_peak_bytes, 1 << 50);
        let ended = meter.end();
        assert_eq!((ended.memory_bytes, meter.process()), (0, None));
        assert_eq!(meter.read(), ended);
    }
}
