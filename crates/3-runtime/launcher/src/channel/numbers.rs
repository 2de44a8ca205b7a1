//! Descriptors of a sandbox's first process, and what it can say at once. The init, which is a program of its own, has this
//! file too.

/// Where the first process finds its side after it has sorted its descriptors.
pub const CHANNEL: i32 = 4;
/// And the plan of what it shall run.
pub const PLAN: i32 = 5;
/// The sandbox's root, which the first process keeps open: closing it takes the mounts apart, and that waits for the whole
/// machine.
pub const ROOT: i32 = 9;

/// Longest message: a stage, and a sentence with a path or two in it.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024;
