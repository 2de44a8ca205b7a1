//! The text of a migration as each database reads it, and its hash.

use std::borrow::Cow;

use agentos_types::hex;
use sha2::{Digest, Sha256};

use super::Migration;
use crate::Dialect;

pub(super) fn addendum(dialect: Dialect, migration: &Migration) -> &'static str {
    match dialect {
        Dialect::Sqlite => migration.up_sqlite,
        Dialect::Postgres => migration.up_postgres,
    }
}

/// The common text as the database reads it. Types are named as SQLite's strict tables name them; Postgres has other
/// words for them, and compares text byte by byte only where it is told to.
pub(super) fn common(dialect: Dialect, text: &str) -> Cow<'_, str> {
    match dialect {
        Dialect::Sqlite => Cow::Borrowed(text),
        Dialect::Postgres => Cow::Owned(text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()).map(word).collect()),
    }
}

/// One word with the character that ends it.
fn word(text: &str) -> Cow<'_, str> {
    let bare = text.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    let end = text.get(bare.len()..).unwrap_or_default();
    match bare {
        "INTEGER" => format!("BIGINT{end}").into(),
        "BLOB" => format!("BYTEA{end}").into(),
        "TEXT" => format!("TEXT COLLATE \"C\"{end}").into(),
        "STRICT" => end.into(),
        _ => text.into(),
    }
}

/// What the database remembers of the text. The way down is not part of it: a better one may replace it.
pub(super) fn hash_of(dialect: Dialect, migration: &Migration) -> String {
    let mut hasher = Sha256::new();
    hasher.update(migration.up);
    hasher.update(addendum(dialect, migration));
    hex::encode(&hasher.finalize())
}
