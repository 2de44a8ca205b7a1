//! The sandbox's own tree: a small tmpfs, the mounts of the order on it, /proc, and then nothing else. Every tree gets its
//! attributes while it is attached nowhere, so that there is no instant at which a read-only tree can be written.

use std::{
    ffi::CString,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use agentos_protocol::sandbox::{Descriptor, Mount, SandboxOrder};

use crate::{
    channel::{PROGRAM, ROOT},
    init, left_out,
    sys::{
        self, files,
        mount::{self, Attributes, Tree},
    },
};

use super::{
    Child,
    devices::Devices,
    place::{self, Kind},
    proc,
};

/// Names, links and the small files of the order, whose content one packet bounds.
const ROOT_BYTES: &str = "1m";
const ROOT_INODES: &str = "2048";

/// The tree of a bind.
pub fn copy(source: &str, writable: bool, executable: bool) -> Result<Tree, String> {
    copy_with(source, attributes(writable, executable))
}

/// A copy of what is at this path of the machine, restricted, attached nowhere.
pub fn copy_with(source: &str, attributes: Attributes) -> Result<Tree, String> {
    let path = CString::new(source).map_err(|_| format!("{source} holds a NUL byte"))?;
    let place = files::find(&path).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => format!("{source} is or goes through a link, which is refused"),
        _ => format!("{source}: {error}"),
    })?;
    Tree::copy(place.as_fd(), attributes).map_err(|error| format!("{source} could not be copied: {error}"))
}

/// What a bind of the order forbids.
pub fn attributes(writable: bool, executable: bool) -> Attributes {
    if left_out::is("mounts") {
        return Attributes::default();
    }
    Attributes { read_only: !writable, no_devices: true, no_programs: !executable }
}

/// All trees of the machine first, while its root is still the root.
pub fn build(child: &mut Child<'_>) -> Result<(), String> {
    make_init(child)?;
    let mut trees = binds(child)?.into_iter();
    let devices = Devices::collect(child)?;
    // Who may read what is made here is said with it. The mask for the program comes later.
    sys::set_file_mask(0);
    let forbidden = Attributes { read_only: false, no_devices: true, no_programs: true };
    let options = [(c"size", ROOT_BYTES), (c"nr_inodes", ROOT_INODES), (c"mode", "755")];
    let root = tmpfs(&options, forbidden).map_err(|error| format!("the root could not be made: {error}"))?;
    mount::attach_over_root(&root).map_err(|error| format!("the root could not be mounted: {error}"))?;
    left_out::add_host(root.as_fd(), &child.order.mounts)?;
    for entry in &child.order.mounts {
        match entry {
            Mount::Bind { target, .. } => {
                let tree = trees.next().ok_or_else(|| format!("{target} has no tree"))?;
                attach(root.as_fd(), &tree, target)?;
            }
            // The host's are there.
            Mount::Devices { .. } | Mount::File { .. } if left_out::is("mounts") => {}
            Mount::Symlink { target, .. } if left_out::is("mounts") && target.rfind('/') != Some(0) => {}
            Mount::Devices { shm_bytes } => devices.mount(root.as_fd(), *shm_bytes)?,
            other => small(root.as_fd(), other)?,
        }
    }
    proc::mount(root.as_fd(), child.order.proc)?;
    files::enter(root.as_fd()).map_err(|error| format!("the new root could not be entered: {error}"))?;
    if left_out::is("mounts") {
        return Ok(());
    }
    root.restrict(Attributes { read_only: true, ..forbidden })
        .map_err(|error| format!("the root could not be made read-only: {error}"))
}

/// The init, where the launcher had no right to make a place for it.
pub fn make_init(child: &mut Child<'_>) -> Result<(), String> {
    if child.has_init {
        return Ok(());
    }
    init::mounted()
        .and_then(|program| files::move_to(program, PROGRAM, true))
        .map_err(|error| format!("the init's program: {error}"))
}

/// One tree for each bind of the order. The launcher's, where it had the right to copy them.
fn binds(child: &mut Child<'_>) -> Result<Vec<Tree>, String> {
    if !child.trees.is_empty() {
        return Ok(std::mem::take(&mut child.trees));
    }
    let copies = child.order.mounts.iter().filter_map(|mount| match mount {
        Mount::Bind { source, writable, executable, .. } => Some(copy(source, *writable, *executable)),
        _ => None,
    });
    copies.collect()
}

