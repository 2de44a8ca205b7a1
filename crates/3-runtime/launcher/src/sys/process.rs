//! Processes: clone, wait, namespaces, program execution by descriptor, signals to and for others.

use std::{
    ffi::CString,
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use super::{check, pointers};

/// Which side of a clone this is.
#[derive(Debug)]
pub enum Cloned {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// `fork` with namespaces, a pidfd, and a place in a version 2 cgroup.
pub fn clone(namespaces: libc::c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain integers, for which zero is a valid value.
    let mut arguments: libc::clone_args = unsafe { mem::zeroed() };
    arguments.flags = (namespaces as u32 as u64) | libc::CLONE_PIDFD as u64;
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets a copy of this address space, as with fork; this process has one thread, so no
    // lock of the C library is held by somebody who does not exist in the child. The structure lives through the call.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, mem::size_of_val(&arguments)) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: CLONE_PIDFD has put a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: i32::try_from(pid).unwrap_or(-1), pidfd })
        }
    }
}

pub fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: unshare takes an integer and touches no memory of ours.
    check(unsafe { libc::unshare(namespaces) }).map(drop)
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Exited(i32),
    Signaled(i32),
}

/// A child that has been waited for, and what the kernel counted for it and everything that it waited for itself.
#[derive(Clone, Copy, Debug)]
pub struct Reaped {
    pub pid: i32,
    pub status: Status,
    pub cpu_us: u64,
    pub memory_peak_bytes: u64,
}

/// -1 waits for any child. `None`: there are children and none of them has ended.
pub fn reap(pid: i32, block: bool) -> io::Result<Option<Reaped>> {
    let mut status = 0;
    // SAFETY: rusage is plain integers, for which zero is a valid value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    let options = if block { 0 } else { libc::WNOHANG };
    // SAFETY: both pointers are to live locals.
    let reaped = check(unsafe { libc::wait4(pid, &raw mut status, options, &raw mut usage) })?;
    if reaped == 0 {
        return Ok(None);
    }
    let status = match libc::WIFSIGNALED(status) {
        true => Status::Signaled(libc::WTERMSIG(status)),
        false => Status::Exited(libc::WEXITSTATUS(status)),
    };
    let microseconds = |time: libc::timeval| (time.tv_sec as u64) * 1_000_000 + time.tv_usec as u64;
    let cpu_us = microseconds(usage.ru_utime) + microseconds(usage.ru_stime);
    // The kernel counts it in KiB.
    Ok(Some(Reaped { pid: reaped, status, cpu_us, memory_peak_bytes: (usage.ru_maxrss as u64) * 1024 }))
}

pub fn kill(pid: i32, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: kill takes two integers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

pub fn kill_by_pidfd(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    let none: libc::c_long = 0;
    // SAFETY: pidfd_send_signal takes integers and a pointer that may be null.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, none) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whoever has this number now.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    let none: libc::c_long = 0;
    // SAFETY: pidfd_open takes two integers.
    match unsafe { libc::syscall(libc::SYS_pidfd_open, pid, none) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        descriptor => Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) }),
    }
}

/// Ends this process at once: no destructor, no buffer, nothing of the parent's that was copied into it.
pub fn end(status: i32) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(status) }
}

/// Replaces this program by the file that the descriptor is; returns only the reason why it could not.
pub fn execute_descriptor(program: BorrowedFd<'_>, arguments: &[CString], environment: &[CString]) -> io::Error {
    let arguments = pointers(arguments);
    let variables = pointers(environment);
    // SAFETY: the path is a live NUL-terminated string, both arrays end with a null pointer and their strings are borrowed
    // from the caller. On success nothing of this program remains.
    unsafe {
        let (path, flags) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
        libc::syscall(libc::SYS_execveat, program.as_raw_fd(), path, arguments.as_ptr(), variables.as_ptr(), flags);
    }
    io::Error::last_os_error()
}

/// Every processor that the kernel lets this process use: a mask of the parent's does not go on.
pub fn use_all_processors() -> io::Result<()> {
    // SAFETY: cpu_set_t is plain integers.
    let mut all: libc::cpu_set_t = unsafe { mem::zeroed() };
    for processor in 0..libc::CPU_SETSIZE as usize {
        // SAFETY: the processor is below the size of the set.
        unsafe { libc::CPU_SET(processor, &mut all) };
    }
    // SAFETY: the pointer is to a live local, and the size is its own.
    check(unsafe { libc::sched_setaffinity(0, mem::size_of_val(&all), &raw const all) }).map(drop)
}

/// So many of those that the kernel lets this process use. The next turn has the next ones, so that each is used as often as
/// any other.
pub fn use_some_processors(count: usize, turn: u64) -> io::Result<()> {
    // SAFETY: cpu_set_t is plain integers.
    let (mut all, mut some): (libc::cpu_set_t, libc::cpu_set_t) = unsafe { (mem::zeroed(), mem::zeroed()) };
    // SAFETY: the pointer is to a live local, and the size is its own.
    check(unsafe { libc::sched_getaffinity(0, mem::size_of_val(&all), &raw mut all) })?;
    // SAFETY: the processor is below the size of the set.
    let is_ours = |processor: &usize| unsafe { libc::CPU_ISSET(*processor, &all) };
    let ours: Vec<usize> = (0..libc::CPU_SETSIZE as usize).filter(is_ours).collect();
    if count >= ours.len() {
        return Ok(());
    }
    let first = (turn as usize).wrapping_mul(count);
    for processor in (0..count).filter_map(|step| ours.get(first.wrapping_add(step) % ours.len())) {
        // SAFETY: the processor is below the size of the set.
        unsafe { libc::CPU_SET(*processor, &mut some) };
    }
    // SAFETY: the pointer is to a live local, and the size is its own.
    check(unsafe { libc::sched_setaffinity(0, mem::size_of_val(&some), &raw const some) }).map(drop)
}

pub fn effective_user() -> u32 {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

pub fn effective_group() -> u32 {
    // SAFETY: getegid has no arguments and cannot fail.
    unsafe { libc::getegid() }
}
