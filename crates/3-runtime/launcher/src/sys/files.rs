//! Files and descriptors: opened beneath a directory one name at a time, so that no link leads elsewhere.

use std::{
    ffi::CStr,
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use super::check;

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        descriptor => Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) }),
    }
}

/// A place, not its content: O_PATH. No component may be a link.
pub fn find(path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: open_how is plain integers, for which zero is a valid value.
    let mut how: libc::open_how = unsafe { mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the path is a live NUL-terminated string, and the structure lives through the call.
    owned(unsafe {
        libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path.as_ptr(), &raw const how, mem::size_of_val(&how))
    })
}

/// One name in a directory. Flags always have O_CLOEXEC and O_NOFOLLOW.
pub fn open_in(directory: BorrowedFd<'_>, name: &CStr, flags: libc::c_int, mode: u32) -> io::Result<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    // SAFETY: the name is a live NUL-terminated string.
    owned(libc::c_long::from(unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags, mode) }))
}

pub fn open(path: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the path is a live NUL-terminated string.
    owned(libc::c_long::from(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }))
}

pub fn make_directory_in(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: the name is a live NUL-terminated string.
    check(unsafe { libc::mkdirat(directory.as_raw_fd(), name.as_ptr(), 0o755) }).map(drop)
}

pub fn make_link_in(directory: BorrowedFd<'_>, name: &CStr, to: &CStr) -> io::Result<()> {
    // SAFETY: both are live NUL-terminated strings.
    check(unsafe { libc::symlinkat(to.as_ptr(), directory.as_raw_fd(), name.as_ptr()) }).map(drop)
}

pub fn is_directory(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: stat is plain integers, for which zero is a valid value.
    let mut stat: libc::stat = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    check(unsafe { libc::fstat(descriptor.as_raw_fd(), &raw mut stat) })?;
    Ok(stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

pub fn enter(directory: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: fchdir takes an integer.
    check(unsafe { libc::fchdir(directory.as_raw_fd()) }).map(drop)
}

pub fn write_all(descriptor: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the pointer and the length are those of one live slice.
        let count = unsafe { libc::write(descriptor.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(count) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(())
}

/// For files of /proc, which take one write and never a part of it.
pub fn write_file(path: &CStr, bytes: &[u8]) -> io::Result<()> {
    use std::os::fd::AsFd;
    write_all(open(path, libc::O_WRONLY)?.as_fd(), bytes)
}

/// A file in memory that nobody can execute, where the kernel knows such files.
pub fn memory_file(name: &CStr) -> io::Result<OwnedFd> {
    create_in_memory(name, libc::MFD_NOEXEC_SEAL)
}

/// A file in memory to be executed. Kernels before 6.3 do not know the flag, and let every one be.
pub fn program_file(name: &CStr) -> io::Result<OwnedFd> {
    create_in_memory(name, libc::MFD_EXEC)
}

/// Without the flag where the kernel does not know it.
fn create_in_memory(name: &CStr, flag: libc::c_uint) -> io::Result<OwnedFd> {
    let create = |flags: libc::c_uint| {
        // SAFETY: the name is a live NUL-terminated string.
        owned(libc::c_long::from(unsafe { libc::memfd_create(name.as_ptr(), flags) }))
    };
    match create(libc::MFD_CLOEXEC | flag) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => create(libc::MFD_CLOEXEC),
        result => result,
    }
}

/// Reads from the start of the file, wherever its position is.
pub fn read_at(descriptor: BorrowedFd<'_>, buffer: &mut [u8], offset: usize) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the pointer and the length are those of one live, writable slice.
    let count = unsafe { libc::pread(descriptor.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), offset) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// A whole file in memory, from its start.
pub fn read_whole(descriptor: BorrowedFd<'_>, bytes_max: usize) -> io::Result<Vec<u8>> {
    let length = usize::try_from(size(descriptor)?).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{length} bytes are above {bytes_max}")));
    }
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match read_at(descriptor, rest, filled)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(bytes)
}

pub fn size(descriptor: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: stat is plain integers, for which zero is a valid value.
    let mut stat: libc::stat = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    check(unsafe { libc::fstat(descriptor.as_raw_fd(), &raw mut stat) })?;
    Ok(u64::try_from(stat.st_size).unwrap_or_default())
}

/// The copy has exactly this number and stays open over `execve`. What was there is closed.
pub fn copy_to(from: RawFd, to: RawFd, close_on_exec: bool) -> io::Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    if from == to {
        return set_close_on_exec(from, close_on_exec);
    }
    // SAFETY: dup3 takes integers; no Rust object of this process owns `to`, which is one of the kept numbers.
    check(unsafe { libc::dup3(from, to, flags) }).map(drop)
}

/// From now on it has exactly this number, which nobody owns.
pub fn move_to(from: OwnedFd, to: RawFd, close_on_exec: bool) -> io::Result<()> {
    copy_to(from.as_raw_fd(), to, close_on_exec)?;
    if from.as_raw_fd() == to {
        mem::forget(from);
    }
    Ok(())
}

pub fn set_close_on_exec(descriptor: RawFd, yes: bool) -> io::Result<()> {
    let flags = if yes { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: F_SETFD takes an integer.
    check(unsafe { libc::fcntl(descriptor, libc::F_SETFD, flags) }).map(drop)
}

pub fn is_open(descriptor: RawFd) -> bool {
    // SAFETY: F_GETFD takes no third argument.
    unsafe { libc::fcntl(descriptor, libc::F_GETFD) != -1 }
}

/// Closes a number that no Rust object owns.
pub fn close(descriptor: RawFd) {
    // SAFETY: the caller owns the number; an unknown one yields EBADF.
    unsafe { libc::close(descriptor) };
}

/// Closes from `first` to `last`, both included.
pub fn close_between(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    let none: libc::c_long = 0;
    // SAFETY: close_range takes three integers; the Rust objects of the numbers in between are forgotten by the caller.
    match unsafe { libc::syscall(libc::SYS_close_range, libc::c_long::from(first), libc::c_long::from(last), none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One of the numbers that stay open for the whole life of this process.
pub fn kept(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the numbers of `channel` are sorted once and never closed before this process executes or ends; if one is not
    // open, calls with it fail with EBADF.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// A character device that everybody may use.
pub fn make_device_in(directory: BorrowedFd<'_>, name: &CStr, major: u32, minor: u32) -> io::Result<()> {
    let device = libc::makedev(major, minor);
    // SAFETY: the name is a live NUL-terminated string.
    check(unsafe { libc::mknodat(directory.as_raw_fd(), name.as_ptr(), libc::S_IFCHR | 0o666, device) }).map(drop)
}
