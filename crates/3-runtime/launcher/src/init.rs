//! The program that is a sandbox's first process (`init/` beside this folder), and where a launcher keeps it: in a file that
//! no path leads to, for its child to become.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use crate::{
    child::mounts::tmpfs,
    sys::{files, mount::Attributes},
};

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent-os-init"));
const NAME: &std::ffi::CStr = c"agent-os-init";
/// Above what any linker makes of it: some leave room for pages of 64 KiB.
const BYTES: &str = "1m";

/// On a file system of its own, which can only be read and executed. Needs the right to mount.
pub fn mounted() -> io::Result<OwnedFd> {
    let attributes = Attributes { read_only: false, no_devices: true, no_programs: false };
    let folder = tmpfs(&[(c"size", BYTES), (c"nr_inodes", "2"), (c"mode", "755")], attributes)?;
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY;
    files::write_all(files::open_in(folder.as_fd(), NAME, flags, 0o555)?.as_fd(), PROGRAM)?;
    match folder.restrict(Attributes { read_only: true, ..attributes }) {
        // Kernels before 5.12 restrict no mount that is attached nowhere. There it is the file's mode that forbids to write,
        // and that it runs.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
        other => other?,
    }
    files::open_in(folder.as_fd(), NAME, libc::O_PATH, 0)
}

/// In memory, where there is no wall to keep up and perhaps no right to mount.
pub fn in_memory() -> io::Result<OwnedFd> {
    let file = files::program_file(NAME)?;
    files::write_all(file.as_fd(), PROGRAM)?;
    Ok(file)
}
