//! Copies a workspace from one place to the other when the driver changes. An agent made the tree, so nothing in it is
//! trusted: no link is followed, devices, pipes and sockets are left behind, holes stay holes, and there is a cap.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read},
    path::Path,
};

use agentos_types::{Code, Fault, Result};
use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, chownat, fchmod, fchown,
        fstat, ftruncate, futimens, mkdirat, openat, readlinkat, seek, statat, symlinkat, syncfs,
    },
    io::Errno,
};

use super::{
    place::{Cause, maybe_later},
    walk::{DEPTH_MAX, open_directory, open_top},
};

/// What may be copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cap {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

/// Fills the empty directory `to` with everything of `from` and waits until the disk has it.
pub(crate) fn copy(from: &Path, to: &Path, cap: Cap, owner: u32) -> Result<()> {
    let (source, target) = (open_top(from)?, open_top(to)?);
    let mut copying = Copying { left: cap, cap, owner };
    copying.level(&source, &target, 0)?;
    copying.finish(&source, &target)?;
    syncfs(&target).map_err(|source| failed(&source))
}

struct Copying {
    left: Cap,
    cap: Cap,
    owner: u32,
}

impl Copying {
    /// Recursion is bounded by [`DEPTH_MAX`].
    fn level(&mut self, from: &File, to: &File, depth: u32) -> Result<()> {
        if depth >= DEPTH_MAX {
            return Err(Fault::new(
                Code::WORKSPACE_LIMIT,
                format!("the workspace cannot be moved: directories lie more than {DEPTH_MAX} deep"),
            ));
        }
        for name in self.names(from)? {
            let stat = statat(from, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(|source| failed(&source))?;
            self.left.files = self.left.files.checked_sub(1).ok_or_else(|| self.too_much())?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    mkdirat(to, &name, Mode::RWXU).map_err(|source| failed(&source))?;
                    let inner = open_directory(from, &name).map_err(|source| failed(&source))?;
                    let made = open_directory(to, &name).map_err(|source| failed(&source))?;
                    self.level(&inner, &made, depth + 1)?;
                    self.finish(&inner, &made)?;
                }
                FileType::RegularFile => self.file(from, to, &name)?,
                FileType::Symlink => self.link(from, to, &name)?,
                // Nothing durable is in them.
                _ => {}
            }
        }
        Ok(())
    }

    /// All names first, so that only the two directories of a level stay open.
    fn names(&self, directory: &File) -> Result<Vec<CString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(directory).map_err(|source| failed(&source))? {
            let entry = entry.map_err(|source| failed(&source))?;
            let name = entry.file_name();
            // The directory that mkfs makes for fsck is no data of the agent.
            if name != c"." && name != c".." && name != c"lost+found" {
                names.push(name.to_owned());
            }
            if names.len() as u64 > self.left.files {
                return Err(self.too_much());
            }
        }
        Ok(names)
    }

    fn file(&mut self, from: &File, to: &File, name: &CStr) -> Result<()> {
        let reading = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = File::from(openat(from, name, reading, Mode::empty()).map_err(|source| failed(&source))?);
        let writing = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = File::from(openat(to, name, writing, Mode::RUSR | Mode::WUSR).map_err(|source| failed(&source))?);
        let stat = fstat(&source).map_err(|source| failed(&source))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(failed(&"a file became something else while it was copied"));
        }
        self.content(&source, &target)?;
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        ftruncate(&target, length).map_err(|source| failed(&source))?;
        self.finish(&source, &target)
    }

    /// Only what is really there: a file of 8 EiB may be one hole.
    fn content(&mut self, source: &File, target: &File) -> Result<()> {
        let mut position = 0;
        loop {
            let start = match seek(source, SeekFrom::Data(position)) {
                Ok(start) => start,
                Err(Errno::NXIO) => return Ok(()),
                Err(error) => return Err(failed(&error)),
            };
            let end = seek(source, SeekFrom::Hole(start)).map_err(|error| failed(&error))?;
            let length = end.saturating_sub(start);
            self.left.bytes = self.left.bytes.checked_sub(length).ok_or_else(|| self.too_much())?;
            for file in [source, target] {
                seek(file, SeekFrom::Start(start)).map_err(|error| failed(&error))?;
            }
            let (mut reading, mut writing) = (source.take(length), target);
            io::copy(&mut reading, &mut writing).map_err(|error| self.full_or_failed(&error))?;
            // A file that shrinks meanwhile would otherwise be looked at for ever.
            position = u64::max(end, start + 1);
        }
    }

    fn link(&mut self, from: &File, to: &File, name: &CStr) -> Result<()> {
        let leads = readlinkat(from, name, Vec::new()).map_err(|source| failed(&source))?;
        symlinkat(leads, to, name).map_err(|source| failed(&source))?;
        let (user, group) = self.owner();
        chownat(to, name, user, group, AtFlags::SYMLINK_NOFOLLOW).map_err(|source| failed(&source))
    }

    /// Mode without the bits that lend rights, times, and the owner, which is the agent's user alone.
    fn finish(&self, source: &File, target: &File) -> Result<()> {
        let stat = fstat(source).map_err(|source| failed(&source))?;
        let (user, group) = self.owner();
        let set = || {
            fchown(target, user, group)?;
            fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o777))?;
            futimens(target, &times(&stat))
        };
        set().map_err(|source| failed(&source))
    }

    fn owner(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.owner)), Some(Gid::from_raw(self.owner)))
    }

    fn full_or_failed(&self, error: &io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => self.too_much(),
            _ => failed(error),
        }
    }

    fn too_much(&self) -> Fault {
        let cap = self.cap;
        Fault::new(
            Code::WORKSPACE_LIMIT,
            format!(
                "the workspace holds more than limits.workspace_bytes allows, {} bytes in {} files, so it cannot be moved there",
                cap.bytes, cap.files
            ),
        )
        .hint("raise limits.workspace_bytes in the manifest, or remove files from the workspace")
    }
}

