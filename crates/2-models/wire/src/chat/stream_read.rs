//! Reads a provider's stream, chunk by chunk.

use serde_json::value::RawValue;

use super::{finish, usage};
use crate::{
    Delta, Finish, Object, Raw, Refusal,
    fields::{self, Build, join, malformed, optional, required},
};

/// A request may ask for 128 choices; a stream that names more is not followed.
const CHOICES_MAX: usize = 128;
/// Calls of one choice. OpenAI stops at 128.
const CALLS_MAX: usize = 1_024;
/// Chunks before the answer that say only what a filter found. Azure sends one for the prompt and, where it filters beside
/// the stream, a few more.
const NAMELESS_MAX: usize = 16;

#[derive(Debug, Default)]
pub struct Reader {
    begun: bool,
    ended: bool,
    /// What was said before the answer had a name.
    held: Vec<Delta>,
    choices: Vec<Said>,
    /// What was told last of each extra: some stand in every chunk.
    told: Vec<(String, String)>,
}

/// What a choice has said so far.
#[derive(Debug, Default)]
struct Said {
    /// Of each call: its index in the stream, and its id.
    calls: Vec<(u64, String)>,
    finished: bool,
}

impl Reader {
    /// The data of one event. An error in it is an `Err`: what came before it is not an answer.
    pub fn event(&mut self, data: &[u8]) -> Result<Vec<Delta>, Refusal> {
        if data.is_empty() {
            return Ok(Vec::new());
        }
        if self.ended {
            return Err(malformed("event", "the stream goes on behind its end"));
        }
        if data.trim_ascii() == b"[DONE]" {
            if !self.begun {
                return Err(malformed("event", "the stream ends before it began"));
            }
            if self.choices.iter().any(|said| !said.finished) {
                return Err(malformed("event", "the stream ends before a reason was given"));
            }
            self.ended = true;
            return Ok(vec![Delta::End]);
        }
        let mut chunk = Object::parse(data).map_err(|error| malformed("event", error))?;
        if let Some(error) = chunk.take("error").filter(|error| error.get() != "null") {
            return Err(malformed("event.error", error.get()));
        }
        self.chunk(&mut chunk)
    }

    /// The connection has ended.
    pub fn end(&mut self) -> Result<Vec<Delta>, Refusal> {
        if self.ended { Ok(Vec::new()) } else { Err(malformed("stream", "it ended without '[DONE]'")) }
    }

    fn chunk(&mut self, chunk: &mut Object) -> Result<Vec<Delta>, Refusal> {
        let mut deltas = Vec::new();
        chunk.take("object");
        // Random letters against who guesses words by the length of chunks.
        chunk.take("obfuscation");
        let id: String = optional(chunk, "event", "id")?.unwrap_or_default();
        let model: String = optional(chunk, "event", "model")?.unwrap_or_default();
        let created_s = optional(chunk, "event", "created")?;
        let choices: Option<Vec<Raw>> = optional(chunk, "event", "choices")?;
        if choices.is_none() && chunk.get("usage").is_none() {
            return Err(malformed("event.choices", "the field is missing"));
        }
        let choices = choices.unwrap_or_default();
        let is_nameless = choices.is_empty() && id.is_empty() && model.is_empty();
        if !self.begun && is_nameless && self.held.len() < NAMELESS_MAX && chunk.get("usage").is_none_or(is_null) {
            chunk.take("usage");
            let news = self.news(chunk, "").map(Delta::Extra);
            self.held.extend(news);
            return Ok(deltas);
        }
        if !std::mem::replace(&mut self.begun, true) {
            deltas.push(Delta::Begin { id, model, created_s });
            deltas.append(&mut self.held);
        }
        for (at, choice) in choices.iter().enumerate() {
            self.choice(choice, &format!("event.choices[{at}]"), &mut deltas)?;
        }
        if let Some(usage) = optional::<Object>(chunk, "event", "usage")? {
            let (figures, rest) = usage::read(usage)?;
            deltas.extend(figures.map(Delta::Usage));
            if !rest.is_empty() {
                chunk.put("usage", fields::raw(&rest));
            }
        }
        deltas.extend(self.news(chunk, "").map(Delta::Extra));
        Ok(deltas)
    }

    /// Fields that say something which has not been told.
    fn news(&mut self, object: &Object, path: &str) -> Option<Object> {
        let mut news = Build::new();
        for (name, value) in object.iter().filter(|(_, value)| value.get() != "null") {
            let name = join(path, name);
            match self.told.iter_mut().find(|(told, _)| *told == name) {
                Some((_, last)) if last == value.get() => continue,
                Some((_, last)) => value.get().clone_into(last),
                None => self.told.push((name.clone(), value.get().to_owned())),
            }
            news = news.with(&name, value);
        }
        (!news.is_empty()).then(|| news.object())
    }

