//! How the kernel shares processors out: policy, nice level, and the slice of a thread.
//!
//! A slice says how soon a thread that wakes gets a processor from one that computes, not how much it gets: the shorter it is, the
//! sooner and the shorter is a turn. Linux 6.12 is the first that takes one for ordinary threads; older ones ignore it.

use std::{fs, io, mem};

use super::check;

/// The shortest that the kernel takes.
const SLICE_SHORT_NS: u64 = 100_000;
/// None of its own: what all threads have.
const SLICE_USUAL: u64 = 0;
/// Far above the threads of a server.
const THREADS_MAX: usize = 4096;

/// `struct sched_attr` of the kernel, in its first version.
#[repr(C)]
struct Attributes {
    bytes: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

pub fn use_normal_scheduling() -> io::Result<()> {
    if policy(0)? == libc::SCHED_OTHER {
        return Ok(());
    }
    // SAFETY: sched_param is plain integers, for which all-zero bytes are a valid value.
    let parameters: libc::sched_param = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameters) }).map(drop)
}

/// -1 is a level as well as the failure value, but the call cannot fail for the calling process.
pub fn nice_level() -> i32 {
    nice_level_of(0)
}

fn nice_level_of(thread: i32) -> i32 {
    // SAFETY: getpriority takes two integers and touches no memory of ours.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, thread as libc::id_t) }
}

pub fn set_nice_level(level: i32) -> io::Result<()> {
    // SAFETY: setpriority takes three integers and touches no memory of ours.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, level) }).map(drop)
}

/// 0 is the calling thread.
fn policy(thread: i32) -> io::Result<libc::c_int> {
    // SAFETY: sched_getscheduler takes an integer and touches no memory of ours.
    check(unsafe { libc::sched_getscheduler(thread) })
}

/// Of this process, for it and all that it starts. A slice goes on to children, and a parent may have a short one.
pub fn use_usual_slice() -> io::Result<()> {
    set_slice(0, SLICE_USUAL)
}

/// Of every thread that the process has now, and so of those that they start. One with a policy of its own keeps that.
pub fn shorten_slices(process: i32) -> io::Result<()> {
    for entry in fs::read_dir(format!("/proc/{process}/task"))?.take(THREADS_MAX) {
        let Some(thread) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if policy(thread).is_ok_and(|policy| policy == libc::SCHED_OTHER) {
            match set_slice(thread, SLICE_SHORT_NS) {
                // It has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                outcome => outcome?,
            }
        }
    }
    Ok(())
}

fn set_slice(thread: i32, runtime_ns: u64) -> io::Result<()> {
    let attributes = Attributes {
        bytes: mem::size_of::<Attributes>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        nice: nice_level_of(thread),
        priority: 0,
        runtime_ns,
        deadline_ns: 0,
        period_ns: 0,
    };
    let none: libc::c_long = 0;
    // SAFETY: the pointer is to a live local that has the size it says; the call only reads it.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setattr, libc::c_long::from(thread), &raw const attributes, none) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel tells it; none on one that keeps no slice of a thread.
    fn slice_ns(thread: i32) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/self/task/{thread}/sched")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("se.slice")?.rsplit(' ').next()?.parse().ok())
    }

    fn own_thread() -> i32 {
        // SAFETY: gettid has no arguments.
        unsafe { libc::gettid() }
    }

    #[test]
    fn a_short_slice_is_had_by_all_threads_and_is_given_up_by_one_alone() {
        let usual = slice_ns(own_thread());
        let nice = nice_level();
        shorten_slices(i32::try_from(std::process::id()).unwrap()).unwrap();
        let (mine, heirs) = (slice_ns(own_thread()), std::thread::spawn(|| slice_ns(own_thread())).join().unwrap());
        use_usual_slice().unwrap();
        let after = (slice_ns(own_thread()), nice_level());
        assert_eq!(after, (usual, nice));
        // Linux 6.12 and later.
        if mine != usual {
            assert_eq!((mine, heirs), (Some(SLICE_SHORT_NS), Some(SLICE_SHORT_NS)));
        }
        assert!(shorten_slices(i32::MAX).is_err(), "nobody has that number");
    }
}
