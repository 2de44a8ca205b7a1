//! Extractors that refuse with faults of the catalogue instead of a library's plain text.

mod json;
mod model;
mod params;

pub(crate) use json::{Body, BodyOrDefault, require_json};
pub(crate) use model::{Bounds, HeldBody, ModelCall, read_held};
pub(crate) use params::{Filter, Id, QueryCode};
