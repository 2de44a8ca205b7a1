//! The targets, by what they read.

mod egress;
mod json;
mod models;
mod permissions;
mod proofs;
mod sandboxes;

pub use egress::{client_hello, dns, http_head};
pub use json::{bodies, frames, json};
pub use models::{event_stream, model_answer, model_request, model_stream};
pub use permissions::{cadence, envelope, grants, manifest, url};
pub use proofs::{checkpoint, record, segment};
pub use sandboxes::sandbox;

/// The text of the input, as far as it is text.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}