    fn choice(&mut self, raw: &Raw, path: &str, deltas: &mut Vec<Delta>) -> Result<(), Refusal> {
        let mut choice = fields::object(raw, path)?;
        let index: usize = optional(&mut choice, path, "index")?.unwrap_or(0);
        if index >= CHOICES_MAX {
            return Err(malformed(join(path, "index"), format!("more than {CHOICES_MAX} answers")));
        }
        if self.choices.len() <= index {
            self.choices.resize_with(index + 1, Said::default);
        }
        let said = self.choices.get_mut(index).ok_or_else(|| malformed(path, "no such choice"))?;
        let mut delta: Object = optional(&mut choice, path, "delta")?.unwrap_or_default();
        let path_in = join(path, "delta");
        delta.take("role");
        let before = deltas.len();
        read_delta(said, index, &mut delta, &path_in, deltas)?;
        if said.finished && deltas.len() > before {
            return Err(malformed(path, "the choice goes on behind its end"));
        }
        let word: Option<String> = optional(&mut choice, path, "finish_reason")?;
        if let Some(word) = word.filter(|_| !said.finished) {
            said.finished = true;
            let finish = finish::read(&word);
            if finish == Finish::Error {
                return Err(malformed(join(path, "finish_reason"), "error"));
            }
            deltas.push(Delta::Finish { choice: index, finish });
        }
        let place = format!("choices[{index}]");
        for (object, path) in [(&choice, place.clone()), (&delta, join(&place, "delta"))] {
            let extra = self.news(object, &path).map(Delta::Extra);
            // The finish ends a choice.
            let at = deltas.len() - usize::from(matches!(deltas.last(), Some(Delta::Finish { .. })));
            if let Some(extra) = extra {
                deltas.insert(at, extra);
            }
        }
        Ok(())
    }
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

fn read_delta(
    said: &mut Said,
    choice: usize,
    delta: &mut Object,
    path: &str,
    deltas: &mut Vec<Delta>,
) -> Result<(), Refusal> {
    let mut thought: Option<String> = None;
    for name in ["reasoning_content", "reasoning"] {
        if delta.get(name).is_some_and(|text| text.get().starts_with('"')) {
            let text: String = required(delta, path, name)?;
            match &thought {
                // Some write both, with the same thoughts.
                Some(known) if *known == text => {}
                _ if text.is_empty() => {}
                Some(_) => delta.put(name, fields::raw(&text)),
                None => {
                    thought = Some(text.clone());
                    deltas.push(Delta::Thinking { choice, text });
                }
            }
        }
    }
    if let Some(text) = optional::<String>(delta, path, "content")?.filter(|text| !text.is_empty()) {
        deltas.push(Delta::Text { choice, text });
    }
    if let Some(text) = optional::<String>(delta, path, "refusal")?.filter(|text| !text.is_empty()) {
        deltas.push(Delta::Refusal { choice, text });
    }
    let calls: Vec<Raw> = optional(delta, path, "tool_calls")?.unwrap_or_default();
    for (at, call) in calls.iter().enumerate() {
        read_call(said, choice, call, &format!("{path}.tool_calls[{at}]"), deltas)?;
    }
    Ok(())
}

/// Servers number the calls of an answer, or all with 0, or not at all; a new id is a new call wherever it stands.
fn read_call(said: &mut Said, choice: usize, raw: &Raw, path: &str, deltas: &mut Vec<Delta>) -> Result<(), Refusal> {
    let mut call = fields::object(raw, path)?;
    let index: Option<u64> = optional(&mut call, path, "index")?;
    let id: String = optional(&mut call, path, "id")?.unwrap_or_default();
    let kind: Option<String> = optional(&mut call, path, "type")?;
    if kind.is_some_and(|kind| kind != "function" && !kind.is_empty()) {
        return Err(malformed(join(path, "type"), "a call of this kind cannot be passed on"));
    }
    let mut function: Object = optional(&mut call, path, "function")?.unwrap_or_default();
    let inner = join(path, "function");
    let name: String = optional(&mut function, &inner, "name")?.unwrap_or_default();
    let json: String = optional(&mut function, &inner, "arguments")?.unwrap_or_default();
    let same = |(at, known): &(u64, String)| {
        index.is_none_or(|index| *at == index) && (id.is_empty() || *known == id || known.is_empty())
    };
    let number = match said.calls.iter().rposition(same) {
        Some(number) if index.is_some() || !id.is_empty() || name.is_empty() => number,
        _ => {
            if said.calls.len() == CALLS_MAX {
                return Err(malformed(path, format!("more than {CALLS_MAX} calls")));
            }
            if name.is_empty() {
                return Err(malformed(join(&inner, "name"), "a call begins without a name"));
            }
            let number = said.calls.len();
            let id = if id.is_empty() { format!("call_{number}") } else { id };
            said.calls.push((index.unwrap_or(number as u64), id.clone()));
            deltas.push(Delta::ToolBegin { choice, call: number, id, name });
            number
        }
    };
    if !json.is_empty() {
        deltas.push(Delta::ToolArguments { choice, call: number, json });
    }
    for (object, place) in [(&call, "tool_calls"), (&function, "tool_calls.function")] {
        for (field, value) in object.iter().filter(|(_, value)| value.get() != "null") {
            let name = format!("choices[{choice}].{place}[{number}].{field}");
            deltas.push(Delta::Extra(Build::new().with(&name, value).object()));
        }
    }
    Ok(())
}
