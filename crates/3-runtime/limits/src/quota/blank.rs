//! Empty images: one file system for each size, made once and copied for every new workspace.
//!
//! The program that makes file systems asks every loop device of the machine first whether the file is mounted: a server with a
//! thousand workspaces would ask a million times. A copy asks nobody, and takes what the file system holds of its file, which is
//! little. All copies have one UUID. Nothing here finds a file system by it: each image is attached by its path, its journal lies
//! inside of it, and ext4, unlike XFS and Btrfs, mounts many of one UUID.
//!
//! They are made anew by each server, so that none is older than the program and the options that made it.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Mutex, PoisonError},
};

use agentos_types::Result;
use rustix::{
    fs::{SeekFrom, copy_file_range, seek},
    io::Errno,
};

use super::{
    place::{Places, unavailable},
    programs::{Programs, text},
};

/// From here on blocks of 4 KiB; below, they would waste what little there is.
const LARGE_BYTES: u64 = 64 << 20;
/// Sizes of which an empty image is kept: one takes less than a mebibyte, and manifests agree on few. Beyond, each workspace is
/// made by itself.
const SIZES_MAX: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Blanks {
    /// Sizes that are there. Who makes one holds the lock, so that a second one copies it.
    sizes: Mutex<BTreeSet<u64>>,
}

impl Blanks {
    /// A new file of this size with an empty file system, all of it on the disk.
    pub(crate) fn put(&self, places: &Places, programs: &Programs, bytes: u64, path: &Path) -> Result<()> {
        let blank = places.blank(bytes);
        let is_there = {
            let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
            let has_room = sizes.len() < SIZES_MAX;
            if !sizes.contains(&bytes) && has_room {
                make(programs, bytes, &blank)?;
                sizes.insert(bytes);
            }
            sizes.contains(&bytes)
        };
        // One that was taken away by a hand from outside is made anew for the next.
        let source = is_there.then(|| File::open(&blank).inspect_err(|_| self.forget(bytes)));
        let Some(Ok(source)) = source else { return make(programs, bytes, path) };
        let copied = new_file(path, bytes).and_then(|new| copy(&source, &new, bytes));
        copied.map_err(|source| unavailable(path, &source))
    }

    fn forget(&self, bytes: u64) {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).remove(&bytes);
    }
}

/// Any earlier attempt is gone.
fn new_file(path: &Path, bytes: u64) -> std::io::Result<File> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(source),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_len(bytes)?;
    Ok(file)
}

fn make(programs: &Programs, bytes: u64, path: &Path) -> Result<()> {
    new_file(path, bytes).map_err(|source| unavailable(path, &source))?;
    let large = bytes >= LARGE_BYTES;
    let (block, journal, inode) = if large { ("4096", "size=4", "16384") } else { ("1024", "size=1", "4096") };
    // The file is one hole, so that a journal of zeros need not be written, and tables of zeros cost nothing: the kernel would
    // write them later, in each workspace.
    let extended = "root_owner=0:0,lazy_journal_init=1,lazy_itable_init=0";
    let file = text(path)?;
    // -m 0: no blocks kept for root, which has nothing to do in there.
    let arguments =
        ["-F", "-q", "-t", "ext4", "-m", "0", "-b", block, "-J", journal, "-i", inode, "-E", extended, file];
    programs.run("mkfs.ext4", &arguments)
}

/// What is no hole, and then all of it onto the disk: whoever counts on the file does so from the next instant on.
fn copy(blank: &File, new: &File, bytes: u64) -> std::io::Result<()> {
    let mut at = 0;
    // Ends: each round goes on from the end of what was copied, and stops at the end of the file.
    while at < bytes {
        let from = match seek(blank, SeekFrom::Data(at)) {
            Ok(from) => from,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let to = seek(blank, SeekFrom::Hole(from))?.min(bytes);
        let (mut source, mut target) = (from, from);
        while source < to {
            let part = usize::try_from(to - source).unwrap_or(usize::MAX);
            if copy_file_range(blank, Some(&mut source), new, Some(&mut target), part)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        at = to;
    }
    new.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    const SIZE: u64 = 64 << 20;

    #[test]
    fn a_copy_has_every_byte_and_no_hole_less() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blank");
        let blank = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        blank.set_len(SIZE).unwrap();
        for (at, word) in [(0, "first"), (5 << 20, "middle"), (SIZE - 4, "last")] {
            blank.write_all_at(word.as_bytes(), at).unwrap();
        }
        let target = directory.path().join("copy");
        fs::write(&target, "an earlier attempt").unwrap();
        copy(&blank, &new_file(&target, SIZE).unwrap(), SIZE).unwrap();
        assert!(fs::read(&path).unwrap() == fs::read(&target).unwrap());
        let found = fs::metadata(&target).unwrap();
        assert_eq!(found.mode() & 0o777, 0o600);
        assert!(found.blocks() * 512 < 1 << 20, "{} blocks", found.blocks());
    }

    #[test]
    fn one_that_was_taken_away_is_made_anew_and_a_missing_program_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let places = Places::open(directory.path()).unwrap();
        let (none, blanks) = (Programs::in_directory(&directory.path().join("nothing")), Blanks::default());
        let path = places.new_image("agent");
        let fault = blanks.put(&places, &none, SIZE, &path).unwrap_err();
        assert!(fault.message.contains("mkfs.ext4"), "{fault}");
        assert!(blanks.sizes.lock().unwrap().is_empty());
        // As if it had been made, and then removed: it is not copied but made, and the next time as well.
        blanks.sizes.lock().unwrap().insert(SIZE);
        fs::remove_file(places.blank(SIZE)).unwrap();
        let fault = blanks.put(&places, &none, SIZE, &path).unwrap_err();
        assert!(fault.message.contains("mkfs.ext4"), "{fault}");
        assert!(blanks.sizes.lock().unwrap().is_empty());
    }
}
