//! Traces: where in a trace something happens ([`TraceContext`]), what happened ([`Span`]), and the hand that takes spans
//! without ever waiting ([`Tracer`]).
//!
//! The ids of spans stand in the journal (task, step) or follow from it (attempt), so that a trace goes on after a crash.
//! That is why the spans here are plain values with their ids, start and end, and not the live objects of an SDK that
//! makes ids of its own.
//!
//! Not here: how spans leave the machine (`agentos-otlp`), and what they are called ([`crate::names`]).

mod context;
mod scope;
mod span;
mod tracer;

pub use context::TraceContext;
pub use scope::{Scope, current, scoped};
pub use span::{Kind, Span, Value};
pub use tracer::{SPANS_QUEUED_MAX, SpanStats, Spans, Tracer};
