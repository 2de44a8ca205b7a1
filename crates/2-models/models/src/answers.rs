//! Whole answers: judged, brought into the client's protocol, and told as a stream where the client waits for one.

use agentos_wire::{
    Answer, Delta, Object, Part, Protocol, Refusal, Seen, StreamWriter, Tap, read_answer, write_answer,
};
use bytes::Bytes;

use crate::{Operation, prepare::Translation};

/// An answer that was read to its end.
pub(crate) enum Judged {
    Sound,
    /// An error inside of a 200, or nothing that the protocol knows.
    Unsound,
}

pub(crate) fn judge(operation: Operation, tap: &mut Tap, body: &[u8]) -> Judged {
    if operation == Operation::CountTokens {
        let is_count = Object::parse(body).is_ok_and(|object| object.get("input_tokens").is_some());
        return if is_count { Judged::Sound } else { Judged::Unsound };
    }
    match tap.whole(body) {
        Seen::Terminal => Judged::Sound,
        _ => Judged::Unsound,
    }
}

/// The answer in the client's protocol, as a whole.
pub(crate) fn translated(
    from: Protocol,
    client: Protocol,
    body: &[u8],
    translation: &Translation,
) -> Result<Bytes, Refusal> {
    let answer = read(from, body, translation)?;
    write_answer(client, &answer, &translation.ask).map(Bytes::from)
}

/// The answer as the events that a stream of it would have had.
pub(crate) fn streamed(
    from: Protocol,
    client: Protocol,
    body: &[u8],
    translation: &Translation,
) -> Result<Bytes, Refusal> {
    let answer = read(from, body, translation)?;
    let mut writer = StreamWriter::new(client, &translation.ask);
    let mut events = Vec::with_capacity(body.len() * 2);
    for delta in deltas(answer)? {
        events.extend_from_slice(&writer.delta(&delta));
    }
    Ok(events.into())
}

fn read(from: Protocol, body: &[u8], translation: &Translation) -> Result<Answer, Refusal> {
    let answer = read_answer(from, body)?;
    match &translation.emulation {
        Some(emulation) => emulation.answer(answer),
        None => Ok(answer),
    }
}

fn deltas(answer: Answer) -> Result<Vec<Delta>, Refusal> {
    let Answer { id, model, created_s, choices, usage, mut extra } = answer;
    let mut deltas = vec![Delta::Begin { id, model, created_s }];
    for (choice, told) in choices.into_iter().enumerate() {
        let mut call = 0;
        for part in told.parts {
            match part {
                Part::Text { text, extra: more, .. } => {
                    keep(&mut extra, &more);
                    deltas.push(Delta::Text { choice, text });
                }
                Part::Thinking { text, signature } => {
                    deltas.push(Delta::Thinking { choice, text });
                    deltas.extend(signature.map(|signature| Delta::Signature { choice, signature }));
                }
                Part::HiddenThinking { data } => deltas.push(Delta::HiddenThinking { choice, data }),
                Part::Refusal { text } => deltas.push(Delta::Refusal { choice, text }),
                Part::ToolCall { id, name, arguments, extra: more } => {
                    keep(&mut extra, &more);
                    deltas.push(Delta::ToolBegin { choice, call, id, name });
                    deltas.push(Delta::ToolArguments { choice, call, json: arguments });
                    call += 1;
                }
                Part::Image { .. } | Part::ToolResult { .. } | Part::Other { .. } => {
                    return Err(Refusal::malformed("answer", "holds a part that no stream can tell"));
                }
            }
        }
        keep(&mut extra, &told.extra);
        deltas.push(Delta::Finish { choice, finish: told.finish });
    }
    if !extra.is_empty() {
        deltas.push(Delta::Extra(extra));
    }
    deltas.extend(usage.map(Delta::Usage));
    deltas.push(Delta::End);
    Ok(deltas)
}

fn keep(extra: &mut Object, more: &Object) {
    for (name, value) in more.iter() {
        extra.put(name, value.to_owned());
    }
}
