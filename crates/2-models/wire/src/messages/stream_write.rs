//! Writes a stream for a client, with the sequence of events that the official SDKs put together: a beginning, blocks one
//! after the other, the reason with the figures, the end.

use super::{answer::write_finish, error, usage};
use crate::{
    Delta, Finish, Object, Usage,
    fields::{self, Build},
};

#[derive(Debug, Default)]
pub struct Writer {
    /// The beginning, held back for one delta: if figures follow, they belong into it.
    begin: Option<(String, String)>,
    begun: bool,
    over: bool,
    index: u64,
    open: Option<Kind>,
    finish: Option<Finish>,
    usage: Option<Usage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    /// Another block for each call.
    Tool(usize),
}

impl Writer {
    /// The events that this step makes, which may be none. After an end or an error there are no more.
    pub fn delta(&mut self, delta: &Delta) -> Vec<u8> {
        let mut out = Vec::new();
        if self.over {
            return out;
        }
        if let Delta::Begin { id, model, .. } = delta {
            self.begin = Some((id.clone(), model.clone()));
            return out;
        }
        if let Delta::Usage(usage) = delta {
            self.usage = Some(*usage);
        }
        self.begin(&mut out);
        if delta.choice().is_some_and(|choice| choice > 0) {
            out.extend(self.broken("the provider sent a second answer, and one was asked for"));
            return out;
        }
        self.step(delta, &mut out);
        out
    }

    /// The end of a stream that broke: an error event, never an end.
    pub fn error(&mut self, kind: &str, message: &str, notes: Option<&Object>) -> Vec<u8> {
        if std::mem::replace(&mut self.over, true) {
            return Vec::new();
        }
        let mut out = Vec::new();
        event(&mut out, "error", error::body(kind, message, notes));
        out
    }

    fn broken(&mut self, message: &str) -> Vec<u8> {
        self.error("api_error", message, None)
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let (id, model) = self.begin.take().unwrap_or_default();
        let message = Build::new()
            .with("id", &id)
            .with("type", "message")
            .with("role", "assistant")
            .with("model", &model)
            .with::<[Object]>("content", &[])
            .with("stop_reason", &())
            .with("stop_sequence", &())
            .with("usage", &usage::write(self.usage.unwrap_or_default(), None));
        event(out, "message_start", Build::kind("message_start").with("message", &message.object()));
    }

    fn step(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        match delta {
            Delta::Begin { .. } | Delta::Usage(_) => {}
            Delta::Text { text, .. } | Delta::Refusal { text, .. } => {
                self.text(Kind::Text, Build::kind("text_delta").with("text", text), out);
            }
            Delta::Thinking { text, .. } => {
                self.text(Kind::Thinking, Build::kind("thinking_delta").with("thinking", text), out);
            }
            Delta::Signature { signature, .. } => {
                self.text(Kind::Thinking, Build::kind("signature_delta").with("signature", signature), out);
                self.close(out);
            }
            Delta::HiddenThinking { data, .. } => {
                self.close(out);
                self.start(Build::kind("redacted_thinking").with("data", data), out);
                self.stop(out);
            }
            Delta::ToolBegin { call, id, name, .. } => {
                self.close(out);
                let block = Build::kind("tool_use").with("id", id).with("name", name).with("input", &Object::default());
                self.start(block, out);
                self.open = Some(Kind::Tool(*call));
            }
            Delta::ToolArguments { call, json, .. } => {
                if self.open != Some(Kind::Tool(*call)) {
                    out.extend(self.broken("the provider sent the arguments of two calls mixed up"));
                    return;
                }
                self.change(Build::kind("input_json_delta").with("partial_json", json), out);
            }
            Delta::Finish { finish, .. } => {
                self.close(out);
                self.finish = Some(finish.clone());
            }
            // SDKs pass over events whose names they do not know.
            Delta::Extra(extra) => event(out, "agent_os", Build::kind("agent_os").with("extra", extra)),
            Delta::End => self.end(out),
        }
    }

    /// Into the open block, or a new one if that is of another kind.
    fn text(&mut self, kind: Kind, delta: Build, out: &mut Vec<u8>) {
        if self.open != Some(kind) {
            self.close(out);
            let block = match kind {
                Kind::Thinking => Build::kind("thinking").with("thinking", "").with("signature", ""),
                Kind::Text | Kind::Tool(_) => Build::kind("text").with("text", ""),
            };
            self.start(block, out);
            self.open = Some(kind);
        }
        self.change(delta, out);
    }

    fn start(&mut self, block: Build, out: &mut Vec<u8>) {
        let start =
            Build::kind("content_block_start").with("index", &self.index).with("content_block", &block.object());
        event(out, "content_block_start", start);
    }

    fn change(&mut self, delta: Build, out: &mut Vec<u8>) {
        let change = Build::kind("content_block_delta").with("index", &self.index).with("delta", &delta.object());
        event(out, "content_block_delta", change);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            self.stop(out);
        }
    }

    fn stop(&mut self, out: &mut Vec<u8>) {
        event(out, "content_block_stop", Build::kind("content_block_stop").with("index", &self.index));
        self.index += 1;
    }

    /// The figures come after the reason in some protocols and before it in others; here they come together.
    fn end(&mut self, out: &mut Vec<u8>) {
        let Some(finish) = self.finish.take().filter(|finish| *finish != Finish::Error) else {
            out.extend(self.broken("the provider's stream ended before its answer was whole"));
            return;
        };
        let (reason, sequence) = write_finish(&finish);
        let notes = Build::new()
            .maybe("finish", (finish == Finish::ContentFilter).then_some("content_filter"))
            .maybe("usage_unknown", self.usage.is_none().then_some(true));
        let last = Build::kind("message_delta")
            .with("delta", &Build::new().with("stop_reason", reason).with("stop_sequence", &sequence).object())
            .with("usage", &usage::write(self.usage.unwrap_or_default(), None))
            .maybe("agent_os", (!notes.is_empty()).then(|| notes.object()));
        event(out, "message_delta", last);
        event(out, "message_stop", Build::kind("message_stop"));
        self.over = true;
    }
}

fn event(out: &mut Vec<u8>, name: &str, data: Build) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    out.extend_from_slice(fields::raw(&data.object()).get().as_bytes());
    out.extend_from_slice(b"\n\n");
}
