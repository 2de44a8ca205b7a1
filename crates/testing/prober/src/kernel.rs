//! Raw system calls.

use std::io;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub fn of(error: &io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(0))
    }

    pub fn last() -> Self {
        Self::of(&io::Error::last_os_error())
    }

    /// Whether a wall says no, and not the call itself.
    pub fn is_refusal(self) -> bool {
        matches!(self.0, libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EAFNOSUPPORT)
    }

    pub fn name(self) -> String {
        let name = match self.0 {
            libc::EPERM => "EPERM",
            libc::ENOENT => "ENOENT",
            libc::ESRCH => "ESRCH",
            libc::EACCES => "EACCES",
            libc::EROFS => "EROFS",
            libc::EXDEV => "EXDEV",
            libc::ENOSYS => "ENOSYS",
            libc::EINVAL => "EINVAL",
            libc::ENOSPC => "ENOSPC",
            libc::EMFILE => "EMFILE",
            libc::EAGAIN => "EAGAIN",
            libc::EFBIG => "EFBIG",
            libc::ENOMEM => "ENOMEM",
            libc::ENOTTY => "ENOTTY",
            libc::ETXTBSY => "ETXTBSY",
            libc::ECONNREFUSED => "ECONNREFUSED",
            libc::ENETUNREACH => "ENETUNREACH",
            libc::EAFNOSUPPORT => "EAFNOSUPPORT",
            libc::ENXIO => "ENXIO",
            other => return io::Error::from_raw_os_error(other).to_string(),
        };
        name.to_owned()
    }
}

/// Any call. The arguments are integers or addresses of live memory, or wrong on purpose: then the kernel refuses them.
pub fn call(number: libc::c_long, arguments: &[usize]) -> Result<usize, Errno> {
    let at = |index: usize| arguments.get(index).copied().unwrap_or(0);
    // SAFETY: attempts pass addresses of their own live memory with its size, or addresses that are not mapped.
    let result = unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) };
    usize::try_from(result).map_err(|_| Errno::last())
}

/// The address of something for [`call`].
pub fn address<T: ?Sized>(of: &T) -> usize {
    std::ptr::from_ref(of).cast::<u8>() as usize
}

pub fn fork() -> Result<i32, Errno> {
    // SAFETY: this program has one thread, so the child can go on with everything.
    match unsafe { libc::fork() } {
        -1 => Err(Errno::last()),
        pid => Ok(pid),
    }
}

/// Ends this process without anything else.
pub fn leave(status: i32) -> ! {
    // SAFETY: _exit takes an integer and does not come back.
    unsafe { libc::_exit(status) }
}

pub fn wait(pid: i32) -> Result<i32, Errno> {
    let mut status = 0;
    // SAFETY: the pointer is to a live local.
    match unsafe { libc::waitpid(pid, &raw mut status, 0) } {
        -1 => Err(Errno::last()),
        _ => Ok(status),
    }
}

/// A child that waits until it is killed, for attempts on other processes. It dies with its parent.
pub fn victim() -> Result<i32, Errno> {
    match fork()? {
        0 => {
            let _ = call(libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize]);
            loop {
                // SAFETY: pause has no arguments.
                unsafe { libc::pause() };
            }
        }
        pid => Ok(pid),
    }
}

pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    call(libc::SYS_kill, &[pid as usize, signal as usize]).map(drop)
}

pub fn end(pid: i32) {
    let _ = kill(pid, libc::SIGKILL);
    let _ = wait(pid);
}
