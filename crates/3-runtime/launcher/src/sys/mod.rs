//! The system calls, each behind a safe function. All unsafe code of this crate is in this folder.
//!
//! This process has one thread, so nothing changes a descriptor, the environment or a signal disposition meanwhile.

pub mod files;
pub mod mount;
pub mod network;
pub mod packets;
pub mod process;
pub mod rights;
pub mod scheduling;

use std::{
    ffi::{CStr, CString},
    fs, io, mem, ptr,
};

pub const STDIN: i32 = libc::STDIN_FILENO;

/// What the C library says about a call that returns -1 on failure.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// SIGKILL for this process, also after `execve`, when the thread that spawned it ends.
pub fn set_parent_death_signal() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes an integer and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) }).map(drop)
}

pub fn parent_process() -> i32 {
    // SAFETY: getppid has no arguments and cannot fail.
    unsafe { libc::getppid() }
}

fn socket_option(descriptor: i32, option: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both pointers are to live locals, and `length` is the size of `value`.
    let result =
        unsafe { libc::getsockopt(descriptor, libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut length) };
    check(result).map(|_| value)
}

pub fn set_blocking(descriptor: i32) -> io::Result<()> {
    // SAFETY: F_GETFL takes no third argument and touches no memory of ours.
    let flags = check(unsafe { libc::fcntl(descriptor, libc::F_GETFL) })?;
    // SAFETY: F_SETFL takes an integer and touches no memory of ours.
    check(unsafe { libc::fcntl(descriptor, libc::F_SETFL, flags & !libc::O_NONBLOCK) }).map(drop)
}

pub fn start_session() -> io::Result<()> {
    // SAFETY: setsid has no arguments.
    check(unsafe { libc::setsid() }).map(drop)
}

/// The raw call, because the C library refuses to touch the two signals that it keeps for threads, and those can be inherited
/// as ignored too. SIGKILL and SIGSTOP refuse; they are never ignored.
pub fn default_all_signals() {
    const SIGNALS: libc::c_long = 64;
    const MASK_BYTES: libc::c_long = 8;
    // The kernel's own struct sigaction is at most this long; all zero means the default action, no flags, no mask.
    let default = [0_u64; 8];
    for signal in 1..=SIGNALS {
        // SAFETY: the new action is a live local that is long enough, a null pointer means that the old action is not wanted,
        // and the default action installs no handler, so no code of ours can be called from a signal.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<u64>(), MASK_BYTES);
        }
    }
}

/// A write to somebody who has gone fails instead of ending the process. Rust's own start would do it.
pub fn ignore_broken_pipes() {
    // SAFETY: no handler is named, so that nothing of ours runs in a signal; it cannot fail for this signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

pub fn unblock_all_signals() -> io::Result<()> {
    // SAFETY: sigset_t is plain integers, for which all-zero bytes are a valid value.
    let mut none: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    check(unsafe { libc::sigemptyset(&raw mut none) })?;
    // SAFETY: the set was initialised above, and a null pointer means that the old mask is not wanted.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) }).map(drop)
}

/// Back to "derived from the nice level". Best effort: old kernels and filters may lack the call, and nothing depends on it.
pub fn reset_io_priority() {
    const WHO_PROCESS: libc::c_long = 1;
    // SAFETY: ioprio_set takes three integers (who, 0 for the calling process, no class) and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0 as libc::c_long, 0 as libc::c_long) };
}

pub fn set_file_mask(mask: libc::mode_t) {
    // SAFETY: umask takes an integer and cannot fail.
    unsafe { libc::umask(mask) };
}

pub fn change_directory(directory: &CStr) -> io::Result<()> {
    // SAFETY: a CStr is a live, NUL-terminated string.
    check(unsafe { libc::chdir(directory.as_ptr()) }).map(drop)
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: i32) -> io::Result<()> {
    // SAFETY: close_range takes three integers; no Rust object of this process owns a descriptor at this point.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, first as libc::c_long, libc::c_long::from(u32::MAX), 0 as libc::c_long)
    };
    match result {
        0 => Ok(()),
        // Kernels before 5.9 do not know the call, and filters of container runtimes may refuse it.
        _ => close_listed(first),
    }
}

