//! Export of traces by OTLP over HTTP with protocol buffers, to the one collector that the operator names.
//!
//! Invariants:
//! - it reads a bounded queue and never holds up whoever fills it; what does not fit is dropped and counted;
//! - a collector that is away, slow, or answers nonsense costs a line a minute in the log, and nothing else;
//! - every text passes the redactor, and has a limit, before it is encoded;
//! - the connection is made by the dialer, with the collector as its only target and no redirects.
//!
//! Why not the OpenTelemetry SDK: it makes the ids of spans by itself, while ours stand in the journal; it reads the
//! environment and the clock by itself, and has threads and a queue of its own. What is left of it after that is the
//! message format, which is `message.rs`. The tests decode what we send with the official definitions.

mod encode;
mod exporter;
mod message;
mod options;
#[cfg(test)]
mod tests;

pub use exporter::Exporter;
pub use options::OtlpOptions;
