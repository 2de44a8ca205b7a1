//! Mounts by descriptor: a tree is copied or made, gets its attributes while nobody can see it, and is moved to its place.
//! Kernels before 5.12 have no call for the attributes; there they follow at once by the older one.

use std::{
    ffi::{CStr, CString},
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
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

/// Mounts that are attached nowhere, or were so until now.
#[derive(Debug)]
pub struct Tree {
    descriptor: OwnedFd,
    /// What it will forbid once it is attached: before Linux 5.12 it cannot be told earlier.
    pending: Option<Attributes>,
}

impl Tree {
    /// A copy of the mounts at and below this place, restricted, and out of any peer group: what is mounted outside later
    /// does not appear in it. Without `mount_setattr` a copy of the one mount, because those below could not be restricted.
    pub fn copy(place: BorrowedFd<'_>, attributes: Attributes) -> io::Result<Self> {
        let descriptor = copy(place, libc::AT_RECURSIVE)?;
        match set_attributes(descriptor.as_fd(), attributes, libc::AT_RECURSIVE) {
            Ok(()) => Ok(Self { descriptor, pending: None }),
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                Ok(Self { descriptor: copy(place, 0)?, pending: Some(attributes) })
            }
            Err(error) => Err(error),
        }
    }

    /// A new file system.
    pub fn make(kind: &CStr, options: &[(&CStr, &CStr)], attributes: Attributes) -> io::Result<Self> {
        Ok(Self { descriptor: make(kind, options, attributes)?, pending: None })
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    pub fn into_fd(self) -> OwnedFd {
        self.descriptor
    }

    /// Nobody but this process is in the namespace, so that nobody uses what is forbidden an instant later.
    pub fn attach(&self, place: BorrowedFd<'_>) -> io::Result<()> {
        attach(self.as_fd(), place)?;
        self.pending.map_or(Ok(()), |attributes| remount(self.as_fd(), attributes))
    }

    /// For the one mount and not for those on it.
    pub fn restrict(&self, attributes: Attributes) -> io::Result<()> {
        match set_attributes(self.as_fd(), attributes, 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => remount(self.as_fd(), attributes),
            result => result,
        }
    }
}

/// A copy of the mounts at and below this place as they are.
pub fn copy_all(place: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    copy(place, libc::AT_RECURSIVE)
}

fn copy(place: BorrowedFd<'_>, recursive: libc::c_int) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | (libc::AT_EMPTY_PATH | recursive) as u32;
    // SAFETY: the path is a live NUL-terminated string.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, place.as_raw_fd(), c"".as_ptr(), flags) })
}

fn set_attributes(tree: BorrowedFd<'_>, attributes: Attributes, recursive: libc::c_int) -> io::Result<()> {
    // SAFETY: mount_attr is plain integers, for which zero is a valid value.
    let mut attr: libc::mount_attr = unsafe { mem::zeroed() };
    attr.attr_set = attributes.bits();
    attr.propagation = libc::MS_PRIVATE;
    let flags = libc::AT_EMPTY_PATH | recursive;
    // SAFETY: the path is a live NUL-terminated string, and the structure lives through the call.
    done(unsafe {
        let (pointer, size) = (&raw const attr, mem::size_of_val(&attr));
        libc::syscall(libc::SYS_mount_setattr, tree.as_raw_fd(), c"".as_ptr(), flags, pointer, size)
    })
}

/// The older way, for a mount that is attached. What it forbids already, it goes on to forbid.
fn remount(mount: BorrowedFd<'_>, attributes: Attributes) -> io::Result<()> {
    // SAFETY: statvfs is plain integers, for which zero is a valid value.
    let mut present: libc::statvfs = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    check(unsafe { libc::fstatvfs(mount.as_raw_fd(), &raw mut present) })?;
    let mut flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_NOSUID;
    for (is_set, stands, flag) in [
        (attributes.read_only, libc::ST_RDONLY, libc::MS_RDONLY),
        (attributes.no_devices, libc::ST_NODEV, libc::MS_NODEV),
        (attributes.no_programs, libc::ST_NOEXEC, libc::MS_NOEXEC),
    ] {
        if is_set || present.f_flag & stands != 0 {
            flags |= flag;
        }
    }
    let path = CString::new(format!("/proc/self/fd/{}", mount.as_raw_fd()))?;
    for flags in [flags, libc::MS_PRIVATE] {
        // SAFETY: the path is a live NUL-terminated string; these operations take neither source, kind nor data.
        check(unsafe { libc::mount(ptr::null(), path.as_ptr(), ptr::null(), flags, ptr::null()) })?;
    }
    Ok(())
}

fn make(kind: &CStr, options: &[(&CStr, &CStr)], attributes: Attributes) -> io::Result<OwnedFd> {
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

fn attach(tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are live NUL-terminated strings.
    done(unsafe {
        let (from, to) = (tree.as_raw_fd(), place.as_raw_fd());
        libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), flags)
    })
}

/// Attaches a tree over the root of this mount namespace, hidden below nothing but still not this process's root.
pub fn attach_over_root(tree: &Tree) -> io::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
    // SAFETY: both paths are live NUL-terminated strings.
    done(unsafe {
        let from = tree.as_fd().as_raw_fd();
        libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), libc::AT_FDCWD, c"/".as_ptr(), flags)
    })
}

/// The working directory becomes the root, and the old root is mounted over it for a moment.
pub fn pivot_here() -> io::Result<()> {
    // SAFETY: both paths are live NUL-terminated strings.
    done(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })
}

/// The working directory becomes this process's root, and the namespace's stays what it is.
pub fn root_here() -> io::Result<()> {
    // SAFETY: the path is a live NUL-terminated string.
    check(unsafe { libc::chroot(c".".as_ptr()) }).map(drop)
}

/// Takes the topmost mount at the working directory away, with everything below it.
pub fn detach_here() -> io::Result<()> {
    // SAFETY: the path is a live NUL-terminated string.
    check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }).map(drop)
}
