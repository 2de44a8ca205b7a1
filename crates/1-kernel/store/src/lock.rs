//! The lock that keeps a second server out of a data directory. The kernel drops it when the process dies, however it dies.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::Path,
};

use agentos_types::{Code, Fault, Result};
use rustix::fs::{FlockOperation, flock};

#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    pub(crate) fn take(path: &Path) -> Result<Self> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(|source| {
                Fault::new(Code::STORE_UNAVAILABLE, "the data directory cannot be written")
                    .detail(format!("{}: {source}", path.display()))
            })?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            return Err(Fault::new(
                Code::STORE_LOCKED,
                format!("the data directory is in use by process {}", holder.trim()),
            )
            .hint("stop it with: agent-os down"));
        }
        // The number only helps people; the lock itself is the truth.
        let _ = file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
        Ok(Self { _file: file })
    }
}
