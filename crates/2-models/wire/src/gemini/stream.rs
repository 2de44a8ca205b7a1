//! Reads a stream: each event is a small answer, and no event says that it is the last.

use super::{
    answer::{CANDIDATES_MAX, Candidate, is_blocked, read_finish},
    usage::Figures,
};
use crate::{
    Delta, Finish, Object, Part, Raw, Refusal,
    fields::{self, malformed},
};

#[derive(Debug, Default)]
pub struct Reader {
    begun: bool,
    id: String,
    /// Calls of the whole answer, which their ids count.
    calls: usize,
    candidates: Vec<Seen>,
    blocked: bool,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    calls: usize,
    ended: bool,
}

impl Reader {
    pub fn event(&mut self, data: &[u8]) -> Result<Vec<Delta>, Refusal> {
        if data.is_empty() {
            return Ok(Vec::new());
        }
        let mut event = Object::parse(data).map_err(|error| malformed("event", error))?;
        if let Some(error) = event.get("error") {
            return Err(malformed("error", error.get()));
        }
        let mut deltas = self.begin(&mut event)?;
        let usage = fields::optional::<Figures>(&mut event, "event", "usageMetadata")?;
        let candidates: Vec<Raw> = fields::optional(&mut event, "event", "candidates")?.unwrap_or_default();
        for (at, candidate) in candidates.iter().enumerate() {
            self.candidate(candidate, &format!("candidates[{at}]"), &mut deltas)?;
        }
        if is_blocked(&event)? && !std::mem::replace(&mut self.blocked, true) {
            deltas.push(Delta::Finish { choice: 0, finish: Finish::ContentFilter });
        }
        deltas.extend(usage.map(|figures| Delta::Usage(figures.usage())));
        if !event.is_empty() {
            deltas.push(Delta::Extra(event));
        }
        Ok(deltas)
    }

    /// The connection has ended: well, if every candidate had.
    pub fn end(&mut self) -> Result<Vec<Delta>, Refusal> {
        let over = !self.candidates.is_empty() && self.candidates.iter().all(|seen| seen.ended);
        if self.blocked || over {
            return Ok(vec![Delta::End]);
        }
        Err(malformed("stream", "it ended before a reason to end"))
    }

    fn begin(&mut self, event: &mut Object) -> Result<Vec<Delta>, Refusal> {
        let id: Option<String> = fields::optional(event, "event", "responseId")?;
        let model: Option<String> = fields::optional(event, "event", "modelVersion")?;
        if std::mem::replace(&mut self.begun, true) {
            return Ok(Vec::new());
        }
        self.id = id.unwrap_or_default();
        Ok(vec![Delta::Begin { id: self.id.clone(), model: model.unwrap_or_default(), created_s: None }])
    }

    fn candidate(&mut self, raw: &Raw, path: &str, deltas: &mut Vec<Delta>) -> Result<(), Refusal> {
        let mut calls = self.calls;
        let candidate = Candidate::read(raw, path, &self.id, &mut calls)?;
        self.calls = calls;
        let choice = candidate.index;
        if choice >= CANDIDATES_MAX {
            return Err(malformed(path, "more candidates than can be asked for"));
        }
        if self.candidates.len() <= choice {
            self.candidates.resize(choice + 1, Seen::default());
        }
        let Some(seen) = self.candidates.get_mut(choice) else { return Ok(()) };
        if seen.ended && !candidate.parts.is_empty() {
            return Err(malformed(path, "the candidate goes on behind its end"));
        }
        for part in candidate.parts {
            push(deltas, choice, &mut seen.calls, part);
        }
        if let Some(reason) = candidate.reason.filter(|_| !seen.ended) {
            seen.ended = true;
            let finish = read_finish(&reason, seen.calls > 0, path)?;
            if finish == Finish::ContentFilter {
                // Which of the filters it was has no word elsewhere.
                let mut extra = Object::default();
                extra.put("finishReason", fields::raw(&reason));
                deltas.push(Delta::Extra(extra));
            }
            deltas.push(Delta::Finish { choice, finish });
        }
        if !candidate.extra.is_empty() {
            deltas.push(Delta::Extra(candidate.extra));
        }
        Ok(())
    }
}

fn push(deltas: &mut Vec<Delta>, choice: usize, calls: &mut usize, part: Part) {
    match part {
        Part::Text { text, extra, .. } => {
            deltas.push(Delta::Text { choice, text });
            if !extra.is_empty() {
                deltas.push(Delta::Extra(extra));
            }
        }
        Part::Thinking { text, signature } => {
            if !text.is_empty() {
                deltas.push(Delta::Thinking { choice, text });
            }
            deltas.extend(signature.map(|signature| Delta::Signature { choice, signature }));
        }
        Part::ToolCall { id, name, arguments, extra } => {
            let call = *calls;
            *calls += 1;
            deltas.push(Delta::ToolBegin { choice, call, id, name });
            deltas.push(Delta::ToolArguments { choice, call, json: arguments });
            if !extra.is_empty() {
                deltas.push(Delta::Extra(extra));
            }
        }
        // Images and what is new: no client's stream has a place for them but this one.
        other => deltas.push(Delta::Extra(super::part_as_extra(other))),
    }
}
