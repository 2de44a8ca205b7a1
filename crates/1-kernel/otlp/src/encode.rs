//! From our spans to one request. Every text is redacted and cut here, so that nothing else has to remember to.

use agentos_base::{
    names,
    redact::Redactor,
    trace::{Span, TraceContext, Value},
};
use agentos_types::Timestamp;
use prost::Message;

use crate::message::{
    Any, AnyValue, ExportRequest, KeyValue, Link, Resource, ResourceSpans, Scope, ScopeSpans, Span as Wire, Status,
};

/// Characters of one text. Names, ids and codes are shorter; a step's key can be this long.
const TEXT_CHARS_MAX: usize = 256;
/// Bits of `flags`: it is known whether the parent is of another process, and it is.
const PARENT_KNOWN: u32 = 0x100;
const PARENT_REMOTE: u32 = 0x200;
const STATUS_ERROR: i32 = 2;

pub(crate) struct Encoder {
    resource: Resource,
    redactor: Redactor,
}

impl Encoder {
    pub(crate) fn new(resource: &[(String, String)], redactor: Redactor) -> Self {
        let attribute = |(key, text): &(String, String)| pair(key, Any::Text(text.clone()));
        Self { resource: Resource { attributes: resource.iter().map(attribute).collect() }, redactor }
    }

    pub(crate) fn request(&self, spans: &[Wire]) -> Vec<u8> {
        let scope = Scope { name: names::SCOPE.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let scope_spans =
            ScopeSpans { scope: Some(scope), spans: spans.to_vec(), schema_url: names::SCHEMA_URL.into() };
        let resource_spans = ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans: vec![scope_spans],
            schema_url: names::SCHEMA_URL.into(),
        };
        ExportRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
    }

    pub(crate) fn span(&self, span: &Span) -> Wire {
        let remote = if span.parent_is_remote { PARENT_REMOTE } else { 0 };
        Wire {
            trace_id: span.context.trace_id().to_vec(),
            span_id: span.context.span_id().to_vec(),
            parent_span_id: span.parent.map(|parent| parent.span_id().to_vec()).unwrap_or_default(),
            name: self.text(&span.name),
            kind: span.kind as i32,
            start_time_unix_nano: nanos(span.started_at),
            end_time_unix_nano: nanos(span.ended_at),
            attributes: span.attributes.iter().map(|(key, value)| pair(key, self.any(value))).collect(),
            links: span.links.iter().map(link).collect(),
            status: span.error.as_ref().map(|kind| Status { message: self.text(kind), code: STATUS_ERROR }),
            flags: flags(&span.context) | PARENT_KNOWN | remote,
        }
    }

    fn any(&self, value: &Value) -> Any {
        match value {
            Value::Text(text) => Any::Text(self.text(text)),
            Value::Integer(number) => Any::Integer(*number),
            Value::Flag(flag) => Any::Flag(*flag),
        }
    }

    /// Cut after masking: the rest of a secret that was cut in two would not be known as one.
    fn text(&self, text: &str) -> String {
        let mut clean = self.redactor.clean(text);
        if let Some((end, _)) = clean.char_indices().nth(TEXT_CHARS_MAX) {
            clean.truncate(end);
        }
        clean
    }
}

fn link(context: &TraceContext) -> Link {
    Link { trace_id: context.trace_id().to_vec(), span_id: context.span_id().to_vec(), flags: flags(context) }
}

fn flags(context: &TraceContext) -> u32 {
    u32::from(context.is_sampled())
}

fn pair(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(0).saturating_mul(1_000)
}
