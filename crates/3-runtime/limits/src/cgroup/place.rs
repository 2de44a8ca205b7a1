//! Where the own groups are, from `/proc/self/cgroup` and `/proc/self/mountinfo`. Text in, paths out: nothing is opened.

use std::path::{Path, PathBuf};

/// The own group in each hierarchy that is mounted and can be seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) version2: Option<PathBuf>,
    /// Controllers of each version 1 hierarchy, for example `cpu` and `cpuacct` together, and the own group in it.
    pub(super) version1: Vec<(Vec<String>, PathBuf)>,
}

struct Mount<'a> {
    kind: &'a str,
    /// Which group of the hierarchy the mount point shows.
    root: String,
    point: String,
    options: &'a str,
}

pub(super) fn find(cgroup: &str, mountinfo: &str) -> Place {
    let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(mount).collect();
    let mut place = Place::default();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if controllers.is_empty() {
            let found = mounts.iter().filter(|mount| mount.kind == "cgroup2").find_map(|mount| own(mount, path));
            place.version2 = place.version2.or(found);
        } else if !controllers.starts_with("name=") {
            let names: Vec<String> = controllers.split(',').map(str::to_owned).collect();
            let same = |mount: &&Mount<'_>| {
                mount.kind == "cgroup" && names.iter().all(|name| mount.options.split(',').any(|option| option == name))
            };
            if let Some(directory) = mounts.iter().filter(same).find_map(|mount| own(mount, path)) {
                place.version1.push((names, directory));
            }
        }
    }
    place
}

/// `None` where the mount shows another part of the hierarchy, as in some containers.
fn own(mount: &Mount<'_>, path: &str) -> Option<PathBuf> {
    // Outside the own cgroup namespace the kernel writes the way up.
    if path.split('/').any(|part| part == "..") {
        return None;
    }
    let below = if mount.root == "/" { path } else { path.strip_prefix(mount.root.as_str())? };
    if !below.is_empty() && !below.starts_with('/') {
        return None;
    }
    let below = below.trim_start_matches('/');
    let point = Path::new(&mount.point);
    Some(if below.is_empty() { point.to_owned() } else { point.join(below) })
}

/// One line of proc(5) mountinfo.
fn mount(line: &str) -> Option<Mount<'_>> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ').skip(3);
    let (root, point) = (unescape(front.next()?), unescape(front.next()?));
    let mut back = back.split(' ');
    let kind = back.next()?;
    Some(Mount { kind, root, point, options: back.nth(1).unwrap_or_default() })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn the_own_group_of_each_hierarchy_is_found() {
        let place = find("4:name=systemd:/a\n3:cpu,cpuacct:/\n2:memory:/x/y\n1:pids:/z\n0::/s\n", HYBRID);
        assert_eq!(place.version2.as_deref(), Some(Path::new("/sys/fs/cgroup/unified/s")));
        assert_eq!(
            place.version1,
            [
                (vec!["cpu".into(), "cpuacct".into()], PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")),
                (vec!["memory".into()], PathBuf::from("/sys/fs/cgroup/memory/x/y")),
            ],
            "pids is not mounted, and named hierarchies have no controller"
        );
    }

    #[test]
    fn a_mount_of_a_part_shows_only_what_is_below_it() {
        let mounts = "9 8 0:30 /docker/abc /sys/fs/cgroup\\040x rw - cgroup2 cgroup rw\n";
        let own = |path: &str| find(&format!("0::{path}\n"), mounts).version2;
        assert_eq!(own("/docker/abc/in"), Some(PathBuf::from("/sys/fs/cgroup x/in")));
        assert_eq!(own("/docker/abc"), Some(PathBuf::from("/sys/fs/cgroup x")));
        assert_eq!(own("/docker/abcd"), None, "another group with a longer name");
        assert_eq!(own("/other"), None);
        assert_eq!(own("/../x"), None, "outside the own namespace");
    }

    #[test]
    fn nothing_is_found_in_nothing() {
        assert_eq!(find("", ""), Place::default());
        assert_eq!(find("0::/\ngarbage\n1:x\n", "garbage\n - \n"), Place::default());
    }
}
