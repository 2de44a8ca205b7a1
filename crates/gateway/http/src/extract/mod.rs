//! Extractors that refuse with faults of the catalogue instead of a library's plain text.

mod json;
mod params;

pub(crate) use json::{Body, BodyOrDefault, Limit, ModelCall, read, require_json};
pub(crate) use params::{Filter, Id, QueryCode};
