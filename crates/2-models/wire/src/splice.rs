//! Changes a request where it must be changed and leaves every other byte as the client wrote it: spelling of numbers, order,
//! white space, and the fields that only client and provider know.

use std::ops::Range;

use crate::{Peek, Protocol, peek::UsageSpan};

/// Which of the two names of its limit a provider of [`Protocol::Chat`] knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI and what follows it: `max_completion_tokens`.
    #[default]
    Current,
    /// Ollama and other servers that overlook the newer name: `max_tokens`.
    Compatible,
}

impl Dialect {
    pub fn max_field(self) -> &'static str {
        match self {
            Dialect::Current => "max_completion_tokens",
            Dialect::Compatible => "max_tokens",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Changes<'a> {
    /// The name that the provider knows.
    pub model: &'a str,
    /// Ask a Chat provider for usage at the end of the stream. Its chunk is not the client's if [`Peek::stream_usage`] is
    /// false.
    pub stream_usage: bool,
    /// A lower limit than the client's, in each field that has one; written if there is none. `None` leaves it.
    pub max_output_tokens: Option<u64>,
    pub dialect: Dialect,
}

/// The body with the changes. `peek` must be of the same body.
pub fn splice(body: &[u8], peek: &Peek, changes: &Changes<'_>) -> Vec<u8> {
    let mut edits: Vec<(Range<usize>, String)> = Vec::with_capacity(4);
    let mut fields: Vec<String> = Vec::new();
    if let Some(span) = &peek.spans.model
        && peek.model != changes.model
    {
        edits.push((span.clone(), quoted(changes.model)));
    }
    if let Some(max) = changes.max_output_tokens {
        for span in &peek.spans.max {
            edits.push((span.clone(), max.to_string()));
        }
        match (peek.spans.max.is_empty(), peek.spans.config) {
            (false, _) => {}
            (true, None) => fields.push(max_field(peek.protocol, max, changes.dialect)),
            (true, Some((open, empty))) => {
                let comma = if empty { "" } else { "," };
                edits.push((open..open, format!(r#""maxOutputTokens":{max}{comma}"#)));
            }
        }
    }
    if changes.stream_usage && peek.stream && peek.protocol == Protocol::Chat {
        match &peek.spans.usage {
            UsageSpan::True => {}
            UsageSpan::Absent => fields.push(r#""stream_options":{"include_usage":true}"#.to_owned()),
            UsageSpan::Null(span) => edits.push((span.clone(), r#"{"include_usage":true}"#.to_owned())),
            UsageSpan::Value(span) => edits.push((span.clone(), "true".to_owned())),
            UsageSpan::Inside { open, empty } => {
                edits.push((*open..*open, format!(r#""include_usage":true{}"#, if *empty { "" } else { "," })));
            }
        }
    }
    if !fields.is_empty() {
        let comma = if peek.spans.empty { "" } else { "," };
        edits.push((peek.spans.open..peek.spans.open, format!("{}{comma}", fields.join(","))));
    }
    edits.sort_by_key(|(span, _)| span.start);
    apply(body, &edits)
}

fn apply(body: &[u8], edits: &[(Range<usize>, String)]) -> Vec<u8> {
    let added: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(body.len() + added);
    let mut at = 0;
    for (span, text) in edits {
        out.extend_from_slice(body.get(at..span.start).unwrap_or_default());
        out.extend_from_slice(text.as_bytes());
        at = span.end;
    }
    out.extend_from_slice(body.get(at..).unwrap_or_default());
    out
}

fn max_field(protocol: Protocol, max: u64, dialect: Dialect) -> String {
    match protocol {
        Protocol::Chat => format!(r#""{}":{max}"#, dialect.max_field()),
        Protocol::Responses => format!(r#""max_output_tokens":{max}"#),
        Protocol::Messages => format!(r#""max_tokens":{max}"#),
        Protocol::Gemini => format!(r#""generationConfig":{{"maxOutputTokens":{max}}}"#),
    }
}

/// A JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
