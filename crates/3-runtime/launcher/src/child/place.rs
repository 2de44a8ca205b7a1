//! A place below the new root, made if it is missing, reached one name at a time so that no link leads out of it.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use crate::sys::files;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
}

/// The directory that holds the last name of this plain path, and that name.
pub fn parent(root: BorrowedFd<'_>, path: &str) -> Result<(OwnedFd, CString), String> {
    let failed = |error: io::Error| format!("{path}: {error}");
    let mut directory = root.try_clone_to_owned().map_err(failed)?;
    let mut names = path.trim_start_matches('/').split('/').peekable();
    while let Some(name) = names.next() {
        let name = CString::new(name).map_err(|_| format!("{path} holds a NUL byte"))?;
        if names.peek().is_none() {
            return Ok((directory, name));
        }
        directory = step(directory.as_fd(), &name).map_err(failed)?;
    }
    Err(format!("{path} names nothing"))
}

fn step(directory: BorrowedFd<'_>, name: &CString) -> io::Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    match files::open_in(directory, name, flags, 0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            files::make_directory_in(directory, name)?;
            files::open_in(directory, name, flags, 0)
        }
        result => result,
    }
}

/// The place itself, as something to mount on.
pub fn reach(root: BorrowedFd<'_>, path: &str, kind: Kind) -> Result<OwnedFd, String> {
    let failed = |error: io::Error| format!("{path}: {error}");
    let (directory, name) = parent(root, path)?;
    let directory = directory.as_fd();
    match kind {
        Kind::Directory => step(directory, &name).map_err(failed),
        Kind::File => match files::open_in(directory, &name, libc::O_PATH, 0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                files::open_in(directory, &name, libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY, 0o444)
                    .map_err(failed)?;
                files::open_in(directory, &name, libc::O_PATH, 0).map_err(failed)
            }
            result => result.map_err(failed),
        },
    }
}
