//! Whose files the command makes in what is shared writable.
//!
//! For a plain user they are his own: inside he is uid 1000, and the kernel maps that to him. As root nothing inside may be
//! root, so the command gets owner and group of the directory; a directory of root is refused, because whoever may write
//! there acts as root, and for the group of root it gets one that nobody has. Without a writable directory it gets such a
//! user too.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

use agentos_types::Result;
use rustix::process::geteuid;

use super::plan::refused;

/// Above the ids that systems give to people, services and containers.
const NOBODYS: u32 = 0x7100_0000;
/// Linux has no more process numbers than these.
const PROCESSES_MAX: u32 = 1 << 22;
/// Which numbers there are where this process runs.
const USERS: &str = "/proc/self/uid_map";
const GROUPS: &str = "/proc/self/gid_map";

/// Who the command is on the host. Neither is root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub user: u32,
    pub group: u32,
}

/// `None` for a plain user. Of several directories the first one has the group.
pub(super) fn of(writable: &[PathBuf]) -> Result<Option<Owner>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let mut owner: Option<(&PathBuf, Owner)> = None;
    for path in writable {
        let found = fs::metadata(path).map_err(|error| refused(format!("{}: {error}", path.display())))?;
        let id = found.uid();
        match owner {
            _ if id == 0 => {
                return Err(refused(format!(
                    "{} belongs to root, and nothing in a sandbox may act as root",
                    path.display()
                ))
                .hint("give the directory to another user (chown), or run agent-os as that user"));
            }
            Some((first, Owner { user: other, .. })) if other != id => {
                return Err(refused(format!(
                    "{} belongs to user {other} and {} to user {id}; the command can be only one of them",
                    first.display(),
                    path.display()
                )));
            }
            Some(_) => {}
            None => owner = Some((path, Owner { user: id, group: found.gid() })),
        }
    }
    let (user, group) = (|| nobodys(Nobody::Command, USERS), || nobodys(Nobody::Command, GROUPS));
    Ok(Some(match owner {
        None => Owner { user: user(), group: group() },
        Some((_, Owner { user, group: 0 })) => Owner { user, group: group() },
        Some((_, owner)) => owner,
    }))
}

/// The proxy's own: the command cannot reach what it does, and it cannot reach what the command does.
pub(super) fn proxy_id() -> Option<u32> {
    geteuid().is_root().then(|| nobodys(Nobody::Proxy, USERS))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nobody {
    Command,
    Proxy,
}

/// Of each run another, so that two of them share no limit of the kernel that counts by user.
fn nobodys(who: Nobody, map: &str) -> u32 {
    let map = fs::read_to_string(map).unwrap_or_default();
    mapped(&map, std::process::id() % PROCESSES_MAX, who)
}

/// In a container that has a part of all ids, the last two of them.
fn mapped(map: &str, process: u32, who: Nobody) -> u32 {
    let ranges = || {
        map.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let first: u32 = words.next()?.parse().ok()?;
            let count: u32 = words.nth(1)?.parse().ok()?;
            Some((first, count.checked_sub(1)?))
        })
    };
    let (id, from_the_end) = match who {
        Nobody::Command => (NOBODYS + process, 0),
        Nobody::Proxy => (NOBODYS + PROCESSES_MAX + process, 1),
    };
    let has = |id: u32| ranges().any(|(first, others)| id >= first && id - first <= others);
    let last = ranges().map(|(first, others)| first.saturating_add(others)).max().unwrap_or(id);
    match last.saturating_sub(from_the_end) {
        spare if !has(id) && spare > 0 && has(spare) => spare,
        _ => id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_the_container_has() {
        for (map, command, proxy) in [
            ("         0          0 4294967295\n", 0x7100_0001, 0x7140_0001),
            ("         0     100000      65536\n", 65_535, 65_534),
            ("         0       1000          1\n         1     100000      65536\n", 65_536, 65_535),
            ("", 0x7100_0001, 0x7140_0001),
        ] {
            assert_eq!(mapped(map, 1, Nobody::Command), command, "{map}");
            assert_eq!(mapped(map, 1, Nobody::Proxy), proxy, "{map}");
        }
    }
}
