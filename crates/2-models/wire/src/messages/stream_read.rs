//! Reads a provider's stream, event by event.

use super::{answer::read_finish, usage::Figures};
use crate::{
    Delta, Finish, Object, Raw, Refusal,
    fields::{self, join, malformed},
};

#[derive(Debug, Default)]
pub struct Reader {
    begun: bool,
    ended: bool,
    finish: Option<Finish>,
    open: Option<Open>,
    figures: Option<Figures>,
    /// Calls so far.
    calls: usize,
}

/// The block that deltas belong to. The protocol opens one after the other.
#[derive(Debug)]
struct Open {
    index: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    /// And whether any of its arguments came.
    Tool {
        call: usize,
        filled: bool,
    },
    /// The provider's own tools, and what is new.
    Other,
}

impl Reader {
    /// The data of one event. An error event is an `Err`: what came before it is not an answer.
    pub fn event(&mut self, data: &[u8]) -> Result<Vec<Delta>, Refusal> {
        if data.is_empty() {
            return Ok(Vec::new());
        }
        let mut event = Object::parse(data).map_err(|error| malformed("event", error))?;
        let kind: String = fields::required(&mut event, "event", "type")?;
        if self.ended {
            return Err(malformed("event", "the stream goes on behind its end"));
        }
        if !self.begun && !matches!(kind.as_str(), "message_start" | "ping" | "error") {
            return Err(malformed("event", format!("'{kind}' before the beginning")));
        }
        match kind.as_str() {
            "message_start" => self.start(&mut event),
            "content_block_start" => self.block(&mut event),
            "content_block_delta" => self.delta(&mut event),
            "content_block_stop" => self.stop(&mut event),
            "message_delta" => self.finish(&mut event),
            "message_stop" => self.end_of_message(event),
            "error" => Err(error(&mut event)),
            "ping" => Ok(Vec::new()),
            _ => {
                event.put("type", fields::raw(&kind));
                Ok(vec![Delta::Extra(event)])
            }
        }
    }

    /// The connection has ended.
    pub fn end(&mut self) -> Result<Vec<Delta>, Refusal> {
        if self.ended { Ok(Vec::new()) } else { Err(malformed("stream", "it ended without 'message_stop'")) }
    }

    fn start(&mut self, event: &mut Object) -> Result<Vec<Delta>, Refusal> {
        if std::mem::replace(&mut self.begun, true) {
            return Err(malformed("event", "a second beginning"));
        }
        let mut message: Object = fields::required(event, "event", "message")?;
        let path = "event.message";
        let id = fields::optional(&mut message, path, "id")?.unwrap_or_default();
        let model = fields::optional(&mut message, path, "model")?.unwrap_or_default();
        let mut deltas = vec![Delta::Begin { id, model, created_s: None }];
        deltas.extend(self.usage(&mut message, path)?);
        Ok(deltas)
    }

    fn block(&mut self, event: &mut Object) -> Result<Vec<Delta>, Refusal> {
        if self.open.is_some() {
            return Err(malformed("event", "a block begins within another one"));
        }
        let index = fields::required(event, "event", "index")?;
        let whole: Raw = fields::required(event, "event", "content_block")?;
        let path = "event.content_block";
        let mut block = fields::object(&whole, path)?;
        let (kind, delta) = match fields::required::<String>(&mut block, path, "type")?.as_str() {
            "text" => {
                let text: String = fields::optional(&mut block, path, "text")?.unwrap_or_default();
                (Kind::Text, (!text.is_empty()).then_some(Delta::Text { choice: 0, text }))
            }
            "thinking" => {
                let text: String = fields::optional(&mut block, path, "thinking")?.unwrap_or_default();
                (Kind::Thinking, (!text.is_empty()).then_some(Delta::Thinking { choice: 0, text }))
            }
            "redacted_thinking" => {
                let data = fields::required(&mut block, path, "data")?;
                (Kind::Other, Some(Delta::HiddenThinking { choice: 0, data }))
            }
            "tool_use" => return self.tool(index, &mut block, path),
            _ => (Kind::Other, Some(extra("content_block", whole))),
        };
        self.open = Some(Open { index, kind });
        Ok(delta.into_iter().collect())
    }

    fn tool(&mut self, index: u64, block: &mut Object, path: &str) -> Result<Vec<Delta>, Refusal> {
        let call = self.calls;
        self.calls += 1;
        let id = fields::required(block, path, "id")?;
        let name = fields::required(block, path, "name")?;
        let mut deltas = vec![Delta::ToolBegin { choice: 0, call, id, name }];
        // Empty here by rule, and filled by deltas; compatible servers write it whole.
        let input: Object = fields::optional(block, path, "input")?.unwrap_or_default();
        let filled = !input.is_empty();
        if filled {
            deltas.push(Delta::ToolArguments { choice: 0, call, json: fields::raw(&input).get().to_owned() });
        }
        self.open = Some(Open { index, kind: Kind::Tool { call, filled } });
        Ok(deltas)
    }

