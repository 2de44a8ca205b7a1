//! One thing that happened, with its place in a trace, its start and its end.

use std::borrow::Cow;

use agentos_types::Timestamp;

use super::TraceContext;

/// Attributes of one span; code adds about ten, and the bound keeps a defect from growing a batch.
const ATTRIBUTES_MAX: usize = 32;
/// Bytes of one text.
const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Links of one span: a commit can serve hundreds of operations, and names the first of them.
const LINKS_MAX: usize = 16;

/// Which side of a call a span tells of. The numbers are those of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(Cow<'static, str>),
    Integer(i64),
    Flag(bool),
}

/// A finished span. Names and attributes come from [`crate::names`]; no payload is ever put into one.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub name: Cow<'static, str>,
    pub kind: Kind,
    pub context: TraceContext,
    /// The span that caused this one; in the same trace.
    pub parent: Option<TraceContext>,
    /// True for a parent of another process.
    pub parent_is_remote: bool,
    pub links: Vec<TraceContext>,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    pub attributes: Vec<(&'static str, Value)>,
    /// It did not do what it was for; the text is a code or a class.
    pub error: Option<Cow<'static, str>>,
}

impl Span {
    pub fn new(name: impl Into<Cow<'static, str>>, kind: Kind, context: TraceContext, started_at: Timestamp) -> Self {
        Self {
            name: name.into(),
            kind,
            context,
            parent: None,
            parent_is_remote: false,
            links: Vec::new(),
            started_at,
            ended_at: started_at,
            attributes: Vec::new(),
            error: None,
        }
    }

    #[must_use]
    pub fn parent(mut self, parent: Option<TraceContext>) -> Self {
        self.parent = parent;
        self
    }

    #[must_use]
    pub fn link(mut self, to: Option<TraceContext>) -> Self {
        self.links.extend(to.filter(|_| self.links.len() < LINKS_MAX));
        self
    }

    /// A clock that was set back does not make a span end before its start.
    #[must_use]
    pub fn ended(mut self, at: Timestamp) -> Self {
        self.ended_at = at.max(self.started_at);
        self
    }

    #[must_use]
    pub fn text(self, name: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        // The queue counts spans, so each must be small. Far above what is exported: secrets are masked before that cut.
        let end = text.floor_char_boundary(TEXT_BYTES_MAX);
        let text = if end < text.len() { text.get(..end).unwrap_or_default().to_owned().into() } else { text };
        self.with(name, Value::Text(text))
    }

    #[must_use]
    pub fn integer(self, name: &'static str, number: i64) -> Self {
        self.with(name, Value::Integer(number))
    }

    #[must_use]
    pub fn flag(self, name: &'static str, flag: bool) -> Self {
        self.with(name, Value::Flag(flag))
    }

    /// Also sets `error.type`, by which traces are searched for failures.
    #[must_use]
    pub fn failed(self, kind: Option<impl Into<Cow<'static, str>>>) -> Self {
        match kind.map(Into::into) {
            None => self,
            Some(kind) => {
                let mut span = self.text(crate::names::ERROR_TYPE, kind.clone());
                span.error = Some(kind);
                span
            }
        }
    }

    fn with(mut self, name: &'static str, value: Value) -> Self {
        if self.attributes.len() < ATTRIBUTES_MAX {
            self.attributes.push((name, value));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ambient;

    #[test]
    fn a_text_that_a_worker_chose_does_not_make_a_span_large() {
        let (ambient, _) = Ambient::fake(1, Timestamp::ZERO);
        // Two bytes each, one off the limit: the cut may not fall into a character.
        let long = format!("a{}", "ä".repeat(TEXT_BYTES_MAX));
        let span = Span::new("name", Kind::Internal, ambient.root(), Timestamp::ZERO)
            .text("long", long.clone())
            .text("short", "as it is");
        let texts: Vec<&str> = span
            .attributes
            .iter()
            .map(|(_, value)| match value {
                Value::Text(text) => text.as_ref(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(texts[0].len(), TEXT_BYTES_MAX - 1);
        assert!(long.starts_with(texts[0]));
        assert_eq!(texts[1], "as it is");
    }
}