fn times(stat: &Stat) -> Timestamps {
    let instant =
        |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanoseconds).unwrap_or(0) };
    Timestamps {
        last_access: instant(stat.st_atime, stat.st_atime_nsec),
        last_modification: instant(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn failed(source: &dyn Cause) -> Fault {
    let message = "a workspace could not be moved to its new place; the old one is unchanged";
    let fault = Fault::new(Code::WORKSPACE_UNAVAILABLE, message)
        .detail(source)
        .hint("the server's log names the reason; the guide on disk quotas has what a move needs");
    maybe_later(fault, source)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    const PLENTY: Cap = Cap { bytes: 1 << 30, files: 1000 };

    fn copied(make: impl Fn(&Path), cap: Cap) -> Result<tempfile::TempDir> {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make(from.path());
        copy(from.path(), to.path(), cap, rustix::process::geteuid().as_raw()).map(|()| to)
    }

    #[test]
    fn files_links_modes_and_times_arrive() {
        let to = copied(
            |from| {
                fs::create_dir_all(from.join("a/b")).unwrap();
                fs::write(from.join("a/b/run"), "#!/bin/sh").unwrap();
                fs::set_permissions(from.join("a/b/run"), std::os::unix::fs::PermissionsExt::from_mode(0o4755))
                    .unwrap();
                std::os::unix::fs::symlink("/etc/shadow", from.join("link")).unwrap();
                rustix::fs::mkfifoat(rustix::fs::CWD, from.join("pipe"), Mode::RWXU).unwrap();
            },
            PLENTY,
        )
        .unwrap();
        let run = fs::metadata(to.path().join("a/b/run")).unwrap();
        assert_eq!(run.mode() & 0o7777, 0o755, "no bit that lends rights");
        assert_eq!(fs::read_to_string(to.path().join("a/b/run")).unwrap(), "#!/bin/sh");
        assert_eq!(
            fs::read_link(to.path().join("link")).unwrap(),
            Path::new("/etc/shadow"),
            "the link, not its target"
        );
        assert!(!to.path().join("pipe").exists());
    }

    #[test]
    fn a_hole_stays_a_hole() {
        let to = copied(
            |from| {
                let file = File::create(from.join("sparse")).unwrap();
                file.set_len(1 << 41).unwrap();
                std::os::unix::fs::FileExt::write_at(&file, b"end", 1 << 40).unwrap();
            },
            PLENTY,
        )
        .unwrap();
        let found = fs::metadata(to.path().join("sparse")).unwrap();
        assert_eq!(found.len(), 1 << 41);
        assert!(found.blocks() < 100, "{}", found.blocks());
        let mut end = [0; 3];
        let file = File::open(to.path().join("sparse")).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut end, 1 << 40).unwrap();
        assert_eq!(&end, b"end");
    }

    #[test]
    fn above_the_cap_nothing_is_taken_for_moved() {
        let big = |from: &Path| fs::write(from.join("big"), vec![1; 1 << 20]).unwrap();
        let many = |from: &Path| (0..20).for_each(|i| fs::write(from.join(i.to_string()), "").unwrap());
        for refused in [copied(big, Cap { bytes: 4096, files: 10 }), copied(many, Cap { bytes: 4096, files: 10 })] {
            let fault = refused.unwrap_err();
            assert_eq!(fault.code, Code::WORKSPACE_LIMIT, "{fault}");
            assert!(fault.message.contains("4096 bytes in 10 files"), "{fault}");
        }
    }
}
