//! Takes over the descriptor on which the launcher left the socket. The only unsafe call of this crate.
#![expect(unsafe_code, reason = "the standard library has no safe way to own an inherited descriptor")]

use std::{
    fs,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    sync::atomic::{AtomicBool, Ordering},
};

use agentos_protocol::WORKER_FD;
use agentos_types::{Code, Fault, Result, fault::OrFault};
use tokio::net::UnixStream;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The worker's socket; works once per process.
pub fn inherited() -> Result<UnixStream> {
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(
            Fault::new(Code::PROTOCOL_ORDER, "the worker's socket was taken before").hint("call agentos_sdk::run once")
        );
    }
    let is_socket = fs::read_link(format!("/proc/self/fd/{WORKER_FD}"))
        .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
    if !is_socket {
        return Err(not_a_worker("descriptor 3 is not a socket"));
    }
    // SAFETY: descriptor 3 is open (checked above), the worker protocol gives it to this process alone, and `TAKEN` makes
    // this the only owner that the SDK creates.
    let inherited = unsafe { OwnedFd::from_raw_fd(WORKER_FD) };
    // The copy has close-on-exec and the original is closed here: a program that the worker starts must not be able to
    // speak in its name.
    let own = inherited.try_clone().map_err(not_a_worker)?;
    drop(inherited);
    let stream = StdStream::from(own);
    // Fails for sockets of another family, which only a process outside of AgentOS can have here.
    stream.local_addr().map_err(not_a_worker)?;
    stream.set_nonblocking(true).map_err(not_a_worker)?;
    UnixStream::from_std(stream)
        .or_fault(Code::INTERNAL, "the worker's socket could not be registered with the runtime")
}

fn not_a_worker(detail: impl std::fmt::Display) -> Fault {
    Fault::new(Code::PROTOCOL_ORDER, "this process was not started by AgentOS: descriptor 3 is not its socket")
        .hint("deploy the program with `agent-os agent deploy`, or use agentos_sdk::run_on in tests")
        .detail(detail)
}
