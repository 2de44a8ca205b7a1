//! A streamed answer put together again: what its deltas come to, for readers who want the whole.

use crate::{Answer, Choice, Delta, Finish, Object, Part, Refusal, fields::malformed};

/// Bytes of text, thoughts and arguments of one answer. The largest outputs of today's models have about half a megabyte.
const BYTES_MAX: usize = 16 << 20;
/// Choices of one answer; providers allow 128.
const CHOICES_MAX: usize = 128;

#[derive(Debug, Default)]
pub struct Gather {
    answer: Answer,
    choices: Vec<Open>,
    bytes: usize,
    is_whole: bool,
}

#[derive(Debug, Default)]
struct Open {
    parts: Vec<Part>,
    /// Where each call of a tool stands among the parts.
    calls: Vec<usize>,
    finish: Option<Finish>,
}

impl Gather {
    pub fn delta(&mut self, delta: Delta) -> Result<(), Refusal> {
        match delta {
            Delta::Begin { id, model, created_s } => {
                (self.answer.id, self.answer.model, self.answer.created_s) = (id, model, created_s);
            }
            Delta::Usage(usage) => self.answer.usage = Some(usage),
            Delta::Extra(extra) => {
                for (name, value) in extra.iter() {
                    self.answer.extra.put(name, value.to_owned());
                }
            }
            Delta::End => self.is_whole = true,
            of_choice => return self.part(of_choice),
        }
        Ok(())
    }

    /// The answer, if the stream has said that it is whole.
    pub fn end(self) -> Result<Answer, Refusal> {
        if !self.is_whole {
            return Err(malformed("stream", "it ended before its end"));
        }
        let close = |open: Open| Choice {
            parts: open.parts,
            finish: open.finish.unwrap_or(Finish::Stop),
            extra: Object::default(),
        };
        Ok(Answer { choices: self.choices.into_iter().map(close).collect(), ..self.answer })
    }

    fn part(&mut self, delta: Delta) -> Result<(), Refusal> {
        let choice = delta.choice().filter(|choice| *choice < CHOICES_MAX);
        let choice = choice.ok_or_else(|| malformed("choices", format!("more than {CHOICES_MAX}")))?;
        while self.choices.len() <= choice {
            self.choices.push(Open::default());
        }
        let open = self.choices.get_mut(choice).ok_or_else(|| malformed("choices", "one is missing"))?;
        self.bytes = self.bytes.saturating_add(size(&delta));
        if self.bytes > BYTES_MAX {
            return Err(malformed("stream", format!("its answer is larger than {BYTES_MAX} bytes")));
        }
        open.take(delta)
    }
}

impl Open {
    fn take(&mut self, delta: Delta) -> Result<(), Refusal> {
        match delta {
            Delta::Text { text, .. } => match self.parts.last_mut() {
                Some(Part::Text { text: known, .. }) => known.push_str(&text),
                _ => self.parts.push(Part::text(text)),
            },
            Delta::Thinking { text, .. } => match self.parts.last_mut() {
                Some(Part::Thinking { text: known, signature: None }) => known.push_str(&text),
                _ => self.parts.push(Part::Thinking { text, signature: None }),
            },
            Delta::Signature { signature, .. } => match self.parts.last_mut() {
                Some(Part::Thinking { signature: known @ None, .. }) => *known = Some(signature),
                _ => self.parts.push(Part::Thinking { text: String::new(), signature: Some(signature) }),
            },
            Delta::HiddenThinking { data, .. } => self.parts.push(Part::HiddenThinking { data }),
            Delta::Refusal { text, .. } => match self.parts.last_mut() {
                Some(Part::Refusal { text: known }) => known.push_str(&text),
                _ => self.parts.push(Part::Refusal { text }),
            },
            Delta::ToolBegin { id, name, .. } => {
                self.calls.push(self.parts.len());
                self.parts.push(Part::ToolCall { id, name, arguments: String::new(), extra: Object::default() });
            }
            Delta::ToolArguments { call, json, .. } => {
                let part = self.calls.get(call).and_then(|at| self.parts.get_mut(*at));
                let Some(Part::ToolCall { arguments, .. }) = part else {
                    return Err(malformed("tool_calls", "arguments of a call that has not begun"));
                };
                arguments.push_str(&json);
            }
            Delta::Finish { finish, .. } => self.finish = Some(finish),
            Delta::Begin { .. } | Delta::Usage(_) | Delta::Extra(_) | Delta::End => {}
        }
        Ok(())
    }
}

fn size(delta: &Delta) -> usize {
    match delta {
        Delta::Text { text, .. } | Delta::Thinking { text, .. } | Delta::Refusal { text, .. } => text.len(),
        Delta::Signature { signature: text, .. } | Delta::HiddenThinking { data: text, .. } => text.len(),
        Delta::ToolArguments { json: text, .. } | Delta::ToolBegin { name: text, .. } => text.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ask, Protocol, Usage, write_answer};

    fn text(choice: usize, text: &str) -> Delta {
        Delta::Text { choice, text: text.into() }
    }

    fn gathered(deltas: Vec<Delta>) -> Result<String, Refusal> {
        let mut gather = Gather::default();
        for delta in deltas {
            gather.delta(delta)?;
        }
        let bytes = write_answer(Protocol::Messages, &gather.end()?, &Ask::default())?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn pieces_become_the_parts_that_they_were_cut_from() {
        let begin = Delta::Begin { id: "m".into(), model: "x".into(), created_s: None };
        let written = gathered(vec![
            begin,
            Delta::Thinking { choice: 0, text: "h".into() },
            Delta::Thinking { choice: 0, text: "m".into() },
            Delta::Signature { choice: 0, signature: "s".into() },
            text(0, "Hel"),
            text(0, "lo"),
            Delta::ToolBegin { choice: 0, call: 0, id: "c0".into(), name: "f".into() },
            Delta::ToolBegin { choice: 0, call: 1, id: "c1".into(), name: "g".into() },
            Delta::ToolArguments { choice: 0, call: 0, json: "{\"a\"".into() },
            Delta::ToolArguments { choice: 0, call: 1, json: "{}".into() },
            Delta::ToolArguments { choice: 0, call: 0, json: ":1}".into() },
            Delta::Finish { choice: 0, finish: Finish::ToolCalls },
            Delta::Usage(Usage { input: 3, output: 4, ..Usage::default() }),
            Delta::End,
        ])
        .unwrap();
        for part in [r#""thinking":"hm""#, r#""signature":"s""#, r#""text":"Hello""#, r#"{"a":1}"#, r#""tool_use""#] {
            assert!(written.contains(part), "{part} is missing in {written}");
        }
    }

    #[test]
    fn what_has_no_end_or_no_beginning_is_no_answer() {
        assert!(gathered(vec![text(0, "a")]).is_err());
        assert!(gathered(vec![Delta::ToolArguments { choice: 0, call: 0, json: "{}".into() }, Delta::End]).is_err());
        assert!(gathered(vec![text(CHOICES_MAX, "a"), Delta::End]).is_err());
        assert!(gathered(vec![text(0, &"a".repeat(BYTES_MAX + 1)), Delta::End]).is_err());
    }
}
