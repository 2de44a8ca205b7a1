//! Takes over the descriptor on which the launcher left the socket to the server. The only unsafe call of this crate.
#![expect(unsafe_code, reason = "the standard library has no safe way to own an inherited descriptor")]

use std::{
    os::fd::{FromRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use agentos_types::{Code, Fault, Result};
use rustix::{
    io::Errno,
    net::{SocketType, sockopt::socket_type},
};

/// Where the launcher leaves the channel of every program.
const CHANNEL: i32 = 3;
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The proxy's socket to the server; works once per process, and before anything else has opened a descriptor.
pub fn inherited() -> Result<OwnedFd> {
    let refused = |reason: String| {
        Fault::new(Code::PROTOCOL_ORDER, "this process was not started by AgentOS: descriptor 3 is not its socket")
            .hint("the server starts the egress proxy by itself")
            .detail(reason)
    };
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(refused("it was taken before".to_owned()));
    }
    // SAFETY: the launch order gives descriptor 3 to this process alone, and `TAKEN` makes this its only owner. Where
    // nothing is open there, the calls below fail, and the value is given up without closing what it never was.
    let socket = unsafe { OwnedFd::from_raw_fd(CHANNEL) };
    match socket_type(&socket) {
        Ok(SocketType::SEQPACKET) => Ok(socket),
        Ok(other) => Err(refused(format!("a socket of type {other:?}"))),
        Err(Errno::BADF) => {
            std::mem::forget(socket);
            Err(refused("nothing is open there".to_owned()))
        }
        Err(error) => Err(refused(error.to_string())),
    }
}
