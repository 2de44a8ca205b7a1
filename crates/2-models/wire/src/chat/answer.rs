//! Whole answers, both ways.

use super::{
    finish,
    message::{To, read_said, write_call},
    usage,
};
use crate::{
    Answer, Choice, Object, Part, Raw, Refusal,
    fields::{self, Build, malformed, optional, required},
    gemini::google_extra,
    messages::blocks::GEMINI_SIGNATURE,
};

/// Fields of an answer, and of a choice, that pass between two sides of this protocol.
const OWN_FIELDS: &[&str] = &["service_tier", "system_fingerprint"];
const OWN_CHOICE_FIELDS: &[&str] = &["logprobs", "content_filter_results"];
const OWN_MESSAGE_FIELDS: &[&str] = &["annotations", "audio", "function_call", "images"];

pub fn read_answer(body: &[u8]) -> Result<Answer, Refusal> {
    let mut root = Object::parse(body).map_err(|error| malformed("body", error))?;
    let fields = &mut root;
    fields.take("object");
    let raw: Vec<Raw> = required(fields, "", "choices")?;
    if raw.is_empty() {
        return Err(malformed("choices", "there is none"));
    }
    let mut choices = Vec::with_capacity(raw.len());
    for (at, raw) in raw.iter().enumerate() {
        choices.push(read_choice(raw, &format!("choices[{at}]"))?);
    }
    choices.sort_by_key(|(index, _)| *index);
    let mut answer = Answer {
        id: optional(fields, "", "id")?.unwrap_or_default(),
        model: optional(fields, "", "model")?.unwrap_or_default(),
        created_s: optional(fields, "", "created")?,
        choices: choices.into_iter().map(|(_, choice)| choice).collect(),
        ..Answer::default()
    };
    if let Some(usage) = optional::<Object>(fields, "", "usage")? {
        let (figures, rest) = usage::read(usage)?;
        answer.usage = figures;
        if !rest.is_empty() {
            fields.put("usage", fields::raw(&rest));
        }
    }
    answer.extra = said(root);
    Ok(answer)
}

fn read_choice(raw: &Raw, path: &str) -> Result<(u64, Choice), Refusal> {
    let mut choice = fields::object(raw, path)?;
    let index = optional(&mut choice, path, "index")?.unwrap_or(0);
    let mut message: Object = required(&mut choice, path, "message")?;
    let word: Option<String> = optional(&mut choice, path, "finish_reason")?;
    let word = word.ok_or_else(|| malformed(format!("{path}.finish_reason"), "the answer is not whole"))?;
    message.take("role");
    let parts = read_said(&mut message, &format!("{path}.message"))?;
    let message = said(message);
    if !message.is_empty() {
        choice.put("message", fields::raw(&message));
    }
    Ok((index, Choice { parts, finish: finish::read(&word), extra: said(choice) }))
}

/// Without what says nothing.
fn said(object: Object) -> Object {
    let mut said = Object::default();
    for (name, value) in object.iter().filter(|(_, value)| value.get() != "null") {
        said.put(name, value.to_owned());
    }
    said
}

/// `created` is 0 if nobody said when: there is no clock here.
pub fn write_answer(answer: &Answer) -> Result<Vec<u8>, Refusal> {
    let mut notes = Build::new();
    let mut choices = Vec::with_capacity(answer.choices.len());
    for (at, choice) in answer.choices.iter().enumerate() {
        let (written, more) = write_choice(at, choice)?;
        choices.push(written);
        for (name, value) in more.iter() {
            notes = notes.with(&format!("choices[{at}].{name}"), value);
        }
    }
    let strangers = answer.extra.iter().filter(|(name, _)| !OWN_FIELDS.contains(name) && *name != "usage");
    for (name, value) in strangers {
        notes = notes.with(name, value);
    }
    let rest = answer.extra.get("usage").map(|rest| fields::object(rest, "usage")).transpose()?;
    let notes = (!notes.is_empty()).then(|| Build::new().with("extra", &notes.object()).object());
    Ok(Build::new()
        .with("id", &answer.id)
        .with("object", "chat.completion")
        .with("created", &answer.created_s.unwrap_or(0))
        .with("model", &answer.model)
        .with("choices", &choices)
        .maybe("usage", answer.usage.map(|usage| usage::write(usage, rest.as_ref())))
        .extra(&answer.extra, OWN_FIELDS)
        .maybe("agent_os", notes)
        .bytes())
}

/// The choice, and what this protocol has no place for.
fn write_choice(at: usize, choice: &Choice) -> Result<(Raw, Object), Refusal> {
    let mut notes = Build::new();
    let mut texts: Option<String> = None;
    let mut thoughts: Option<String> = None;
    let mut refusal: Option<String> = None;
    let mut calls = Vec::new();
    // Gemini's, of the thoughts before a call: clients send it back with the call, where Google too would have put it.
    let mut signature: Option<&str> = None;
    for (at, part) in choice.parts.iter().enumerate() {
        match part {
            Part::Text { text, extra, .. } => {
                texts.get_or_insert_default().push_str(text);
                for (name, value) in extra.iter() {
                    notes = notes.with(&format!("content[{at}].{name}"), value);
                }
            }
            Part::Thinking { text, signature: given } => {
                thoughts.get_or_insert_default().push_str(text);
                notes = notes.maybe(&format!("content[{at}].signature"), given.as_ref());
                signature = given.as_deref().and_then(|given| given.strip_prefix(GEMINI_SIGNATURE));
            }
            Part::HiddenThinking { data } => notes = notes.with(&format!("content[{at}].hidden_thinking"), data),
            Part::Refusal { text } => refusal.get_or_insert_default().push_str(text),
            Part::ToolCall { .. } => {
                let to = To { own: true, wide: true };
                let mut part = part.clone();
                if let (Part::ToolCall { extra, .. }, Some(signature)) = (&mut part, signature.take()) {
                    extra.put("extra_content", fields::raw(&google_extra(signature)));
                }
                calls.push(write_call(to, &part, &format!("content[{at}]"))?);
            }
            Part::Other { kind, raw } => notes = notes.with(&format!("content[{at}].{kind}"), raw),
            Part::Image { .. } | Part::ToolResult { .. } => {
                return Err(malformed(format!("content[{at}]"), "no part of an answer"));
            }
        }
    }
    let mut rest = choice.extra.clone();
    let more = rest.take("message").map(|more| fields::object(&more, "message")).transpose()?.unwrap_or_default();
    let message = Build::new()
        .with("role", "assistant")
        .with("content", &texts)
        .with("refusal", &refusal)
        .maybe("reasoning_content", thoughts)
        .list("tool_calls", &calls)
        .extra(&more, OWN_MESSAGE_FIELDS)
        .object();
    for (name, value) in more.iter().filter(|(name, _)| !OWN_MESSAGE_FIELDS.contains(name)) {
        notes = notes.with(&format!("message.{name}"), value);
    }
    for (name, value) in rest.iter().filter(|(name, _)| !OWN_CHOICE_FIELDS.contains(name)) {
        notes = notes.with(name, value);
    }
    let (word, unsaid) = finish::write(&choice.finish);
    let written = Build::new()
        .with("index", &at)
        .with("message", &message)
        .maybe("logprobs", rest.get("logprobs").is_none().then_some(()))
        .extra(&rest, OWN_CHOICE_FIELDS)
        .with("finish_reason", word)
        .raw();
    Ok((written, notes.maybe("finish", unsaid).object()))
}
