//! From the text of an answer to what was asked for.

use serde_json::{Value, value::RawValue};

use super::{Choice, Emulation, Tools, check};
use crate::{
    Answer, Finish, Object, Part, Raw, Refusal,
    fields::{self, Build, malformed},
};

/// What a text turned out to be.
#[derive(Debug)]
pub enum Found {
    Text(String),
    Call { name: String, arguments: String },
}

fn wrong(reason: impl ToString) -> Refusal {
    malformed("answer", reason)
}

impl Emulation {
    /// The answer as a model would have given it that has what this one lacks. An `Err` is an answer that nobody can use.
    pub fn answer(&self, mut answer: Answer) -> Result<Answer, Refusal> {
        for (index, choice) in answer.choices.iter_mut().enumerate() {
            let mut text = String::new();
            let mut parts = Vec::new();
            for part in std::mem::take(&mut choice.parts) {
                match part {
                    Part::Text { text: more, extra, .. } => {
                        text.push_str(&more);
                        for (name, value) in extra.iter() {
                            choice.extra.put(name, value.to_owned());
                        }
                    }
                    other => parts.push(other),
                }
            }
            match self.read(&text, &choice.finish)? {
                Some(Found::Text(text)) => parts.push(Part::text(text)),
                Some(Found::Call { name, arguments }) => {
                    let id = call_id(&answer.id, index);
                    parts.push(Part::ToolCall { id, name, arguments, extra: Object::default() });
                    choice.finish = Finish::ToolCalls;
                }
                None => {}
            }
            choice.parts = parts;
        }
        answer.extra.put("emulated", fields::raw(&self.what()));
        Ok(answer)
    }

    /// An answer that was stopped before its end is passed on as it is, with its reason: its reader knows that it is torn, as
    /// with a model that has what this one lacks.
    pub(super) fn read(&self, text: &str, finish: &Finish) -> Result<Option<Found>, Refusal> {
        if !matches!(finish, Finish::Stop | Finish::StopSequence(_) | Finish::ToolCalls) {
            return Ok((!text.is_empty()).then(|| Found::Text(text.to_owned())));
        }
        match &self.tools {
            Some(tools) => tools.read(text, self.format.as_ref()).map(Some),
            None => match &self.format {
                Some(schema) => format(text, schema.as_ref()).map(Some),
                None => Ok((!text.is_empty()).then(|| Found::Text(text.to_owned()))),
            },
        }
    }
}

/// Nothing in an answer of a provider is made for an id of a call, so only what all of them take is kept of it.
pub fn call_id(answer: &str, choice: usize) -> String {
    let answer: String =
        answer.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).take(40).collect();
    format!("call_{answer}_{choice}")
}

fn format(text: &str, schema: Option<&Raw>) -> Result<Found, Refusal> {
    let (raw, value) = json(text)?;
    match schema {
        Some(schema) => check::check(schema, &value).map_err(wrong)?,
        None if !value.is_object() => return Err(wrong("no JSON object")),
        None => {}
    }
    Ok(Found::Text(raw.get().to_owned()))
}

/// One JSON value, with nothing around it but the fence in which models like to put it.
fn json(text: &str) -> Result<(Raw, Value), Refusal> {
    let text = unfenced(text.trim());
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| wrong(format!("no JSON: {error}")))?;
    // The second reading finds fields that come twice, as the first does not.
    if text.starts_with('{') {
        fields::object(raw, "answer")?;
    }
    Ok((raw.to_owned(), fields::read(raw, "answer")?))
}

fn unfenced(text: &str) -> &str {
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    inner.map_or(text, |inner| inner.strip_prefix("json").unwrap_or(inner).trim())
}

impl Tools {
    fn read(&self, text: &str, reply: Option<&Option<Raw>>) -> Result<Found, Refusal> {
        let looks_like_json = unfenced(text.trim()).starts_with('{');
        if self.choice == Choice::Auto && !looks_like_json && reply.is_none() {
            // A model that was free to answer did, in its own words.
            return Ok(Found::Text(text.to_owned()));
        }
        let (raw, value) = json(text)?;
        if self.choice == Choice::Fixed {
            return match self.callable.first() {
                Some((name, schema)) => call(name, schema, &raw, &value),
                None => Err(wrong("there is no tool to call")),
            };
        }
        let mut object = fields::object(&raw, "answer")?;
        if let Some(said) = object.get("reply").filter(|_| self.choice == Choice::Auto) {
            if object.names().count() > 1 {
                return Err(wrong("a reply and something else"));
            }
            return said_reply(said, reply);
        }
        let name: String = fields::required(&mut object, "answer", "tool")?;
        let arguments: Raw = match object.take("arguments") {
            Some(arguments) => arguments,
            None => Build::new().raw(),
        };
        if let Some(other) = object.names().next() {
            return Err(wrong(format!("the field '{other}' was not asked for")));
        }
        let (_, schema) = self
            .callable
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| wrong(format!("there is no tool '{name}'")))?;
        call(&name, schema, &arguments, &fields::read(&arguments, "answer.arguments")?)
    }
}

fn call(name: &str, schema: &Raw, raw: &Raw, arguments: &Value) -> Result<Found, Refusal> {
    if !arguments.is_object() {
        return Err(wrong("the arguments are no JSON object"));
    }
    check::check(schema, arguments).map_err(wrong)?;
    Ok(Found::Call { name: name.to_owned(), arguments: raw.get().to_owned() })
}

fn said_reply(said: &RawValue, reply: Option<&Option<Raw>>) -> Result<Found, Refusal> {
    let value: Value = fields::read(said, "answer.reply")?;
    match (reply, value) {
        (Some(Some(schema)), value) => {
            check::check(schema, &value).map_err(wrong)?;
            Ok(Found::Text(said.get().to_owned()))
        }
        (Some(None), value) if value.is_object() => Ok(Found::Text(said.get().to_owned())),
        (Some(None), _) => Err(wrong("the reply is no JSON object")),
        (None, Value::String(text)) => Ok(Found::Text(text)),
        // Not what it was told to write, but nothing is lost in it.
        (None, _) => Ok(Found::Text(said.get().to_owned())),
    }
}
