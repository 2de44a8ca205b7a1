//! One event as one line of JSON with fixed fields, those of [`crate::names::LOG_FIELDS`].
//!
//! What an event says besides goes into the object `fields`, so that no event can take the place of a fixed one. The
//! request and the trace come from the scope of the work that wrote the line; an event that names them itself goes first.

use std::fmt;

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::{Ambient, trace};

pub(super) struct JsonLine {
    pub(super) ambient: Ambient,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N> for JsonLine {
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let scope = trace::current().unwrap_or_default();
        // A dash is how text says that there is none.
        let mut take = |name: &str| said.0.remove(name).filter(|value| value.as_str() != Some("-"));
        let metadata = event.metadata();
        let head = [
            ("timestamp", Some(self.ambient.now().to_string().into())),
            ("level", Some(metadata.level().as_str().into())),
            ("target", Some(metadata.target().into())),
            ("message", Some(take("message").unwrap_or_default())),
            ("code", take("code")),
            ("request_id", take("request_id").or_else(|| scope.request_id.map(Value::from))),
            ("trace_id", take("trace_id").or_else(|| scope.context.map(|context| context.trace_hex().into()))),
            ("span_id", take("span_id").or_else(|| scope.context.map(|context| context.span_hex().into()))),
        ];
        let rest = Some(said.0).filter(|rest| !rest.is_empty()).map(Value::Object);
        let all = head.into_iter().chain([("fields", rest)]).filter_map(|(name, value)| Some((name, value?)));
        // Written by hand for the order, which a map of JSON would not keep.
        for (index, (name, value)) in all.enumerate() {
            write!(writer, "{}\"{name}\":{value}", if index == 0 { '{' } else { ',' })?;
        }
        writeln!(writer, "}}")
    }
}

/// The fields of one event; numbers and flags stay what they are.
#[derive(Default)]
struct Said(Map<String, Value>);

impl Said {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
}
