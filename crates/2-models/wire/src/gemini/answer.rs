//! Reads a whole answer, and why it ended.

use super::{parts, usage::Figures};
use crate::{
    Answer, Choice, Finish, Object, Part, Raw, Refusal,
    fields::{self, join, malformed},
};

/// A request may ask for 8.
pub const CANDIDATES_MAX: usize = 32;

pub fn read_answer(body: &[u8]) -> Result<Answer, Refusal> {
    let mut root = Object::parse(body).map_err(|error| malformed("body", error))?;
    let fields = &mut root;
    let id: String = fields::optional(fields, "", "responseId")?.unwrap_or_default();
    let model = fields::optional(fields, "", "modelVersion")?.unwrap_or_default();
    let usage = fields::optional::<Figures>(fields, "", "usageMetadata")?.map(|figures| figures.usage());
    let candidates: Vec<Raw> = fields::optional(fields, "", "candidates")?.unwrap_or_default();
    let mut choices: Vec<(usize, Choice)> = Vec::new();
    if candidates.len() > CANDIDATES_MAX {
        return Err(malformed("candidates", "more than can be asked for"));
    }
    for (at, candidate) in candidates.iter().enumerate() {
        let path = format!("candidates[{at}]");
        let mut calls = choices.iter().map(|(_, choice)| calls_of(&choice.parts)).sum();
        let candidate = Candidate::read(candidate, &path, &id, &mut calls)?;
        let reason = candidate.reason.ok_or_else(|| malformed(join(&path, "finishReason"), "the field is missing"))?;
        let finish = read_finish(&reason, calls_of(&candidate.parts) > 0, &path)?;
        let mut extra = candidate.extra;
        if finish == Finish::ContentFilter {
            // Which of the filters it was has no word elsewhere.
            extra.put("finishReason", fields::raw(&reason));
        }
        choices.push((candidate.index, Choice { parts: candidate.parts, finish, extra }));
    }
    choices.sort_by_key(|(index, _)| *index);
    let mut choices: Vec<Choice> = choices.into_iter().map(|(_, choice)| choice).collect();
    if choices.is_empty() {
        choices.push(blocked(&root)?);
    }
    Ok(Answer { id, model, created_s: None, choices, usage, extra: root })
}

/// No candidate, because the prompt was refused. Without a reason it is no answer.
fn blocked(root: &Object) -> Result<Choice, Refusal> {
    if is_blocked(root)? {
        return Ok(Choice { parts: Vec::new(), finish: Finish::ContentFilter, extra: Object::default() });
    }
    Err(malformed("candidates", "there is none, and no reason for it"))
}

pub fn is_blocked(root: &Object) -> Result<bool, Refusal> {
    let Some(feedback) = root.get("promptFeedback") else { return Ok(false) };
    Ok(fields::object(feedback, "promptFeedback")?.get("blockReason").is_some())
}

fn calls_of(parts: &[Part]) -> usize {
    parts.iter().filter(|part| matches!(part, Part::ToolCall { .. })).count()
}

/// One candidate of an answer, or what one event of a stream says of it.
pub struct Candidate {
    pub index: usize,
    pub parts: Vec<Part>,
    pub reason: Option<String>,
    /// Ratings, citations, what was searched: what no other protocol has.
    pub extra: Object,
}

impl Candidate {
    /// `calls` counts those of the answer so far: calls without an id get one that is theirs alone in a conversation.
    pub fn read(raw: &Raw, path: &str, answer_id: &str, calls: &mut usize) -> Result<Self, Refusal> {
        let mut candidate = fields::object(raw, path)?;
        let index = fields::optional(&mut candidate, path, "index")?.unwrap_or(0);
        let reason = fields::optional(&mut candidate, path, "finishReason")?;
        let mut content: Object = fields::optional(&mut candidate, path, "content")?.unwrap_or_default();
        let path = join(path, "content.parts");
        let raws: Vec<Raw> = fields::optional(&mut content, &path, "parts")?.unwrap_or_default();
        let mut parts = Vec::with_capacity(raws.len());
        for (at, raw) in raws.iter().enumerate() {
            let read = parts::read(raw, &format!("{path}[{at}]"), || format!("call_{answer_id}_{calls}"))?;
            *calls += calls_of(&read);
            parts.extend(read);
        }
        Ok(Self { index, parts, reason, extra: candidate })
    }
}

/// A call that the provider itself calls malformed is no answer that anybody can use.
pub fn read_finish(reason: &str, has_calls: bool, path: &str) -> Result<Finish, Refusal> {
    Ok(match reason {
        "STOP" if has_calls => Finish::ToolCalls,
        "STOP" => Finish::Stop,
        "MAX_TOKENS" => Finish::Length,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => Finish::ContentFilter,
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "MISSING_THOUGHT_SIGNATURE"
        | "TOO_MANY_TOOL_CALLS"
        | "MALFORMED_RESPONSE" => {
            return Err(malformed(join(path, "finishReason"), reason));
        }
        other => Finish::Other(other.to_owned()),
    })
}