    fn open(&mut self, event: &mut Object) -> Result<&mut Open, Refusal> {
        let index: u64 = fields::required(event, "event", "index")?;
        let open = self.open.as_mut().filter(|open| open.index == index);
        open.ok_or_else(|| malformed("event.index", format!("block {index} is not open")))
    }

    fn delta(&mut self, event: &mut Object) -> Result<Vec<Delta>, Refusal> {
        let whole: Raw = fields::required(event, "event", "delta")?;
        let path = "event.delta";
        let mut delta = fields::object(&whole, path)?;
        let kind: String = fields::required(&mut delta, path, "type")?;
        let open = self.open(event)?;
        let mut text = |name| fields::required::<String>(&mut delta, path, name);
        let read = match (kind.as_str(), &mut open.kind) {
            ("text_delta", Kind::Text) => Delta::Text { choice: 0, text: text("text")? },
            ("thinking_delta", Kind::Thinking) => Delta::Thinking { choice: 0, text: text("thinking")? },
            ("signature_delta", Kind::Thinking) => Delta::Signature { choice: 0, signature: text("signature")? },
            ("input_json_delta", Kind::Tool { call, filled }) => {
                let json = text("partial_json")?;
                *filled |= !json.is_empty();
                Delta::ToolArguments { choice: 0, call: *call, json }
            }
            ("text_delta" | "thinking_delta" | "signature_delta", _) => {
                return Err(malformed(join(path, "type"), format!("'{kind}' in a block of another kind")));
            }
            _ => extra("content_block_delta", whole),
        };
        Ok(vec![read])
    }

    fn stop(&mut self, event: &mut Object) -> Result<Vec<Delta>, Refusal> {
        let kind = self.open(event)?.kind;
        self.open = None;
        Ok(match kind {
            // No arguments came: the call takes none, which is an object all the same.
            Kind::Tool { call, filled: false } => vec![Delta::ToolArguments { choice: 0, call, json: "{}".to_owned() }],
            _ => Vec::new(),
        })
    }

    fn finish(&mut self, event: &mut Object) -> Result<Vec<Delta>, Refusal> {
        let mut delta: Object = fields::optional(event, "event", "delta")?.unwrap_or_default();
        let path = "event.delta";
        let reason: Option<String> = fields::optional(&mut delta, path, "stop_reason")?;
        let sequence = fields::optional(&mut delta, path, "stop_sequence")?;
        let mut deltas: Vec<Delta> = self.usage(event, "event")?.into_iter().collect();
        if let Some(reason) = reason {
            let finish = read_finish(&reason, sequence);
            if self.finish.replace(finish.clone()).is_none() {
                deltas.push(Delta::Finish { choice: 0, finish });
            }
        }
        if delta.iter().any(|(_, value)| value.get() != "null") {
            deltas.push(Delta::Extra(delta));
        }
        Ok(deltas)
    }

    fn end_of_message(&mut self, event: Object) -> Result<Vec<Delta>, Refusal> {
        if self.open.is_some() || self.finish.is_none() {
            return Err(malformed("event", "'message_stop' before the answer was whole"));
        }
        self.ended = true;
        // Bedrock tells how long it took.
        let extra = (!event.is_empty()).then_some(Delta::Extra(event));
        Ok(extra.into_iter().chain([Delta::End]).collect())
    }

    fn usage(&mut self, object: &mut Object, path: &str) -> Result<Option<Delta>, Refusal> {
        let Some(later) = fields::optional::<Figures>(object, path, "usage")? else { return Ok(None) };
        let figures = self.figures.get_or_insert_default();
        figures.update(later);
        Ok(Some(Delta::Usage(figures.usage())))
    }
}

fn extra(name: &str, value: Raw) -> Delta {
    let mut extra = Object::default();
    extra.put(name, value);
    Delta::Extra(extra)
}

fn error(event: &mut Object) -> Refusal {
    let mut error: Object = fields::optional(event, "event", "error").ok().flatten().unwrap_or_default();
    let mut text = |name| fields::optional::<String>(&mut error, "error", name).ok().flatten().unwrap_or_default();
    let (kind, message) = (text("type"), text("message"));
    malformed("error", format!("{kind}: {message}"))
}
