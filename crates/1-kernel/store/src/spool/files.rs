//! The two files, used in turn. Each is written over within space that was filled with zeros before: a sync that has to change the
//! size of a file, or to turn reserved space into written space, costs twice.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Names within the data directory.
pub(crate) const NAMES: [&str; 2] = ["audit-spool.0", "audit-spool.1"];
/// From this length on the other file is taken, once all of it is in the database.
pub(super) const TURN_BYTES: u64 = 4 * 1024 * 1024;
/// Zeros that are written ahead at a time: some thousand frames, and less than a millisecond.
const AHEAD_BYTES: usize = 1024 * 1024;

/// Where the files lie.
pub(super) trait Medium: Send + Sync {
    fn create(&self, name: &str) -> io::Result<Arc<dyn Part>>;
    /// Takes away what is there of these names, durably.
    fn remove(&self, names: &[&str]) -> io::Result<()>;
}

/// One open file.
pub(super) trait Part: Send + Sync {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

/// The data directory.
pub(super) struct Disk(pub(super) PathBuf);

impl Medium for Disk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn Part>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.0.join(name))?;
        sync_directory(&self.0)?;
        Ok(Arc::new(file))
    }

    fn remove(&self, names: &[&str]) -> io::Result<()> {
        for name in names {
            match fs::remove_file(self.0.join(name)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(source),
                _ => {}
            }
        }
        sync_directory(&self.0)
    }
}

impl Part for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// One of the two.
pub(super) struct Half {
    name: &'static str,
    /// Made when it is first needed.
    part: Option<Arc<dyn Part>>,
    /// Zeros, or frames, up to here.
    filled: u64,
    pub(super) used: u64,
    /// Number of the newest frame in it.
    pub(super) newest: u64,
    pub(super) is_unsynced: bool,
}

impl Half {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, part: None, filled: 0, used: 0, newest: 0, is_unsynced: false }
    }

    pub(super) fn part(&self) -> Option<Arc<dyn Part>> {
        self.part.clone()
    }

    /// Room for a frame. Nothing that counts is written yet: a caller whose room is refused may go elsewhere.
    pub(super) fn make_room(&mut self, medium: &dyn Medium, bytes: usize) -> io::Result<()> {
        let part = match &self.part {
            Some(part) => part.clone(),
            None => self.part.insert(medium.create(self.name)?).clone(),
        };
        let end = self.used.saturating_add(u64::try_from(bytes).map_err(io::Error::other)?);
        if end > self.filled {
            part.write_at(&vec![0; AHEAD_BYTES], self.filled)?;
            self.filled = self.filled.saturating_add(u64::try_from(AHEAD_BYTES).map_err(io::Error::other)?);
        }
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8], number: u64) -> io::Result<()> {
        let part = self.part.as_ref().ok_or_else(|| io::Error::other("no file"))?;
        part.write_at(bytes, self.used)?;
        self.used = self.used.saturating_add(u64::try_from(bytes.len()).map_err(io::Error::other)?);
        (self.newest, self.is_unsynced) = (number, true);
        Ok(())
    }
}

impl fmt::Debug for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Half").field("name", &self.name).field("used", &self.used).finish_non_exhaustive()
    }
}
