//! Targets for a fuzzer: each takes any bytes and fails by panicking when a reader breaks its promise. The promises are
//! more than "no panic": what was read prints and reads again as the same, one thing has one spelling, and nothing that
//! nobody signed verifies.
//!
//! The program of the fuzzer is `fuzz/` at the root of the tree; the test of this crate replays the corpus and mutations of
//! it by seed, so that no target rots.

#![expect(clippy::panic, reason = "a broken promise stops the fuzzer, which keeps the input")]

pub mod seeds;
mod targets;

pub use targets::{
    bodies, cadence, checkpoint, client_hello, dns, envelope, event_stream, frames, grants, http_head, json, manifest,
    model_answer, model_request, model_stream, record, sandbox, segment, url,
};

/// One reader of bytes from outside.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Also the name of its folder below `corpus/`.
    pub name: &'static str,
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

pub const TARGETS: &[Target] = &[
    target("frames", frames),
    target("json", json),
    target("bodies", bodies),
    target("manifest", manifest),
    target("envelope", envelope),
    target("grants", grants),
    target("url", url),
    target("cadence", cadence),
    target("checkpoint", checkpoint),
    target("record", record),
    target("segment", segment),
    target("client_hello", client_hello),
    target("dns", dns),
    target("http_head", http_head),
    target("sandbox", sandbox),
    target("model_request", model_request),
    target("model_answer", model_answer),
    target("model_stream", model_stream),
    target("event_stream", event_stream),
];
