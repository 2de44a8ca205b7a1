//! What a tree of processes uses, read from `/proc`: for machines where no cgroup counts it.
//!
//! Counted: CPU time of living processes and of those that they have waited for; resident memory; bytes that they moved to
//! and from disks. Not counted: what has ended without anybody waiting for it, and what is shared, which each process of it
//! shows.

use std::{collections::VecDeque, fs};

use agentos_types::agent::Usage;

/// Of one agent that are read. `limits.processes` is far below it in practice.
const PROCESSES_MAX: usize = 1_024;

/// Reads `root` and everything below it. What cannot be read is 0, as after the end of the process.
pub(crate) fn sample(root: u32) -> Usage {
    let mut sum = Usage::default();
    tree(root).into_iter().for_each(|pid| add(&mut sum, pid));
    sum.memory_peak_bytes = sum.memory_bytes;
    sum
}

/// `root` and everything below it, the nearest first.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let (mut found, mut waiting) = (Vec::new(), VecDeque::from([root]));
    while let Some(pid) = waiting.pop_front().filter(|_| found.len() < PROCESSES_MAX) {
        found.push(pid);
        waiting.extend(children(pid));
    }
    found
}

fn add(sum: &mut Usage, pid: u32) {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let (status, io) = (read("status"), read("io"));
    sum.cpu_ms += cpu_ms(&read("stat"), rustix::param::clock_ticks_per_second());
    sum.memory_bytes += field(&status, "VmRSS:").saturating_mul(1024);
    sum.disk_read_bytes += field(&io, "read_bytes:");
    sum.disk_write_bytes += field(&io, "write_bytes:");
    sum.processes += field(&status, "Threads:");
}

/// Of each of its threads: any of them may have started a program.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    let numbers = lists
        .take(PROCESSES_MAX)
        .flat_map(|text| text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u32>>());
    numbers.take(PROCESSES_MAX).collect()
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
    fn a_tree_counts_as_one() {
        let mut child = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let (alone, tree) = (sample(child.id()), sample(std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(alone.processes, 1);
        assert!(tree.processes >= 2 && tree.memory_bytes > alone.memory_bytes, "{tree:?}");
        assert_eq!(sample(child.id()), Usage::default(), "after the end");
    }
}
