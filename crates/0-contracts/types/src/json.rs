//! Canonical JSON and its hash, for everything that is compared or signed by content.
//!
//! `serde_json::Map` is ordered by key here (the `preserve_order` feature is banned by the house test), so the compact
//! form of a `Value` is already canonical for the integers, strings, arrays and objects that we hash.

use serde_json::Value;

/// Compact bytes with sorted keys.
pub fn canonical(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Nesting depth of a value; a scalar is 1. Used by limits on hostile input.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}
