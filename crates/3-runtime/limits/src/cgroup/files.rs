//! Reading and writing the small files of cgroups. A file that is not there reads as `None`: kernels differ in what they have.

use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
    path::Path,
};

/// Far above any file of a cgroup but `cgroup.procs`; a list that is cut there is read again in the next round.
const FILE_BYTES_MAX: u64 = 1 << 20;

pub(super) fn text(directory: &Path, name: &str) -> Option<String> {
    let mut text = String::new();
    let file = OpenOptions::new().read(true).open(directory.join(name)).ok()?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// A file of one number. `max` is the largest.
pub(super) fn number(directory: &Path, name: &str) -> Option<u64> {
    parse(text(directory, name)?.trim())
}

fn parse(word: &str) -> Option<u64> {
    if word == "max" { Some(u64::MAX) } else { word.parse().ok() }
}

/// One value of lines such as `usage_usec 1200`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| parse(line.strip_prefix(key)?.strip_prefix(' ')?.trim()))
}

/// Writes one value with one call, as the kernel wants it. Never makes a file.
pub(super) fn write(directory: &Path, name: &str, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(directory.join(name))?.write_all(value.as_bytes())
}

/// `cpu.idle` is the same in both versions.
pub(super) fn stand_back(directory: &Path, is_behind: bool) -> io::Result<()> {
    write(directory, "cpu.idle", if is_behind { "1" } else { "0" })
}

/// The processes of one group, without those of the groups below it. What another pid namespace hides reads as 0 and is
/// left out: nobody here can signal it.
pub(super) fn members(directory: &Path) -> Vec<i32> {
    let list = text(directory, "cgroup.procs").unwrap_or_default();
    list.lines().filter_map(|line| line.trim().parse().ok()).filter(|pid| *pid > 0).collect()
}

/// A name that is safe as one component: letters, digits, `-` and `_`, at most 64 of them.
pub(super) fn component(name: &str) -> String {
    const NAME_BYTES_MAX: usize = 64;
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    let name: String = name.chars().take(NAME_BYTES_MAX).map(plain).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_whole_key() {
        let text = "oom 3\noom_kill 7\noom_group_kill 1\nhigh max\n";
        assert_eq!(keyed(text, "oom"), Some(3));
        assert_eq!(keyed(text, "oom_kill"), Some(7));
        assert_eq!(keyed(text, "high"), Some(u64::MAX));
        assert_eq!(keyed(text, "oo"), None);
    }

    #[test]
    fn a_name_cannot_leave_its_directory() {
        assert_eq!(component("../../etc"), "______etc");
        assert_eq!(component(""), "_");
        assert_eq!(component("a.b c"), "a_b_c");
        assert_eq!(component(&"x".repeat(300)).len(), 64);
    }

    #[test]
    fn nothing_is_made_by_writing() {
        let directory = tempfile::tempdir().unwrap();
        assert!(write(directory.path(), "pids.max", "1").is_err());
        assert!(!directory.path().join("pids.max").exists());
    }
}
