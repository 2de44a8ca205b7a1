//! The log file of a detached server: set aside when it is large, and a bounded number of those kept.
//!
//! Lines go to standard error, whatever that is. Only while it is this very file does the process set it aside and lead its standard
//! error into a new one; a terminal, a pipe or the journal of the machine is nobody's to rotate. Programs that were started before write
//! on into the file that was set aside, so nothing of theirs is lost.

use std::{
    fs::{File, OpenOptions, Permissions, remove_file, rename, set_permissions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::{
    fs::fstat,
    stdio::{dup2_stderr, stderr},
};

/// The most that the setting allows: what may be there after it was lowered.
const KEPT_MAX: u64 = 100;

/// Which file it is, and how it is kept.
#[derive(Clone, Debug)]
pub struct LogFile {
    pub path: PathBuf,
    /// 0: it grows.
    pub bytes_max: u64,
    /// Files set aside: `PATH.1` is the newest.
    pub kept: u64,
}

#[derive(Debug)]
pub(super) struct Rotation {
    file: LogFile,
    /// Since it was begun, or since it could not be set aside.
    written: Mutex<u64>,
}

impl Rotation {
    /// None where standard error is something else.
    pub fn of(file: LogFile) -> Option<Self> {
        let is_wanted = file.bytes_max > 0 && is_standard_error(&file.path);
        let written = Mutex::new(if is_wanted { length(&file.path) } else { 0 });
        is_wanted.then_some(Self { file, written })
    }

    /// After a line, while nobody else of this process writes one.
    pub fn wrote(&self, bytes: usize) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        *written = written.saturating_add(bytes as u64);
        if *written < self.file.bytes_max {
            return Ok(());
        }
        *written = 0;
        // Somebody has moved it away: then it is his.
        if !is_standard_error(&self.file.path) {
            return Ok(());
        }
        dup2_stderr(self.file.set_aside()?)?;
        Ok(())
    }
}

impl LogFile {
    fn aside(&self, number: u64) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// The new file. The old one keeps its name until there is a new one.
    fn set_aside(&self) -> io::Result<File> {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let fresh = OpenOptions::new().create(true).append(true).mode(0o600).open(&name)?;
        // One that a crash has left may have been anybody's.
        set_permissions(&name, Permissions::from_mode(0o600))?;
        for number in self.kept..=KEPT_MAX {
            is_gone(remove_file(self.aside(number)))?;
        }
        for number in (1..self.kept).rev() {
            is_gone(rename(self.aside(number), self.aside(number + 1)))?;
        }
        rename(&self.path, self.aside(1))?;
        rename(&name, &self.path)?;
        Ok(fresh)
    }
}

fn is_gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn is_standard_error(path: &Path) -> bool {
    let (Ok(own), Ok(named)) = (fstat(stderr()), path.symlink_metadata()) else { return false };
    (own.st_dev, own.st_ino) == (named.dev(), named.ino())
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |found| found.len())
}

#[cfg(test)]
mod tests {
    use std::fs::{read_to_string, write};

    use super::*;

    fn there(directory: &Path) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), read_to_string(entry.path()).unwrap()))
            .collect();
        found.sort();
        found
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn the_newest_are_kept_and_no_more_of_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let file = LogFile { path: path.clone(), bytes_max: 1, kept: 2 };
        for text in ["first", "second", "third"] {
            write(&path, text).unwrap();
            file.set_aside().unwrap();
        }
        assert_eq!(there(directory.path()), pairs(&[("log", ""), ("log.1", "third"), ("log.2", "second")]));
        // What an earlier, larger setting has left goes too.
        write(file.aside(7), "old").unwrap();
        write(&path, "fourth").unwrap();
        LogFile { kept: 1, ..file }.set_aside().unwrap();
        assert_eq!(there(directory.path()), pairs(&[("log", ""), ("log.1", "fourth")]));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_set_aside_stays_and_what_is_not_ours_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        write(&path, "all").unwrap();
        let file = LogFile { path: path.clone(), bytes_max: 1, kept: 2 };
        std::fs::create_dir(directory.path().join("log.new")).unwrap();
        assert!(file.set_aside().is_err());
        assert_eq!(read_to_string(&path).unwrap(), "all");
        assert!(Rotation::of(file).is_none(), "the standard error of a test is another file");
    }
}
