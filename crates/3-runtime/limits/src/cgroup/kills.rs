//! Hearing of a kill for want of memory when it happens. Version 1 only: there the largest process is killed and the group lives
//! on, so that it may begin another at once. In version 2 a kill ends the group as a whole, which nobody overlooks.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use rustix::event::{EventfdFlags, eventfd};

use super::files;

/// Counted up by the kernel with each kill in the group itself, and once more when the group is removed.
pub(super) fn counter(memory: &Path) -> io::Result<OwnedFd> {
    let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    // The kernel keeps what it needs of it.
    let control = File::open(memory.join("memory.oom_control"))?;
    files::write(memory, "cgroup.event_control", &format!("{} {}", counter.as_raw_fd(), control.as_raw_fd()))?;
    Ok(counter)
}
