//! What is verified: a file, which is opened as often as it is needed, or a pipe, which can be read only once.
//!
//! A segment is read at two places at a time (records, and the checkpoints behind them). A pipe is therefore taken into
//! memory, within a limit; nothing is written to a disk for it.

use std::{
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use agentos_types::Result;

use super::unreadable;

/// Name of standard input.
pub const STANDARD_INPUT: &str = "-";
/// Most bytes that are taken from a pipe: about a million records. A larger segment is verified from a file.
const PIPE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Where readers come from.
#[derive(Debug)]
pub(crate) enum Input {
    File(PathBuf),
    Memory(Arc<[u8]>),
}

/// One reader, from the beginning.
#[derive(Debug)]
pub(crate) enum Content {
    File(File),
    Memory(Cursor<Arc<[u8]>>),
}

impl Input {
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| unreadable(path, error);
        if path.as_os_str() == STANDARD_INPUT {
            return Self::from_pipe(io::stdin().lock()).map_err(failed);
        }
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_file() {
            return Ok(Self::File(path.to_owned()));
        }
        Self::from_pipe(file).map_err(failed)
    }

    pub fn from_pipe(pipe: impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        pipe.take(PIPE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > PIPE_BYTES_MAX {
            let message = format!("a pipe may bring {PIPE_BYTES_MAX} bytes; write the segment to a file");
            return Err(io::Error::other(message));
        }
        Ok(Self::Memory(bytes.into()))
    }

    pub fn reader(&self) -> io::Result<Content> {
        match self {
            Self::File(path) => File::open(path).map(Content::File),
            Self::Memory(bytes) => Ok(Content::Memory(Cursor::new(Arc::clone(bytes)))),
        }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Memory(bytes) => bytes.read(buffer),
        }
    }
}

impl Seek for Content {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Memory(bytes) => bytes.seek(to),
        }
    }
}
