//! Putting a filter in force. It cannot be taken back, and goes on over `execve` and to every child.

use std::io;

use libc::sock_filter;

/// For the calling thread, which is the only one. Needs `no_new_privs`.
pub fn install(filter: &[sock_filter]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // The kernel reads the program and does not write it, whatever the type of the pointer says.
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    let [mode, flags] = [libc::c_long::from(libc::SECCOMP_SET_MODE_FILTER), 0];
    // SAFETY: the pointer is to a live local, which points to as many live instructions as it says.
    match unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether this kernel has filters with the action that ends a process, which is its newest part that is used here.
pub fn probe() -> io::Result<()> {
    let action: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    let [operation, flags] = [libc::c_long::from(libc::SECCOMP_GET_ACTION_AVAIL), 0];
    // SAFETY: the pointer is to a live local that the kernel only reads.
    match unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const action) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
