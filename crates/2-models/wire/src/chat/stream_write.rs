//! Writes a stream for a client.

use super::{finish, usage};
use crate::{
    Delta, Object, Raw, Usage, WireError, errors,
    fields::{self, Build},
    gemini::google_extra,
    messages::blocks::GEMINI_SIGNATURE,
};

#[derive(Debug, Default)]
pub struct Writer {
    id: String,
    model: String,
    created_s: u64,
    /// The client asked for usage.
    wants_usage: bool,
    usage: Option<Usage>,
    /// Choices whose role has been written, and whether their reason has.
    begun: Vec<(usize, bool)>,
    /// What goes with the next chunk: clients take the first choice of each without looking, so no chunk is without one.
    extra: Object,
    /// Gemini's, which goes with the call that comes next.
    signature: Option<(usize, Object)>,
    over: bool,
}

impl Writer {
    pub fn new(wants_usage: bool) -> Self {
        Self { wants_usage, ..Self::default() }
    }

    /// The events that this step makes, which may be none. After an end or an error there are no more.
    pub fn delta(&mut self, delta: &Delta) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.over {
            self.step(delta, &mut out);
        }
        out
    }

    /// The end of a stream that broke: a chunk with the error, and no `[DONE]`.
    pub fn error(&mut self, error: &WireError) -> Vec<u8> {
        if std::mem::replace(&mut self.over, true) {
            return Vec::new();
        }
        let mut out = Vec::new();
        let choice = choice(0, Build::new(), Some("error"));
        let chunk = self.chunk(&[choice]).with("error", &errors::openai(error));
        write(&mut out, &chunk.bytes());
        out
    }

    fn step(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        match delta {
            Delta::Begin { id, model, created_s } => {
                self.id.clone_from(id);
                self.model.clone_from(model);
                self.created_s = created_s.unwrap_or(0);
            }
            Delta::Text { choice, text } => self.said(*choice, Build::new().with("content", text), out),
            Delta::Thinking { choice, text } => self.said(*choice, Build::new().with("reasoning_content", text), out),
            Delta::Refusal { choice, text } => self.said(*choice, Build::new().with("refusal", text), out),
            Delta::Signature { choice, signature } => {
                self.keep(*choice, "signature", signature);
                let gemini = signature.strip_prefix(GEMINI_SIGNATURE);
                self.signature = gemini.map(|signature| (*choice, google_extra(signature)));
            }
            Delta::HiddenThinking { choice, data } => self.keep(*choice, "hidden_thinking", data),
            Delta::ToolBegin { choice, call, id, name } => {
                let function = Build::new().with("name", name).with("arguments", "").object();
                let begin = Build::new()
                    .with("index", call)
                    .with("id", id)
                    .with("type", "function")
                    .with("function", &function);
                let signed = self.signature.take().filter(|(signed, _)| signed == choice);
                let begin = begin.maybe("extra_content", signed.map(|(_, signature)| signature));
                self.said(*choice, Build::new().with("tool_calls", &[begin.object()]), out);
            }
            Delta::ToolArguments { choice, call, json } => {
                let function = Build::new().with("arguments", json).object();
                let piece = Build::new().with("index", call).with("function", &function);
                self.said(*choice, Build::new().with("tool_calls", &[piece.object()]), out);
            }
            Delta::Finish { choice: at, finish } => {
                let (word, unsaid) = finish::write(finish);
                if let Some(unsaid) = unsaid {
                    self.keep(*at, "finish", &unsaid);
                }
                let delta = self.role(*at, Build::new());
                self.begun.iter_mut().filter(|(choice, _)| choice == at).for_each(|(_, finished)| *finished = true);
                let chunk = self.chunk(&[choice(*at, delta, Some(word))]);
                write(out, &chunk.bytes());
            }
            Delta::Usage(usage) => self.usage = Some(*usage),
            Delta::Extra(extra) => {
                for (name, value) in extra.iter() {
                    self.extra.take(name);
                    self.extra.put(name, value.to_owned());
                }
            }
            Delta::End => self.end(out),
        }
    }

    fn keep(&mut self, choice: usize, name: &str, text: &str) {
        let name = format!("choices[{choice}].{name}");
        self.extra.take(&name);
        self.extra.put(name, fields::raw(text));
    }

    fn said(&mut self, at: usize, delta: Build, out: &mut Vec<u8>) {
        let delta = self.role(at, delta);
        let chunk = self.chunk(&[choice(at, delta, None)]);
        write(out, &chunk.bytes());
    }

    /// The role stands in the first delta of each choice.
    fn role(&mut self, at: usize, delta: Build) -> Build {
        if self.begun.iter().any(|(choice, _)| *choice == at) {
            return delta;
        }
        self.begun.push((at, false));
        let rest = delta.object();
        let names: Vec<&str> = rest.names().collect();
        Build::new().with("role", "assistant").extra(&rest, &names)
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.begun.is_empty() || self.begun.iter().any(|(_, finished)| !finished) {
            out.extend(self.error(&WireError::malformed("the answer has no end")));
            return;
        }
        self.over = true;
        if self.wants_usage {
            let usage = self.usage.map(|usage| usage::write(usage, None));
            let chunk = self.chunk(&[]).with("usage", &usage);
            write(out, &chunk.bytes());
        } else if !self.extra.is_empty() {
            let chunk = self.chunk(&[choice(0, Build::new(), None)]);
            write(out, &chunk.bytes());
        }
        write(out, b"[DONE]");
    }

    fn chunk(&mut self, choices: &[Raw]) -> Build {
        let extra = std::mem::take(&mut self.extra);
        let notes = (!extra.is_empty()).then(|| Build::new().with("extra", &extra).object());
        Build::new()
            .with("id", &self.id)
            .with("object", "chat.completion.chunk")
            .with("created", &self.created_s)
            .with("model", &self.model)
            .with("choices", choices)
            .maybe("agent_os", notes)
    }
}

fn choice(at: usize, delta: Build, finish: Option<&str>) -> Raw {
    Build::new().with("index", &at).with("delta", &delta.object()).with("finish_reason", &finish).raw()
}

fn write(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}
