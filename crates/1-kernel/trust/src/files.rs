//! File access that neither follows a link out of a directory nor leaves half a file behind.
//!
//! A package directory may be hostile and may change while it is read: each path is opened component by component
//! relative to the directory's own handle, without following links, and only what came through the handle is used.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use agentos_types::{Code, Fault, hex};
use rustix::{
    fs::{Mode, OFlags, open, openat},
    io::Errno,
};
use sha2::{Digest, Sha256};

/// Why a file cannot be used, in words that name it.
#[derive(Debug)]
pub(crate) enum Problem {
    /// It is not what it should be. The caller knows which error code that is.
    Unfit(String),
    /// The machine could not read it: that says nothing about the file.
    Unreadable(String),
}

impl Problem {
    pub(crate) fn fault(self, unfit: Code) -> Fault {
        match self {
            Self::Unfit(message) => Fault::new(unfit, message),
            Self::Unreadable(message) => Fault::new(Code::PACKAGE_UNREADABLE, message)
                .hint("the package is not to blame: look at the disk, the rights and the limits of the server"),
        }
    }

    /// Of a file that was opened and could not be read to its end.
    pub(crate) fn of_read(message: String, error: &io::Error) -> Self {
        // Only the machine's errors have a number; ours are about the file.
        if error.raw_os_error().is_some() { Self::Unreadable(message) } else { Self::Unfit(message) }
    }
}

/// Opens the regular file at `relative` beneath `directory`.
pub(crate) fn open_beneath(directory: &Path, relative: &str) -> Result<File, Problem> {
    let say = |why: &str| format!("file '{relative}' of '{}' {why}", directory.display());
    let problem = |why: &str| Problem::Unfit(say(why));
    let parts: Vec<&str> = relative.split('/').collect();
    if parts.iter().any(|part| part.is_empty() || *part == "." || *part == "..") {
        return Err(problem("leaves the package"));
    }
    let refused = |errno: Errno| match errno {
        Errno::LOOP | Errno::NOTDIR => problem("is, or lies under, a symbolic link or something that is no directory"),
        Errno::NOENT => problem("does not exist"),
        other => Problem::Unreadable(say(&format!("cannot be opened: {}", io::Error::from(other)))),
    };
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut handle = open(directory, folder, Mode::empty()).map_err(|errno| {
        let message = format!("directory '{}' cannot be opened: {}", directory.display(), io::Error::from(errno));
        match errno {
            Errno::LOOP | Errno::NOTDIR | Errno::NOENT => Problem::Unfit(message),
            _ => Problem::Unreadable(message),
        }
    })?;
    let (last, folders) = parts.split_last().ok_or_else(|| problem("has no name"))?;
    for part in folders {
        handle = openat(&handle, *part, folder | OFlags::NOFOLLOW, Mode::empty()).map_err(refused)?;
    }
    // NONBLOCK: a named pipe in place of a file must not hang us before its type is known.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(&handle, *last, flags, Mode::empty()).map_err(refused)?);
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(problem("is not a regular file")),
        Err(error) => Err(Problem::Unreadable(say(&format!("cannot be examined: {error}")))),
    }
}

/// Copies at most `bytes_max` bytes to `to` and returns SHA-256 in hex and the length; more bytes are an error.
pub(crate) fn copy_hashed(from: &mut File, to: &mut impl Write, bytes_max: u64) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let mut length = 0_u64;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            let hash: [u8; 32] = hash.finalize().into();
            return Ok((hex::encode(&hash), length));
        }
        let chunk = buffer.get(..count).unwrap_or_default();
        length += count as u64;
        if length > bytes_max {
            return Err(io::Error::other(format!("larger than the {bytes_max} bytes that are left for it")));
        }
        hash.update(chunk);
        to.write_all(chunk)?;
    }
}

/// Whole content of a small file.
pub(crate) fn read_limited(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::Error::other(format!("larger than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// A name beside `path` for what is not finished yet. One writer at a time: what an interrupted one left is overwritten.
pub(crate) fn partial_name(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("the path has no last part"))?;
    Ok(path.with_file_name(format!(".{}.partial", name.to_string_lossy())))
}

/// Replaces a file in one step: readers see the old content or the new, also after a power cut.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = partial_name(path)?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    sync_parent(path)
}

/// Makes the name of a new file durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
