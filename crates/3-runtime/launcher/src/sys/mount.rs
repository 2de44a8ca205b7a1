//! Mounts by descriptor: a tree is copied or made, gets its attributes while nobody can see it, and is moved to its place.

use std::{
    ffi::CStr,
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use super::check;

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        descriptor => Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) }),
    }
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What a mount forbids, besides what it forbids always: setuid programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub read_only: bool,
    pub no_devices: bool,
    pub no_programs: bool,
}

impl Attributes {
    fn bits(self) -> u64 {
        let mut bits = libc::MOUNT_ATTR_NOSUID;
        for (is_set, bit) in [
            (self.read_only, libc::MOUNT_ATTR_RDONLY),
            (self.no_devices, libc::MOUNT_ATTR_NODEV),
            (self.no_programs, libc::MOUNT_ATTR_NOEXEC),
        ] {
            if is_set {
                bits |= bit;
            }
        }
        bits
    }
}

/// A copy of the mounts at and below this place, attached nowhere.
pub fn copy_tree(place: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as u32;
    // SAFETY: the path is a live NUL-terminated string.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, place.as_raw_fd(), c"".as_ptr(), flags) })
}

/// Forbids this for the whole tree, and takes it out of any peer group: what is mounted outside later does not appear in it.
pub fn restrict_tree(tree: BorrowedFd<'_>, attributes: Attributes) -> io::Result<()> {
    set_attributes(tree, attributes, libc::AT_EMPTY_PATH | libc::AT_RECURSIVE)
}

fn set_attributes(tree: BorrowedFd<'_>, attributes: Attributes, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: mount_attr is plain integers, for which zero is a valid value.
    let mut attr: libc::mount_attr = unsafe { mem::zeroed() };
    attr.attr_set = attributes.bits();
    attr.propagation = libc::MS_PRIVATE;
    // SAFETY: the path is a live NUL-terminated string, and the structure lives through the call.
    done(unsafe {
        let (pointer, size) = (&raw const attr, mem::size_of_val(&attr));
        libc::syscall(libc::SYS_mount_setattr, tree.as_raw_fd(), c"".as_ptr(), flags, pointer, size)
    })
}

/// As [`restrict_tree`], for the one mount and not for those on it.
pub fn restrict_mount(mount: BorrowedFd<'_>, attributes: Attributes) -> io::Result<()> {
    set_attributes(mount, attributes, libc::AT_EMPTY_PATH)
}

/// A new file system, attached nowhere.
pub fn make(kind: &CStr, options: &[(&CStr, &CStr)], attributes: Attributes) -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const SET_STRING: libc::c_uint = 1;
    const CREATE: libc::c_uint = 6;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    // SAFETY: the name is a live NUL-terminated string.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    let context = context.as_raw_fd();
    for (name, value) in options {
        // SAFETY: both are live NUL-terminated strings.
        done(unsafe { libc::syscall(libc::SYS_fsconfig, context, SET_STRING, name.as_ptr(), value.as_ptr(), 0) })?;
    }
    let null = ptr::null::<libc::c_char>();
    // SAFETY: CREATE takes neither a name nor a value.
    done(unsafe { libc::syscall(libc::SYS_fsconfig, context, CREATE, null, null, 0) })?;
    // SAFETY: fsmount takes integers.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes.bits() as libc::c_uint) })
}

/// Attaches a tree at a place.
pub fn attach(tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are live NUL-terminated strings.
    done(unsafe {
        let (from, to) = (tree.as_raw_fd(), place.as_raw_fd());
        libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), flags)
    })
}

/// Attaches a tree over the root of this mount namespace, hidden below nothing but still not this process's root.
pub fn attach_over_root(tree: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
    // SAFETY: both paths are live NUL-terminated strings.
    done(unsafe {
        let from = tree.as_raw_fd();
        libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), libc::AT_FDCWD, c"/".as_ptr(), flags)
    })
}

/// The working directory becomes the root, and the old root is mounted over it for a moment.
pub fn pivot_here() -> io::Result<()> {
    // SAFETY: both paths are live NUL-terminated strings.
    done(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })
}

/// Takes the topmost mount at the working directory away, with everything below it.
pub fn detach_here() -> io::Result<()> {
    // SAFETY: the path is a live NUL-terminated string.
    check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }).map(drop)
}
