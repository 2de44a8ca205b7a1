//! The same for a stream. Text is held until its choice has ended, thoughts and figures pass.

use super::{
    Emulation,
    recover::{Found, call_id},
};
use crate::{
    Delta, Object, Refusal,
    fields::{self, malformed},
};

/// Text that is held of one stream. The longest answers of today's models have half of it.
const HELD_MAX: usize = 4 << 20;
/// Choices of one stream; OpenAI allows 128.
const CHOICES_MAX: usize = 128;

#[derive(Debug)]
pub struct Stream {
    emulation: Emulation,
    id: String,
    /// By choice.
    held: Vec<String>,
    bytes: usize,
}

impl Stream {
    pub(super) fn new(emulation: Emulation) -> Self {
        Self { emulation, id: String::new(), held: Vec::new(), bytes: 0 }
    }

    pub fn delta(&mut self, delta: Delta) -> Result<Vec<Delta>, Refusal> {
        match delta {
            Delta::Begin { ref id, .. } => {
                self.id.clone_from(id);
                let mut mark = Object::default();
                mark.put("emulated", fields::raw(&self.emulation.what()));
                Ok(vec![delta, Delta::Extra(mark)])
            }
            Delta::Text { choice, text } => {
                self.bytes = self.bytes.saturating_add(text.len());
                if self.bytes > HELD_MAX || choice >= CHOICES_MAX {
                    return Err(malformed("answer", format!("longer than the {HELD_MAX} bytes that can be checked")));
                }
                if self.held.len() <= choice {
                    self.held.resize(choice + 1, String::new());
                }
                if let Some(held) = self.held.get_mut(choice) {
                    held.push_str(&text);
                }
                Ok(Vec::new())
            }
            Delta::Finish { choice, finish } => {
                let text = self.held.get_mut(choice).map(std::mem::take).unwrap_or_default();
                Ok(match self.emulation.read(&text, &finish)? {
                    Some(Found::Text(text)) => vec![Delta::Text { choice, text }, Delta::Finish { choice, finish }],
                    Some(Found::Call { name, arguments }) => {
                        let id = call_id(&self.id, choice);
                        vec![
                            Delta::ToolBegin { choice, call: 0, id, name },
                            Delta::ToolArguments { choice, call: 0, json: arguments },
                            Delta::Finish { choice, finish: crate::Finish::ToolCalls },
                        ]
                    }
                    None => vec![Delta::Finish { choice, finish }],
                })
            }
            other => Ok(vec![other]),
        }
    }
}
