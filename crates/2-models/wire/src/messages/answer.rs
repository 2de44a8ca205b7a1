//! Whole answers, both ways.

use super::{
    blocks::{To, read_content, write_block},
    usage::{self, Figures},
};
use crate::{
    Answer, Choice, Finish, Object, Part, Refusal,
    fields::{self, Build, malformed},
    splice::quoted,
};

/// Fields of an answer that pass between two sides of this protocol.
const OWN_FIELDS: &[&str] = &["container", "context_management", "stop_details"];

pub fn read_answer(body: &[u8]) -> Result<Answer, Refusal> {
    let mut root = Object::parse(body).map_err(|error| malformed("body", error))?;
    let fields = &mut root;
    let kind: String = fields::required(fields, "", "type")?;
    if kind != "message" {
        return Err(malformed("type", format!("'{kind}' is no answer")));
    }
    fields.take("role");
    let content = fields.take("content").ok_or_else(|| malformed("content", "the field is missing"))?;
    let parts = read_content(&content, "content")?;
    let reason: String = fields::required(fields, "", "stop_reason")?;
    let sequence = fields::optional(fields, "", "stop_sequence")?;
    let id = fields::optional(fields, "", "id")?.unwrap_or_default();
    let model = fields::optional(fields, "", "model")?.unwrap_or_default();
    let figures = match fields::optional::<Object>(fields, "", "usage")? {
        Some(usage) => {
            let figures: Figures = fields::read(&fields::raw(&usage), "usage")?;
            let rest = usage::rest(usage);
            if !rest.is_empty() {
                fields.put("usage", fields::raw(&rest));
            }
            Some(figures.usage())
        }
        None => None,
    };
    let finish = read_finish(&reason, sequence);
    let choices = vec![Choice { parts, finish, extra: Object::default() }];
    Ok(Answer { id, model, created_s: None, choices, usage: figures, extra: root })
}

pub fn read_finish(reason: &str, sequence: Option<String>) -> Finish {
    match reason {
        "end_turn" => Finish::Stop,
        "stop_sequence" => Finish::StopSequence(sequence),
        "max_tokens" => Finish::Length,
        "model_context_window_exceeded" => Finish::ContextFull,
        "tool_use" => Finish::ToolCalls,
        "refusal" => Finish::Refused,
        "pause_turn" => Finish::Paused,
        other => Finish::Other(other.to_owned()),
    }
}

/// `stop_reason` and `stop_sequence`. A filter's stop is told as a refusal, as this protocol's own provider does.
pub fn write_finish(finish: &Finish) -> (&str, Option<&str>) {
    match finish {
        Finish::Stop => ("end_turn", None),
        Finish::StopSequence(sequence) => ("stop_sequence", sequence.as_deref()),
        Finish::Length => ("max_tokens", None),
        Finish::ContextFull => ("model_context_window_exceeded", None),
        Finish::ToolCalls => ("tool_use", None),
        Finish::ContentFilter | Finish::Refused => ("refusal", None),
        Finish::Paused => ("pause_turn", None),
        Finish::Error => ("error", None),
        Finish::Other(word) => (word, None),
    }
}

/// Refuses an answer that this protocol cannot hold: several choices, or arguments of a call that are no JSON object.
pub fn write_answer(answer: &Answer) -> Result<Vec<u8>, Refusal> {
    let [choice] = answer.choices.as_slice() else {
        return Err(malformed("choices", format!("one answer was asked for, {} came", answer.choices.len())));
    };
    let to = To { own: false, client: true };
    let blocks = choice.parts.iter().enumerate().filter(|(_, part)| !is_foreign(part));
    let blocks = blocks.filter_map(|(at, part)| write_block(to, &plain(part), &format!("content[{at}]")).transpose());
    let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
    let (reason, sequence) = write_finish(&choice.finish);
    let rest = answer.extra.get("usage").map(|rest| fields::object(rest, "usage")).transpose()?;
    let written_usage = usage::write(answer.usage.unwrap_or_default(), rest.as_ref());
    Ok(Build::new()
        .with("id", &answer.id)
        .with("type", "message")
        .with("role", "assistant")
        .with("model", &answer.model)
        .with("content", &blocks)
        .with("stop_reason", reason)
        .with("stop_sequence", &sequence)
        .with("usage", &written_usage)
        .extra(&answer.extra, OWN_FIELDS)
        .maybe("agent_os", notes(answer, choice))
        .bytes())
}

/// A part of another protocol has no `type`, by which clients of this one tell blocks apart.
fn is_foreign(part: &Part) -> bool {
    let Part::Other { kind, raw } = part else { return false };
    let named = |object: Object| object.get("type").is_some_and(|name| name.get() == quoted(kind));
    !fields::object(raw, "content").is_ok_and(named)
}

/// Extras of a part that no client of this protocol knows go with the answer's, see [`notes`].
fn plain(part: &Part) -> Part {
    let mut part = part.clone();
    match &mut part {
        Part::Text { extra, .. } => extra.keep(&["citations"]),
        Part::ToolCall { extra, .. } => extra.keep(&["cache_control", "caller"]),
        Part::Image { extra, .. } | Part::ToolResult { extra, .. } => *extra = Object::default(),
        _ => {}
    }
    part
}

/// What the answer's own protocol has and this one has not: nothing is lost, and an SDK passes over it.
fn notes(answer: &Answer, choice: &Choice) -> Option<Object> {
    let mut extra = Build::new();
    let strangers = answer.extra.iter().filter(|(name, _)| !OWN_FIELDS.contains(name) && *name != "usage");
    for (name, value) in strangers.chain(choice.extra.iter()) {
        extra = extra.with(name, value);
    }
    for (at, part) in choice.parts.iter().enumerate() {
        if let (true, Part::Other { kind, raw }) = (is_foreign(part), part) {
            extra = extra.with(&format!("content[{at}].{kind}"), raw);
        }
        let (found, known): (&Object, &[&str]) = match part {
            Part::Text { extra, .. } => (extra, &["citations"]),
            Part::ToolCall { extra, .. } => (extra, &["cache_control", "caller"]),
            Part::Image { extra, .. } | Part::ToolResult { extra, .. } => (extra, &[]),
            _ => continue,
        };
        for (name, value) in found.iter().filter(|(name, _)| !known.contains(name)) {
            extra = extra.with(&format!("content[{at}].{name}"), value);
        }
    }
    let notes = Build::new()
        .maybe("created_s", answer.created_s)
        .maybe("finish", (choice.finish == Finish::ContentFilter).then_some("content_filter"))
        // Zero is what the SDKs need; that nobody counted is said here.
        .maybe("usage_unknown", answer.usage.is_none().then_some(true))
        .maybe("extra", (!extra.is_empty()).then(|| extra.object()));
    (!notes.is_empty()).then(|| notes.object())
}