pub fn attach(root: BorrowedFd<'_>, tree: &Tree, target: &str) -> Result<(), String> {
    let is_directory = files::is_directory(tree.as_fd()).map_err(|error| format!("{target}: {error}"))?;
    let place = place::reach(root, target, if is_directory { Kind::Directory } else { Kind::File })?;
    tree.attach(place.as_fd()).map_err(|error| format!("{target} could not be mounted: {error}"))
}

fn small(root: BorrowedFd<'_>, entry: &Mount) -> Result<(), String> {
    match entry {
        Mount::Tmpfs { target, bytes, inodes, executable } => {
            let (bytes, inodes) = (bytes.to_string(), inodes.to_string());
            let options = [(c"mode", "1777"), (c"size", bytes.as_str()), (c"nr_inodes", inodes.as_str())];
            let options = if left_out::is("mounts") { &options[..1] } else { &options };
            let tree = tmpfs(options, attributes(true, *executable)).map_err(|error| format!("{target}: {error}"))?;
            attach(root, &tree, target)
        }
        Mount::Symlink { target, to } => link(root, target, to),
        Mount::File { target, content } => {
            let (directory, name) = place::parent(root, target)?;
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY;
            files::open_in(directory.as_fd(), &name, flags, 0o444)
                .and_then(|file| files::write_all(file.as_fd(), content.as_bytes()))
                .map_err(|error| format!("{target}: {error}"))
        }
        Mount::Bind { target, .. } => Err(format!("{target} is a bind")),
        Mount::Devices { .. } => Err("devices are no small mount".into()),
    }
}

pub fn tmpfs(options: &[(&std::ffi::CStr, &str)], attributes: Attributes) -> std::io::Result<Tree> {
    let values = options.iter().map(|(_, value)| CString::new(*value)).collect::<Result<Vec<_>, _>>()?;
    let pairs: Vec<_> = options.iter().zip(&values).map(|((name, _), value)| (*name, value.as_c_str())).collect();
    Tree::make(c"tmpfs", &pairs, attributes)
}

pub fn link(root: BorrowedFd<'_>, target: &str, to: &str) -> Result<(), String> {
    let to = CString::new(to).map_err(|_| format!("{target} leads to a NUL byte"))?;
    let (directory, name) = place::parent(root, target)?;
    files::make_link_in(directory.as_fd(), &name, &to).map_err(|error| format!("{target}: {error}"))
}

/// The working directory is the new root already. What was the root is gone afterwards, with all that hung on it.
pub fn enter(child: &mut Child<'_>) -> Result<(), String> {
    mount::pivot_here().map_err(|error| format!("the root could not be changed: {error}"))?;
    mount::detach_here().map_err(|error| format!("the old root could not be taken away: {error}"))?;
    if !left_out::is("root") {
        leave_the_list()?;
    }
    sys::change_directory(c"/").map_err(|error| format!("the new root could not be entered: {error}"))?;
    own_null(child.order)
}

/// Streams that nobody has given are the sandbox's own null device instead of the machine's, where it has one.
fn own_null(order: &SandboxOrder) -> Result<(), String> {
    let Ok(null) = files::open(c"/dev/null", libc::O_RDWR) else { return Ok(()) };
    [Descriptor::Stdin, Descriptor::Stdout, Descriptor::Stderr]
        .iter()
        .zip(0..)
        .filter(|(kind, _)| !order.descriptors.contains(kind))
        .try_for_each(|(_, number)| files::copy_to(null.as_raw_fd(), number, false))
        .map_err(|error| format!("/dev/null: {error}"))
}

/// The list of mounts in /proc tells where on the host each of them comes from, and cannot be masked: it is there for every
/// process. It holds what can be reached from the process's root, so the root becomes a copy of the tree that is attached
/// nowhere: then the list is empty. Nobody inside can make a user namespace from such a root either.
fn leave_the_list() -> Result<(), String> {
    let failed = |error: std::io::Error| format!("the root could not be taken off the list of mounts: {error}");
    let here = files::find(c"/").map_err(failed)?;
    let copy = mount::copy_all(here.as_fd()).map_err(failed)?;
    files::enter(copy.as_fd()).map_err(failed)?;
    mount::root_here().map_err(failed)?;
    files::copy_to(copy.as_raw_fd(), ROOT, false).map_err(failed)
}
