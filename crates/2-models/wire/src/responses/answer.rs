//! Writes a whole answer.

use super::items::{self, Head, State, status};
use crate::{
    Answer, Ask, Object, Part, Raw, Refusal,
    fields::{self, Build, malformed},
};

/// Refuses what the protocol cannot hold: several choices.
pub fn write_answer(answer: &Answer, ask: &Ask) -> Result<Vec<u8>, Refusal> {
    let [choice] = answer.choices.as_slice() else {
        return Err(malformed("choices", format!("one answer was asked for, {} came", answer.choices.len())));
    };
    let head = Head::new(&answer.id, &answer.model, answer.created_s, ask);
    let mut output = Output { head: &head, items: Vec::new(), message: Vec::new(), notes: Object::default() };
    for (at, part) in choice.parts.iter().enumerate() {
        output.part(at, part)?;
    }
    output.close();
    let Output { items, mut notes, .. } = output;
    for (name, value) in answer.extra.iter().chain(choice.extra.iter()) {
        notes.put(name, value.to_owned());
    }
    let (status, incomplete, unsaid) = status(&choice.finish);
    if let Some(unsaid) = unsaid {
        notes.put("finish", fields::raw(&unsaid));
    }
    let error = (status == "failed")
        .then(|| Build::new().with("code", "server_error").with("message", "the answer broke off").object());
    let state = State { status, incomplete, error, output: &items, usage: answer.usage, extra: Some(&notes) };
    Ok(fields::raw(&head.response(&state)).get().as_bytes().to_vec())
}

struct Output<'a> {
    head: &'a Head,
    items: Vec<Raw>,
    /// Parts of the message that is open.
    message: Vec<Raw>,
    notes: Object,
}

impl Output<'_> {
    fn close(&mut self) {
        if !self.message.is_empty() {
            let id = self.head.item("msg", self.items.len());
            let parts = std::mem::take(&mut self.message);
            self.items.push(items::message(&id, "completed", &parts).raw());
        }
    }

    fn part(&mut self, at: usize, part: &Part) -> Result<(), Refusal> {
        match part {
            Part::Text { text, extra, .. } => {
                self.message.push(items::text(text).raw());
                self.note(at, extra);
                return Ok(());
            }
            Part::Refusal { text } => {
                self.message.push(items::refusal(text).raw());
                return Ok(());
            }
            _ => self.close(),
        }
        let here = self.items.len();
        match part {
            Part::Thinking { text, signature } => {
                self.items.push(items::thoughts(&self.head.item("rs", here), text, signature.as_deref()).raw());
            }
            Part::HiddenThinking { data } => {
                self.items.push(items::thoughts(&self.head.item("rs", here), "", Some(data)).raw());
            }
            Part::ToolCall { id, name, arguments, extra } => {
                self.items.push(items::call(&self.head.item("fc", here), "completed", id, name, arguments).raw());
                self.note(at, extra);
            }
            Part::Other { kind, raw } => self.notes.put(format!("content[{at}].{kind}"), raw.clone()),
            _ => return Err(malformed(format!("content[{at}]"), "no part of an answer")),
        }
        Ok(())
    }

    fn note(&mut self, at: usize, extra: &Object) {
        for (name, value) in extra.iter() {
            self.notes.put(format!("content[{at}].{name}"), value.to_owned());
        }
    }
}
