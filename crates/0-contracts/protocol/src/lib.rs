//! What crosses the socket between the kernel and a worker: frames, the system call table. Also what the server says to
//! launchers ([`sandbox`]) and to the egress proxy ([`egress`]).
//!
//! The prose specification is `docs/src/reference/worker-protocol.md`; a test keeps its table equal to [`syscall::TABLE`].

pub mod egress;
pub mod frame;
pub mod sandbox;
pub mod syscall;
pub mod wire;

pub use frame::{KernelFrame, WorkerFrame};
pub use syscall::Syscall;

/// Version of the protocol in this crate. A worker that says another number is refused with AOS-1503.
pub const PROTOCOL_VERSION: u32 = 1;
/// The descriptor on which a worker finds its socket.
pub const WORKER_FD: i32 = 3;
