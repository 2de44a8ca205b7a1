//! Where records come from: a database file, or an exported segment.

use std::{num::NonZero, thread};

use agentos_types::{Code, Fault};

pub mod input;
pub mod segment;
pub mod sqlite;

/// A file that could not be read; its path was given by the person who reads the message.
pub(crate) fn unreadable(path: &std::path::Path, why: impl std::fmt::Display) -> Fault {
    Fault::new(Code::FILE_UNAVAILABLE, format!("cannot read '{}': {why}", path.display()))
}

/// Records that were pruned cannot be exported any more.
pub fn pruned(from: u64, first_kept: u64) -> Fault {
    Fault::new(Code::AUDIT_QUERY_INVALID, format!("record {from} was pruned; the first that is kept is {first_kept}"))
        .hint(format!("export from record {first_kept} on; what was pruned may lie in an archive"))
}

/// Threads for a file that somebody waits for; more than 16 would only wait for the reader.
pub(crate) fn threads() -> NonZero<usize> {
    let most = NonZero::<usize>::MIN.saturating_add(15);
    thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN).min(most)
}
