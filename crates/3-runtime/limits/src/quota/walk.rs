//! A walk through a tree that an agent has made and may still be changing: bounded in entries and depth, never through a
//! link, never into another file system.

use std::{collections::HashMap, ffi::CStr, fs::File, os::fd::AsFd, path::Path};

use agentos_types::{Code, Fault, Result};
use rustix::{
    fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchown, fstat, openat, statat},
    io::Errno,
};

use super::place::unavailable;

/// A directory a level: what a walk has open at once. Real trees stay below 40; what goes deeper hides from measuring.
pub(crate) const DEPTH_MAX: u32 = 128;
/// The unit of `st_blocks`, whatever the block size of the file system.
pub(crate) const SECTOR_BYTES: u64 = 512;

/// What lies in a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// What it occupies on the disk; holes do not count.
    pub(crate) bytes: u64,
    /// Files, directories and links.
    pub(crate) files: u64,
}

/// The directory is refused when the walk cannot see everything: what cannot be measured cannot be bounded.
pub(crate) fn measure(directory: &Path, files_max: u64) -> Result<Measured> {
    let mut found = Measured::default();
    walk(directory, files_max, &mut |_, _, stat| {
        // A file with several names is met several times; rounding up keeps the sum from falling short.
        let names = if is_directory(stat) { 1 } else { wide(stat.st_nlink).max(1) };
        found.bytes += (u64::try_from(stat.st_blocks).unwrap_or(0) * SECTOR_BYTES).div_ceil(names);
        found.files += 1;
        Ok(())
    })?;
    Ok(found)
}

/// Gives everything to one user and group. The top is last, so that its owner says whether all of it was done. A file that
/// has a name outside of the tree keeps its owner: it is not the agent's alone.
pub(crate) fn give(directory: &Path, owner: u32, files_max: u64) -> Result<()> {
    let top = open_top(directory)?;
    let stat = fstat(&top).map_err(|source| unavailable(directory, &source))?;
    if stat.st_uid == owner && stat.st_gid == owner {
        return Ok(());
    }
    let mut names: HashMap<u64, u64> = HashMap::new();
    walk(directory, files_max, &mut |_, _, stat| {
        if !is_directory(stat) && stat.st_nlink > 1 {
            *names.entry(stat.st_ino).or_default() += 1;
        }
        Ok(())
    })?;
    let (user, group) = (Uid::from_raw(owner), Gid::from_raw(owner));
    walk(directory, files_max, &mut |parent, name, stat| {
        let inside = is_directory(stat) || stat.st_nlink < 2 || names.get(&stat.st_ino) == Some(&wide(stat.st_nlink));
        if !inside {
            tracing::warn!(?name, "a file of a workspace has a name outside of it and keeps its owner");
            return Ok(());
        }
        chownat(parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|source| unavailable(directory, &source))
    })?;
    fchown(&top, Some(user), Some(group)).map_err(|source| unavailable(directory, &source))
}

type Visit<'v> = dyn FnMut(&File, &CStr, &Stat) -> Result<()> + 'v;

fn walk(directory: &Path, files_max: u64, visit: &mut Visit<'_>) -> Result<()> {
    let top = open_top(directory)?;
    let device = fstat(&top).map_err(|source| unavailable(directory, &source))?.st_dev;
    Walk { device, files_left: files_max, visit }.level(&top, 0)
}

struct Walk<'w, 'v> {
    device: u64,
    files_left: u64,
    visit: &'w mut Visit<'v>,
}

impl Walk<'_, '_> {
    /// Recursion is bounded by [`DEPTH_MAX`].
    fn level(&mut self, directory: &File, depth: u32) -> Result<()> {
        if depth >= DEPTH_MAX {
            return Err(unmeasured(format!("directories lie more than {DEPTH_MAX} deep")));
        }
        let entries = Dir::read_from(directory).map_err(|source| unmeasured(source.to_string()))?;
        for entry in entries {
            let entry = entry.map_err(|source| unmeasured(source.to_string()))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            // What has gone meanwhile is not there any more.
            let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                // A directory that can be listed and not searched would hide what is in it.
                Err(source) => return Err(unmeasured(format!("a file cannot be looked at: {source}"))),
            };
            if stat.st_dev != self.device {
                continue;
            }
            self.files_left =
                self.files_left.checked_sub(1).ok_or_else(|| unmeasured("there are more files than may be"))?;
            (self.visit)(directory, name, &stat)?;
            if is_directory(&stat) {
                match open_directory(directory, name) {
                    Ok(inner) => self.level(&inner, depth + 1)?,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(source) => return Err(unmeasured(format!("a directory cannot be opened: {source}"))),
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn open_top(directory: &Path) -> Result<File> {
    open_directory(rustix::fs::CWD, directory).map_err(|source| unavailable(directory, &source))
}

/// The directory itself, never what a link leads to.
pub(crate) fn open_directory(parent: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty()).map(File::from)
}

/// The count of names is narrower on some processors.
fn wide(count: impl Into<u64>) -> u64 {
    count.into()
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

pub(crate) fn unmeasured(why: impl Into<String>) -> Fault {
    let why = why.into();
    Fault::new(Code::WORKSPACE_LIMIT, format!("the workspace cannot be measured: {why}"))
        .hint("remove what is too deep, too many or closed; a workspace that cannot be measured cannot be bounded")
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn holes_links_and_second_names_count_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::write(path.join("data"), vec![7_u8; 1 << 20]).unwrap();
        fs::hard_link(path.join("data"), path.join("second")).unwrap();
        File::create(path.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        std::os::unix::fs::symlink("/usr", path.join("link")).unwrap();
        File::open(path.join("data")).unwrap().sync_all().unwrap();
        let found = measure(path, 100).unwrap();
        assert_eq!(found.files, 4);
        assert!((1 << 20..=(1 << 20) + 16_384).contains(&found.bytes), "{found:?}");
    }

    #[test]
    fn what_is_too_many_too_deep_or_gone_is_no_measure() {
        let directory = tempfile::tempdir().unwrap();
        let mut path = directory.path().to_owned();
        for _ in 0..DEPTH_MAX {
            path.push("d");
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        measure(directory.path(), 1000).unwrap();
        assert_eq!(measure(directory.path(), 10).unwrap_err().code, Code::WORKSPACE_LIMIT);
        fs::create_dir(path).unwrap();
        let refused = measure(directory.path(), 1000).unwrap_err();
        assert!(refused.message.contains("deep"), "{refused}");
        assert!(measure(&directory.path().join("absent"), 10).is_err());
    }

    #[test]
    fn everything_gets_its_owner_but_what_has_a_name_elsewhere() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("left out: only root gives files away");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (inside, outside) = (directory.path().join("inside"), directory.path().join("outside"));
        fs::create_dir_all(inside.join("deep")).unwrap();
        fs::write(&outside, "host").unwrap();
        fs::write(inside.join("deep/own"), "x").unwrap();
        fs::hard_link(inside.join("deep/own"), inside.join("again")).unwrap();
        fs::hard_link(&outside, inside.join("trap")).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        give(&inside, 70_001, 100).unwrap();
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        for name in ["", "deep", "deep/own", "again", "link"] {
            assert_eq!(owner(&inside.join(name)), 70_001, "{name}");
        }
        assert_eq!(owner(&outside), 0, "a file of the host is not given away");
    }
}
