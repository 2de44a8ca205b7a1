//! Each attempt in a process of its own, so that one that is killed, hangs or changes itself leaves the next one alone.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use crate::{
    Attempt, Facts, Outcome, Verdict,
    kernel::{self, Errno},
};

/// An attempt that takes longer has found something that hangs; none needs more than a fraction of it.
const SECONDS_MAX: u32 = 20;
const BYTES_MAX: u64 = 64 * 1024;

pub fn run(attempt: &Attempt, facts: &Facts) -> Outcome {
    let Some((reader, writer)) = pipe() else { return Outcome::broken("no pipe") };
    match kernel::fork() {
        Err(errno) => Outcome::broken(format!("no process for it: {}", errno.name())),
        Ok(0) => {
            drop(reader);
            // SAFETY: alarm takes an integer.
            unsafe { libc::alarm(SECONDS_MAX) };
            let outcome = (attempt.run)(facts);
            let bytes = serde_json::to_vec(&outcome).unwrap_or_default();
            let _ = std::io::Write::write_all(&mut File::from(writer), &bytes);
            kernel::leave(0)
        }
        Ok(pid) => {
            drop(writer);
            let mut bytes = Vec::new();
            let _ = File::from(reader).take(BYTES_MAX).read_to_end(&mut bytes);
            let status = kernel::wait(pid);
            serde_json::from_slice(&bytes).unwrap_or_else(|_| of_status(status))
        }
    }
}

/// It has said nothing: the kernel has ended it.
fn of_status(status: Result<i32, Errno>) -> Outcome {
    let Ok(status) = status else { return Outcome::broken("it vanished") };
    match libc::WTERMSIG(status) {
        libc::SIGSYS => Outcome::blocked("killed by SIGSYS"),
        libc::SIGKILL => Outcome::blocked("killed by SIGKILL"),
        libc::SIGXFSZ => Outcome::blocked("killed by SIGXFSZ"),
        libc::SIGALRM => Outcome::broken(format!("still at it after {SECONDS_MAX} s")),
        signal => Outcome { verdict: Verdict::Broken, detail: format!("status {status}, signal {signal}") },
    }
}

fn pipe() -> Option<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: the pointer is to a live array of two; on success both are new descriptors that nobody else owns.
    unsafe {
        match libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) {
            0 => Some((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))),
            _ => None,
        }
    }
    .filter(|(reader, _)| reader.as_raw_fd() > 2)
}
