//! Canonical JSON, for everything that is compared or signed by content, and strict JSON, for everything that comes from
//! outside.
//!
//! `serde_json::Map` is ordered by key here (the `preserve_order` feature is banned by the house test), so the compact
//! form of a `Value` is already canonical for the integers, strings, arrays and objects that we hash.

mod strict;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use strict::{integers_fit, parse};

/// A strict document whose outermost value is an object, in its documented shape.
pub fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let value = parse(bytes)?;
    // A derived reader would take an array as the fields in the order of the program.
    if !value.is_object() {
        return Err("it is not an object".to_owned());
    }
    serde_json::from_value(value).map_err(|reason| reason.to_string())
}

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