fn close_listed(first: i32) -> io::Result<()> {
    // Collected first, because closing changes the directory that is being read, and one of them is its own.
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor >= first)
        .collect();
    for descriptor in open {
        // SAFETY: no Rust object owns the descriptor; the one of the listing is closed already and yields EBADF.
        unsafe { libc::close(descriptor) };
    }
    Ok(())
}

/// The limits that a launch order can name.
#[derive(Clone, Copy, Debug)]
pub enum Resource {
    AddressSpace,
    CpuSeconds,
    OpenFiles,
    FileSize,
    Core,
    Processes,
    /// Memory that cannot be swapped.
    LockedMemory,
    /// Signals that wait, timers among them.
    PendingSignals,
    /// Bytes in POSIX queues.
    Queues,
    /// Highest priority, as 20 less the nice level.
    Nice,
    RealTime,
}

impl Resource {
    fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Resource::AddressSpace => libc::RLIMIT_AS,
            Resource::CpuSeconds => libc::RLIMIT_CPU,
            Resource::OpenFiles => libc::RLIMIT_NOFILE,
            Resource::FileSize => libc::RLIMIT_FSIZE,
            Resource::Core => libc::RLIMIT_CORE,
            Resource::Processes => libc::RLIMIT_NPROC,
            Resource::LockedMemory => libc::RLIMIT_MEMLOCK,
            Resource::PendingSignals => libc::RLIMIT_SIGPENDING,
            Resource::Queues => libc::RLIMIT_MSGQUEUE,
            Resource::Nice => libc::RLIMIT_NICE,
            Resource::RealTime => libc::RLIMIT_RTPRIO,
        }
    }
}

pub fn set_limit(resource: Resource, value: u64) -> io::Result<()> {
    // At the soft limit of CPU time the kernel says why, with SIGXCPU; at the hard one it kills.
    let most = value.saturating_add(u64::from(matches!(resource, Resource::CpuSeconds)));
    let limit = libc::rlimit { rlim_cur: value, rlim_max: most };
    // SAFETY: the pointer is to a live local.
    check(unsafe { libc::setrlimit(resource.number(), &raw const limit) }).map(drop)
}

/// To this value, or to the present one if that is lower.
pub fn lower_limit(resource: Resource, value: u64) -> io::Result<()> {
    let mut present = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live local.
    check(unsafe { libc::getrlimit(resource.number(), &raw mut present) })?;
    set_limit(resource, value.min(present.rlim_max))
}

pub fn set_no_new_privileges() -> io::Result<()> {
    let [yes, unused] = [1 as libc::c_ulong, 0];
    // SAFETY: PR_SET_NO_NEW_PRIVS takes integers and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, unused, unused, unused) }).map(drop)
}

/// Replaces this program; returns only the reason why it could not.
pub fn execute(command: &[CString], environment: &[CString]) -> io::Error {
    let Some(program) = command.first() else { return io::ErrorKind::InvalidInput.into() };
    let arguments = pointers(command);
    let variables = pointers(environment);
    // SAFETY: both arrays end with a null pointer, and their strings are borrowed from the caller, so they live through
    // the call. On success nothing of this program remains.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), variables.as_ptr()) };
    io::Error::last_os_error()
}

fn pointers(words: &[CString]) -> Vec<*const libc::c_char> {
    words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn the_fallback_closes_what_close_range_would() {
        let file = fs::File::open("/dev/null").unwrap();
        // High, so that no descriptor of the test runner is hit.
        let high = 900;
        files::copy_to(file.as_raw_fd(), high, false).unwrap();
        close_listed(high).unwrap();
        assert!(fs::metadata(format!("/proc/self/fd/{high}")).is_err());
        assert!(fs::metadata(format!("/proc/self/fd/{}", file.as_raw_fd())).is_ok());
    }
}
