//! Where records come from: a database file, or an exported segment.

use agentos_types::{Code, Fault};

pub mod segment;
pub mod sqlite;

/// A file that could not be read; its path was given by the person who reads the message.
pub(crate) fn unreadable(path: &std::path::Path, why: impl std::fmt::Display) -> Fault {
    Fault::new(Code::FILE_UNAVAILABLE, format!("cannot read '{}': {why}", path.display()))
}
