//! The backup before a change of the schema: a private file in `backups/` of the data directory, checked, on the disk,
//! and the newest three kept. How a copy is made, each database says; when one is needed, `migrator.rs`.
//!
//! It is the way back from an upgrade and nothing more: a backup that outlives the disk is the operator's.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use agentos_base::fs::create_private_directory;
use agentos_types::{Code, Fault, Result, Timestamp};

/// Directory within the data directory.
pub const DIRECTORY: &str = "backups";
/// Enough for a release that goes wrong, the try after it, and one more.
const KEPT: usize = 3;
/// Left free beside the copy, so that the server that starts then can write.
const MARGIN_BYTES: u64 = 16 * 1024 * 1024;
/// Backups of one schema in one millisecond: only a clock that stands still makes more than one.
const SAME_NAME_MAX: u32 = 100;
const UNFINISHED: &str = "partial";

/// What is to be copied.
pub(crate) struct Subject<'s> {
    /// Data directory.
    pub(crate) directory: &'s Path,
    pub(crate) schema: i64,
    pub(crate) now: Timestamp,
    /// Of the file's name: how a person tells what kind of copy it is.
    pub(crate) extension: &'static str,
    /// At most this much is written.
    pub(crate) bytes: u64,
}

/// Lets `copy` fill a file that only its owner may read, and returns its path when it is durable.
pub(crate) fn take(subject: &Subject<'_>, copy: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let directory = subject.directory.join(DIRECTORY);
    create_private_directory(&directory)?;
    let stem = format!("schema-{}-{}", subject.schema, compact(subject.now));
    let partial = directory.join(format!("{stem}.{UNFINISHED}"));
    // What a process that was killed has left.
    for path in listed(&directory, &[UNFINISHED])? {
        fs::remove_file(&path).map_err(|source| failed(&path, &source))?;
    }
    require_room(&directory, subject.bytes)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
    file.map_err(|source| failed(&partial, &source))?;
    let finish = || {
        copy(&partial)?;
        let path = free_name(&directory, &stem, subject.extension)?;
        let settle = || {
            File::open(&partial)?.sync_all()?;
            fs::rename(&partial, &path)?;
            File::open(&directory)?.sync_all()
        };
        settle().map_err(|source| failed(&path, &source))?;
        Ok(path)
    };
    match finish() {
        Ok(path) => {
            prune(&directory);
            Ok(path)
        }
        Err(fault) => {
            let _ = fs::remove_file(&partial);
            Err(fault)
        }
    }
}

fn require_room(directory: &Path, bytes: u64) -> Result<()> {
    let needed = bytes.saturating_add(MARGIN_BYTES);
    let room = rustix::fs::statvfs(directory).map_err(|source| failed(directory, &source.into()))?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    if free >= needed {
        return Ok(());
    }
    Err(Fault::new(
        Code::BACKUP_FAILED,
        format!("the backup before the migration needs {needed} bytes in {}, {free} are free", directory.display()),
    )
    .hint("make room, or take a backup elsewhere and run: agent-os migrate up --backup-taken"))
}

fn free_name(directory: &Path, stem: &str, extension: &str) -> Result<PathBuf> {
    let name = |number: u32| match number {
        1 => directory.join(format!("{stem}.{extension}")),
        _ => directory.join(format!("{stem}-{number}.{extension}")),
    };
    let free = (1..=SAME_NAME_MAX).map(name).find(|path| !path.exists());
    free.ok_or_else(|| Fault::new(Code::BACKUP_FAILED, format!("{stem} has {SAME_NAME_MAX} backups already")))
}

/// Removes all but the newest. One that cannot be removed costs room and nothing else.
fn prune(directory: &Path) {
    let mut paths = listed(directory, &["db", "dump"]).unwrap_or_default();
    paths.sort_by_key(|path| age(path));
    let surplus = paths.len().saturating_sub(KEPT);
    for path in paths.into_iter().take(surplus) {
        if let Err(failure) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %failure, "an old backup could not be removed");
        }
    }
}

/// Our own files of these kinds; whatever else an operator puts there stays.
fn listed(directory: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).map_err(|source| failed(directory, &source))?;
    let ours = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        extensions.contains(&extension) && !age(path).0.is_empty()
    };
    Ok(entries.flatten().map(|entry| entry.path()).filter(ours).collect())
}

/// What sorts by age: the time in the name, and the length of the name where the clock stood still. Empty for names that
/// are not ours.
fn age(path: &Path) -> (String, usize, String) {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let parts: Vec<&str> = stem.split('-').collect();
    match parts.as_slice() {
        ["schema", number, time, ..] if number.parse::<i64>().is_ok() => {
            ((*time).to_owned(), stem.len(), stem.to_owned())
        }
        _ => Default::default(),
    }
}

/// RFC 3339 without what file names and shells dislike.
fn compact(at: Timestamp) -> String {
    at.to_string().replace(['-', ':'], "")
}

pub(crate) fn failed(path: &Path, source: &std::io::Error) -> Fault {
    Fault::new(Code::BACKUP_FAILED, format!("the backup before the migration failed: {}: {source}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn subject(directory: &Path, second: i64, bytes: u64) -> Subject<'_> {
        let now = Timestamp::from_millis(1_795_392_000_000 + second * 1_000);
        Subject { directory, schema: 7, now, extension: "db", bytes }
    }

    fn write(text: &'static str) -> impl FnOnce(&Path) -> Result<()> {
        move |path| fs::write(path, text).map_err(|source| failed(path, &source))
    }

    #[test]
    fn the_newest_three_are_kept_and_nothing_else_is_touched() {
        let home = tempfile::tempdir().unwrap();
        let mut made = Vec::new();
        for second in [5, 5, 1, 9, 10] {
            made.push(take(&subject(home.path(), second, 1), write("x")).unwrap());
        }
        let directory = home.path().join(DIRECTORY);
        fs::write(directory.join("mine.db"), "y").unwrap();
        fs::write(directory.join("schema-7-20200101T000000.000Z.partial"), "half").unwrap();
        made.push(take(&subject(home.path(), 11, 1), write("z")).unwrap());
        let mut left: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        left.sort();
        let mut expected = vec![directory.join("mine.db"), made[3].clone(), made[4].clone(), made[5].clone()];
        expected.sort();
        assert_eq!(left, expected);
        assert!(made[5].ends_with("backups/schema-7-20261123T000011.000Z.db"), "{:?}", made[5]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&made[5])), (0o700, 0o600));
    }

    #[test]
    fn without_room_nothing_is_written_and_the_bytes_are_named() {
        let home = tempfile::tempdir().unwrap();
        let refused = take(&subject(home.path(), 1, 1 << 60), |_| panic!("it was tried")).unwrap_err();
        assert_eq!(refused.code, Code::BACKUP_FAILED);
        assert!(refused.message.contains("needs 1152921504623624192 bytes"), "{refused}");
    }

    #[test]
    fn a_copy_that_fails_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let failing = |_: &Path| Err(Fault::new(Code::BACKUP_FAILED, "no"));
        assert!(take(&subject(home.path(), 1, 1), failing).is_err());
        assert_eq!(fs::read_dir(home.path().join(DIRECTORY)).unwrap().count(), 0);
    }
}
