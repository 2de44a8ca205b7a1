//! Writes a stream with the whole sequence of events from which the official SDKs put an answer together: each item is added,
//! grows, and is done; then the response is.

use super::items::{self, Head, State, status};
use crate::{
    Ask, Delta, Finish, Object, Raw, Usage, WireError, errors,
    fields::{self, Build},
};

#[derive(Debug, Default)]
pub struct Writer {
    ask: Ask,
    head: Head,
    /// Events so far.
    sequence: u64,
    begun: bool,
    over: bool,
    items: Vec<Item>,
    finish: Option<Finish>,
    usage: Option<Usage>,
    extra: Object,
}

/// An item of the output, in its place.
#[derive(Debug)]
struct Item {
    id: String,
    done: bool,
    said: Said,
}

#[derive(Debug)]
enum Said {
    Thoughts {
        text: String,
        sealed: Option<String>,
    },
    /// Each piece: a refusal, or text.
    Message(Vec<(bool, String)>),
    /// Stays open until the finish: arguments of several calls may come mixed up.
    Call {
        call: usize,
        id: String,
        name: String,
        arguments: String,
    },
}

impl Item {
    fn build(&self, status: &str) -> Build {
        match &self.said {
            Said::Thoughts { text, sealed } => items::thoughts(&self.id, text, sealed.as_deref()),
            Said::Message(parts) => {
                let part = |(refused, text): &(bool, String)| write_part(*refused, text).raw();
                items::message(&self.id, status, &parts.iter().map(part).collect::<Vec<_>>())
            }
            Said::Call { id, name, arguments, .. } => items::call(&self.id, status, id, name, arguments),
        }
    }
}

fn write_part(refused: bool, text: &str) -> Build {
    if refused { items::refusal(text) } else { items::text(text) }
}

impl Writer {
    pub fn new(ask: &Ask) -> Self {
        // Of the request only what the answer repeats is needed.
        let ask = Ask { echo: ask.echo.clone(), model: ask.model.clone(), ..Ask::default() };
        let head = Head::new("", &ask.model, None, &ask);
        Self { ask, head, ..Self::default() }
    }

