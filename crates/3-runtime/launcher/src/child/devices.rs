//! /dev: a few nodes that can do no harm, links to the own descriptors, and bounded shared memory.
//!
//! A launcher with the right to make nodes makes the folder once, and each sandbox gets a read-only copy of the one mount. That
//! saves five mounts a start. For a single sandbox it is the folder itself. Otherwise each node is a bind of the machine's own.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, BorrowedFd},
};

use agentos_protocol::sandbox::Mount;

use crate::sys::{
    files,
    mount::{Attributes, Tree},
};

use super::{
    Child,
    mounts::{attach, attributes, copy_with, link, tmpfs},
    place::{self, Kind},
};

/// Name and minor number; the major number of all of them is that of memory devices.
const NODES: [(&str, u32); 5] = [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];
const MEMORY_MAJOR: u32 = 1;
const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];
/// Enough for the named semaphores and segments of a few programs.
const SHM_INODES: &str = "1024";
const READ_ONLY: Attributes = Attributes { read_only: true, no_devices: false, no_programs: true };

/// What the mount of devices needs of the machine, taken while the machine's root is still the root.
#[derive(Debug)]
pub enum Devices {
    None,
    Folder(Tree),
    Nodes(Vec<Tree>),
}

impl Devices {
    pub fn collect(child: &mut Child<'_>) -> Result<Self, String> {
        if !child.order.mounts.iter().any(|mount| matches!(mount, Mount::Devices { .. })) {
            return Ok(Devices::None);
        }
        match child.devices.take() {
            Some(folder) => Ok(Devices::Folder(folder)),
            None => {
                let copies = NODES.iter().map(|(name, _)| copy_with(&format!("/dev/{name}"), READ_ONLY));
                Ok(Devices::Nodes(copies.collect::<Result<_, _>>()?))
            }
        }
    }

    pub fn mount(&self, root: BorrowedFd<'_>, shm_bytes: u64) -> Result<(), String> {
        match self {
            Devices::None => return Err("no devices were taken along".into()),
            Devices::Folder(folder) => attach(root, folder, "/dev")?,
            Devices::Nodes(nodes) => {
                for ((name, _), node) in NODES.iter().zip(nodes) {
                    let target = format!("/dev/{name}");
                    let place = place::reach(root, &target, Kind::File)?;
                    node.attach(place.as_fd()).map_err(|error| format!("{target}: {error}"))?;
                }
                LINKS.iter().try_for_each(|(target, to)| link(root, target, to))?;
            }
        }
        let bytes = shm_bytes.to_string();
        let options = [(c"size", bytes.as_str()), (c"nr_inodes", SHM_INODES), (c"mode", "1777")];
        let tree = tmpfs(&options, attributes(true, false)).map_err(|error| format!("/dev/shm: {error}"))?;
        attach(root, &tree, "/dev/shm")
    }
}

/// The folder that copies are made of. `None` where this process may not make nodes.
pub fn folder() -> Option<Tree> {
    let folder = single().ok()?;
    // Kernels before 6.15 copy no mount that is attached nowhere. Taking the copy away waits for the whole machine.
    Tree::copy(folder.as_fd(), READ_ONLY).ok()?;
    Some(folder)
}

/// A folder for one sandbox.
pub fn single() -> io::Result<Tree> {
    let options = [(c"size", "64k"), (c"nr_inodes", "32"), (c"mode", "755")];
    let folder = tmpfs(&options, Attributes { read_only: false, ..READ_ONLY })?;
    fill(folder.as_fd())?;
    folder.restrict(READ_ONLY)?;
    Ok(folder)
}

fn fill(folder: BorrowedFd<'_>) -> io::Result<()> {
    for (name, minor) in NODES {
        files::make_device_in(folder, &CString::new(name)?, MEMORY_MAJOR, minor)?;
    }
    for (target, to) in LINKS {
        let name = target.trim_start_matches("/dev/");
        files::make_link_in(folder, &CString::new(name)?, &CString::new(to)?)?;
    }
    files::make_directory_in(folder, c"shm")
}

/// A copy for one sandbox.
pub fn copy_folder(folder: &Tree) -> io::Result<Tree> {
    Tree::copy(folder.as_fd(), READ_ONLY)
}
