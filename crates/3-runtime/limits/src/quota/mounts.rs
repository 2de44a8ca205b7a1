//! What is mounted, as the kernel tells it, and which file is behind a loop device.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One line of `/proc/self/mountinfo`, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountLine {
    /// `MAJOR:MINOR` of the file system.
    pub(crate) device: String,
    pub(crate) target: PathBuf,
    pub(crate) kind: String,
    pub(crate) source: String,
    /// Of the file system, not of this mount of it.
    pub(crate) options: Vec<String>,
}

/// Everything that this process sees. Unreadable is nothing: who needs a line fails for want of it.
pub(crate) fn read() -> Vec<MountLine> {
    let bytes = fs::read("/proc/self/mountinfo").unwrap_or_default();
    // A mount whose name is not UTF-8 is not one of ours, and must not hide the others.
    parse(&String::from_utf8_lossy(&bytes))
}

pub(crate) fn parse(text: &str) -> Vec<MountLine> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<MountLine> {
    let (head, tail) = line.split_once(" - ")?;
    let mut head = head.split(' ');
    let device = head.nth(2)?.to_owned();
    let target = PathBuf::from(unescape(head.nth(1)?));
    let mut tail = tail.split(' ');
    let (kind, source, options) = (tail.next()?, tail.next()?, tail.next()?);
    Some(MountLine {
        device,
        target,
        kind: kind.to_owned(),
        source: unescape(source),
        options: options.split(',').map(str::to_owned).collect(),
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(word: &str) -> String {
    let mut plain = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// The mount that is on top at exactly this place.
pub(crate) fn at<'l>(lines: &'l [MountLine], target: &Path) -> Option<&'l MountLine> {
    lines.iter().rev().find(|line| line.target == target)
}

/// The mount that a path lies in: the longest target that it begins with, the newest of equals.
pub(crate) fn holding<'l>(lines: &'l [MountLine], path: &Path) -> Option<&'l MountLine> {
    lines.iter().filter(|line| path.starts_with(&line.target)).max_by_key(|line| line.target.as_os_str().len())
}

/// The file behind a loop device, by its `MAJOR:MINOR`.
pub(crate) fn backing_file(device: &str) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/sys/dev/block/{device}/loop/backing_file")).ok()?;
    Some(PathBuf::from(text.trim_end_matches('\n')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard,prjquota
42 27 7:0 / /srv/agent\\040os/work/echo rw,nosuid,nodev - ext4 /dev/loop0 rw,errors=remount-ro
43 27 0:99 / /srv rw - tmpfs tmp\\134fs rw
garbage";

    #[test]
    fn lines_are_read_as_the_kernel_writes_them() {
        let lines = parse(TABLE);
        assert_eq!(lines.len(), 3);
        let echo = at(&lines, Path::new("/srv/agent os/work/echo")).unwrap();
        assert_eq!((echo.device.as_str(), echo.source.as_str()), ("7:0", "/dev/loop0"));
        assert!(lines[0].options.contains(&"prjquota".to_owned()));
        assert_eq!(lines[2].source, "tmp\\fs");
        assert_eq!(unescape("a\\9x\\"), "a\\9x\\", "what is no escape stays");
    }

    #[test]
    fn a_path_lies_in_the_longest_mount() {
        let lines = parse(TABLE);
        for (path, device) in
            [("/etc", "254:0"), ("/srv/x", "0:99"), ("/srv/agent os/work/echo/a", "7:0"), ("/srvx", "254:0")]
        {
            assert_eq!(holding(&lines, Path::new(path)).unwrap().device, device, "{path}");
        }
    }

    #[test]
    fn the_root_of_this_machine_is_found() {
        assert!(holding(&read(), Path::new("/")).is_some());
    }
}