    /// The events that this step makes, which may be none. After an end or an error there are no more.
    pub fn delta(&mut self, delta: &Delta) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.over {
            if let Delta::Begin { id, model, created_s } = delta {
                self.head = Head::new(id, model, *created_s, &self.ask);
            }
            self.begin(&mut out);
            if delta.choice().is_some_and(|choice| choice > 0) {
                self.broken("the provider sent a second answer, and one was asked for", &mut out);
            } else {
                self.step(delta, &mut out);
            }
        }
        out
    }

    fn broken(&mut self, message: &str, out: &mut Vec<u8>) {
        out.extend(self.error(&WireError::malformed(message)));
    }

    /// The end of a stream that broke: the response has failed, and an event that makes SDKs raise.
    pub fn error(&mut self, error: &WireError) -> Vec<u8> {
        let mut out = Vec::new();
        if std::mem::replace(&mut self.over, true) {
            return out;
        }
        let code = errors::word(error).unwrap_or(&error.code);
        if self.begun {
            let failed = Build::new().with("code", code).with("message", &error.message).object();
            self.response("response.failed", "failed", None, Some(failed), &mut out);
        }
        let event = Build::new()
            .with("code", code)
            .with("message", &error.message)
            .with("param", &())
            .with("error", &errors::openai(error));
        self.event("error", event, &mut out);
        out
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            self.response("response.created", "in_progress", None, None, out);
            self.response("response.in_progress", "in_progress", None, None, out);
        }
    }

    fn step(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        match delta {
            Delta::Begin { .. } => {}
            Delta::Text { text, .. } => self.text(false, text, out),
            Delta::Refusal { text, .. } => self.text(true, text, out),
            Delta::Thinking { text, .. } => self.thoughts(text, out),
            Delta::Signature { signature, .. } => {
                self.open_thoughts(out);
                if let Some(Item { said: Said::Thoughts { sealed, .. }, .. }) = self.items.last_mut() {
                    *sealed = Some(signature.clone());
                }
                self.close_block(out);
            }
            Delta::HiddenThinking { data, .. } => {
                self.close_block(out);
                self.add("rs", Said::Thoughts { text: String::new(), sealed: Some(data.clone()) }, out);
                self.close_block(out);
            }
            Delta::ToolBegin { call, id, name, .. } => {
                self.close_block(out);
                let said = Said::Call { call: *call, id: id.clone(), name: name.clone(), arguments: String::new() };
                self.add("fc", said, out);
            }
            Delta::ToolArguments { call, json, .. } => self.arguments(*call, json, out),
            Delta::Finish { finish, .. } => {
                self.close_all(out);
                self.finish = Some(finish.clone());
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

    fn end(&mut self, out: &mut Vec<u8>) {
        self.close_all(out);
        self.over = true;
        let finish = self.finish.take().unwrap_or(Finish::Error);
        let (status, incomplete, unsaid) = status(&finish);
        if let Some(unsaid) = unsaid {
            self.extra.take("finish");
            self.extra.put("finish", fields::raw(&unsaid));
        }
        let kind = match status {
            "completed" => "response.completed",
            "incomplete" => "response.incomplete",
            _ => "response.failed",
        };
        let error = (status == "failed")
            .then(|| Build::new().with("code", "server_error").with("message", "the answer has no end").object());
        self.response(kind, status, incomplete, error, out);
    }

    fn add(&mut self, prefix: &str, said: Said, out: &mut Vec<u8>) {
        let at = self.items.len();
        let item = Item { id: self.head.item(prefix, at), done: false, said };
        // As it is before it grows; sealed thoughts do not.
        let begun = match &item.said {
            Said::Thoughts { .. } => items::thoughts(&item.id, "", None),
            _ => item.build("in_progress"),
        };
        self.items.push(item);
        self.event(
            "response.output_item.added",
            Build::new().with("output_index", &at).with("item", &begun.object()),
            out,
        );
    }

    fn open_thoughts(&mut self, out: &mut Vec<u8>) {
        if !matches!(self.items.last(), Some(Item { done: false, said: Said::Thoughts { .. }, .. })) {
            self.close_block(out);
            self.add("rs", Said::Thoughts { text: String::new(), sealed: None }, out);
        }
    }

    fn thoughts(&mut self, piece: &str, out: &mut Vec<u8>) {
        self.open_thoughts(out);
        let place = self.place("summary_index", 0);
        let Some(Item { said: Said::Thoughts { text, .. }, .. }) = self.items.last_mut() else { return };
        let first = text.is_empty();
        text.push_str(piece);
        if first {
            let part = Build::kind("summary_text").with("text", "").object();
            self.event("response.reasoning_summary_part.added", place.build().with("part", &part), out);
        }
        self.event("response.reasoning_summary_text.delta", place.build().with("delta", piece), out);
    }

    fn text(&mut self, refused: bool, piece: &str, out: &mut Vec<u8>) {
        if !matches!(self.items.last(), Some(Item { done: false, said: Said::Message(_), .. })) {
            self.close_block(out);
            self.add("msg", Said::Message(Vec::new()), out);
        }
        let Some(Item { said: Said::Message(parts), .. }) = self.items.last_mut() else { return };
        let open = parts.last().is_some_and(|(kind, _)| *kind == refused);
        let count = parts.len();
        if !open {
            if count > 0 {
                self.close_part(out);
            }
            let place = self.place("content_index", count);
            if let Some(Item { said: Said::Message(parts), .. }) = self.items.last_mut() {
                parts.push((refused, String::new()));
            }
            let part = write_part(refused, "").object();
            self.event("response.content_part.added", place.build().with("part", &part), out);
        }
        let place = self.place("content_index", if open { count - 1 } else { count });
        if let Some(Item { said: Said::Message(parts), .. }) = self.items.last_mut()
            && let Some((_, text)) = parts.last_mut()
        {
            text.push_str(piece);
        }
        let event = place.build().with("delta", piece);
        if refused {
            self.event("response.refusal.delta", event, out);
        } else {
            self.event("response.output_text.delta", event.with::<[Raw]>("logprobs", &[]), out);
        }
    }

    fn arguments(&mut self, number: usize, json: &str, out: &mut Vec<u8>) {
        let found = self.items.iter_mut().enumerate().find_map(|(at, item)| match &mut item.said {
            Said::Call { call, arguments, .. } if *call == number => Some((at, item.id.clone(), arguments)),
            _ => None,
        });
        let Some((at, id, arguments)) = found else {
            return self.broken("the provider sent arguments before their call", out);
        };
        arguments.push_str(json);
        let event = Build::new().with("item_id", &id).with("output_index", &at).with("delta", json);
        self.event("response.function_call_arguments.delta", event, out);
    }

    /// Ends the last part of the open message.
    fn close_part(&mut self, out: &mut Vec<u8>) {
        let Some(Item { said: Said::Message(parts), .. }) = self.items.last() else { return };
        let Some((refused, text)) = parts.last().cloned() else { return };
        let place = self.place("content_index", parts.len() - 1);
        if refused {
            self.event("response.refusal.done", place.build().with("refusal", &text), out);
        } else {
            let event = place.build().with("text", &text).with::<[Raw]>("logprobs", &[]);
            self.event("response.output_text.done", event, out);
        }
        let part = write_part(refused, &text).object();
        self.event("response.content_part.done", place.build().with("part", &part), out);
    }

    /// Ends the last item, but a call.
    fn close_block(&mut self, out: &mut Vec<u8>) {
        match self.items.last() {
            Some(Item { done: false, said: Said::Message(_), .. }) => self.close_part(out),
            Some(Item { done: false, said: Said::Thoughts { text, .. }, .. }) if !text.is_empty() => {
                let text = text.clone();
                let place = self.place("summary_index", 0);
                self.event("response.reasoning_summary_text.done", place.build().with("text", &text), out);
                let part = Build::kind("summary_text").with("text", &text).object();
                self.event("response.reasoning_summary_part.done", place.build().with("part", &part), out);
            }
            Some(Item { done: false, said: Said::Thoughts { .. }, .. }) => {}
            _ => return,
        }
        self.done(self.items.len() - 1, out);
    }

    fn close_all(&mut self, out: &mut Vec<u8>) {
        self.close_block(out);
        for at in 0..self.items.len() {
            let Some(Item { done: false, id, said: Said::Call { arguments, name, .. } }) = self.items.get(at) else {
                continue;
            };
            let event = Build::new()
                .with("item_id", id)
                .with("output_index", &at)
                .with("name", name)
                .with("arguments", arguments);
            self.event("response.function_call_arguments.done", event, out);
            self.done(at, out);
        }
    }

    fn done(&mut self, at: usize, out: &mut Vec<u8>) {
        let Some(item) = self.items.get_mut(at) else { return };
        item.done = true;
        let item = item.build("completed").object();
        self.event("response.output_item.done", Build::new().with("output_index", &at).with("item", &item), out);
    }

    /// Where the last item is, and a part of it.
    fn place(&self, name: &'static str, part: usize) -> Place {
        let id = self.items.last().map(|item| item.id.clone()).unwrap_or_default();
        Place { id, output: self.items.len().saturating_sub(1), name, part }
    }

    fn response(
        &mut self,
        kind: &str,
        status: &str,
        incomplete: Option<&str>,
        error: Option<Object>,
        out: &mut Vec<u8>,
    ) {
        let word = |item: &Item| if item.done { "completed" } else { "incomplete" };
        let output: Vec<Raw> = self.items.iter().map(|item| item.build(word(item)).raw()).collect();
        let extra = Some(&self.extra);
        let state = State { status, incomplete, error, output: &output, usage: self.usage, extra };
        let response = self.head.response(&state);
        self.event(kind, Build::new().with("response", &response), out);
    }

    fn event(&mut self, kind: &str, event: Build, out: &mut Vec<u8>) {
        let rest = event.object();
        let names: Vec<&str> = rest.names().collect();
        let event = Build::kind(kind).with("sequence_number", &self.sequence).extra(&rest, &names);
        self.sequence += 1;
        out.extend_from_slice(format!("event: {kind}\ndata: ").as_bytes());
        out.extend_from_slice(fields::raw(&event.object()).get().as_bytes());
        out.extend_from_slice(b"\n\n");
    }
}

struct Place {
    id: String,
    output: usize,
    name: &'static str,
    part: usize,
}

impl Place {
    fn build(&self) -> Build {
        Build::new().with("item_id", &self.id).with("output_index", &self.output).with(self.name, &self.part)
    }
}
