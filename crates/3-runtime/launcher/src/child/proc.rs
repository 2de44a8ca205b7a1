//! /proc: own processes alone, or what a container sees, with the dangerous files masked.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use agentos_protocol::sandbox::ProcView;

use crate::{
    left_out,
    sys::{
        files,
        mount::{Attributes, Tree},
    },
};

use super::place::{self, Kind};

const HIDE: (&CStr, &CStr) = (c"hidepid", c"invisible");
const OWN: (&CStr, &CStr) = (c"subset", c"pid");

/// Memory, keys, addresses and other people's work. A name that this kernel does not have is skipped.
const MASKED: [&str; 26] = [
    "acpi",
    "asound",
    "bus",
    "driver",
    "interrupts",
    "iomem",
    "ioports",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "modules",
    "sched_debug",
    "schedstat",
    "scsi",
    "slabinfo",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
    "vmallocinfo",
    "vmcore",
];
/// Settings that programs read.
const READ_ONLY: [&str; 3] = ["fs", "irq", "sys"];

pub fn mount(root: BorrowedFd<'_>, view: ProcView) -> Result<(), String> {
    if left_out::is("processes") {
        return keep_hosts(root);
    }
    let options: &[_] = match view {
        _ if left_out::is("proc") => &[],
        ProcView::Processes => &[HIDE, OWN],
        ProcView::MaskedFull => &[HIDE],
    };
    let forbidden = Attributes { read_only: false, no_devices: true, no_programs: true };
    let tree = Tree::make(c"proc", options, forbidden).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("/proc: {error} (the machine's own /proc is partly hidden, as in a container)")
        }
        _ => format!("/proc: {error}"),
    })?;
    let place = place::reach(root, "/proc", Kind::Directory)?;
    tree.attach(place.as_fd()).map_err(|error| format!("/proc could not be mounted: {error}"))?;
    match view {
        _ if left_out::is("proc") => Ok(()),
        ProcView::Processes => Ok(()),
        ProcView::MaskedFull => {
            READ_ONLY.iter().try_for_each(|name| make_read_only(tree.as_fd(), name))?;
            MASKED.iter().try_for_each(|name| mask(tree.as_fd(), name))
        }
    }
}

/// A process without a namespace of its own can have no other.
fn keep_hosts(root: BorrowedFd<'_>) -> Result<(), String> {
    let failed = |error: io::Error| format!("the host's /proc: {error}");
    let tree = Tree::copy(files::find(c"/proc").map_err(failed)?.as_fd(), Attributes::default()).map_err(failed)?;
    tree.attach(place::reach(root, "/proc", Kind::Directory)?.as_fd()).map_err(failed)
}

fn find(tree: BorrowedFd<'_>, name: &str) -> Result<Option<OwnedFd>, String> {
    let failed = |error: io::Error| format!("/proc/{name}: {error}");
    let path = CString::new(name).map_err(|error| failed(error.into()))?;
    match files::open_in(tree, &path, libc::O_PATH, 0) {
        Ok(place) => Ok(Some(place)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn make_read_only(tree: BorrowedFd<'_>, name: &str) -> Result<(), String> {
    let Some(place) = find(tree, name)? else { return Ok(()) };
    let failed = |error: io::Error| format!("/proc/{name} could not be made read-only: {error}");
    let attributes = Attributes { read_only: true, no_devices: true, no_programs: true };
    Tree::copy(place.as_fd(), attributes).and_then(|copy| copy.attach(place.as_fd())).map_err(failed)
}

/// An empty directory or the null device over it.
fn mask(tree: BorrowedFd<'_>, name: &str) -> Result<(), String> {
    let Some(place) = find(tree, name)? else { return Ok(()) };
    let failed = |error: io::Error| format!("/proc/{name} could not be masked: {error}");
    let attributes = Attributes { read_only: true, no_devices: true, no_programs: true };
    let cover = match files::is_directory(place.as_fd()).map_err(failed)? {
        true => Tree::make(c"tmpfs", &[(c"nr_inodes", c"1"), (c"mode", c"555")], attributes).map_err(failed)?,
        false => {
            let null = files::find(c"/dev/null").map_err(failed)?;
            Tree::copy(null.as_fd(), Attributes { no_devices: false, ..attributes }).map_err(failed)?
        }
    };
    cover.attach(place.as_fd()).map_err(failed)
}
