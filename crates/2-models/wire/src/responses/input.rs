//! The items of `input`. They are smaller than turns: what a model said at once (thoughts, a message, calls) comes as several
//! and becomes one turn again.
//!
//! `id` and `status` of an item are left out: the first is a name in the provider's memory, and the second says that the item
//! is whole, which is why it is here.

use crate::{
    Ask, Object, Part, Raw, Refusal, Role, Turn,
    chat::read_image,
    fields::{self, Content, join, malformed, optional, required},
};

pub fn read_input(ask: &mut Ask, input: Raw) -> Result<(), Refusal> {
    match fields::content(&input, "input")? {
        Content::Text(text) => {
            ask.turns.push(Turn { role: Role::User, parts: vec![Part::text(text)], extra: Object::default() });
        }
        Content::Blocks(items) => {
            for (at, item) in items.iter().enumerate() {
                let turn = read_item(item, &format!("input[{at}]"))?;
                push(ask, turn);
            }
        }
    }
    Ok(())
}

fn push(ask: &mut Ask, turn: Turn) {
    let plain = turn.extra.is_empty();
    match ask.turns.last_mut() {
        None if turn.role == Role::System && plain => ask.system.extend(turn.parts),
        Some(last) if last.role == turn.role && matches!(turn.role, Role::Assistant | Role::Tool) && plain => {
            last.parts.extend(turn.parts);
        }
        _ => ask.turns.push(turn),
    }
}

fn read_item(raw: &Raw, path: &str) -> Result<Turn, Refusal> {
    let mut item = fields::object(raw, path)?;
    item.take("id");
    item.take("status");
    let kind: Option<String> = optional(&mut item, path, "type")?;
    let (role, parts) = match kind.as_deref() {
        None | Some("message") => read_message(&mut item, path)?,
        Some("function_call") => {
            let call = Part::ToolCall {
                id: required(&mut item, path, "call_id")?,
                name: required(&mut item, path, "name")?,
                arguments: required(&mut item, path, "arguments")?,
                extra: std::mem::take(&mut item),
            };
            (Role::Assistant, vec![call])
        }
        Some("function_call_output") => {
            let call = required(&mut item, path, "call_id")?;
            let parts = read_content(&required::<Raw>(&mut item, path, "output")?, &join(path, "output"))?;
            let extra = std::mem::take(&mut item);
            (Role::Tool, vec![Part::ToolResult { call, parts, is_error: false, cache: None, extra }])
        }
        Some("reasoning") => (Role::Assistant, vec![read_thoughts(&mut item, path)?]),
        Some(other) => {
            let reason = "items of this kind need a provider of this protocol; the chosen one is translated for";
            return Err(malformed(format!("{path}.type: {other}"), reason));
        }
    };
    Ok(Turn { role, parts, extra: item })
}

fn read_message(item: &mut Object, path: &str) -> Result<(Role, Vec<Part>), Refusal> {
    let role = match required::<String>(item, path, "role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        other => return Err(malformed(join(path, "role"), format!("unknown role '{other}'"))),
    };
    let content: Raw = required(item, path, "content")?;
    Ok((role, read_content(&content, &join(path, "content"))?))
}

fn read_content(raw: &Raw, path: &str) -> Result<Vec<Part>, Refusal> {
    match fields::content(raw, path)? {
        Content::Text(text) => Ok(vec![Part::text(text)]),
        Content::Blocks(blocks) => {
            blocks.iter().enumerate().map(|(at, block)| read_part(block, &format!("{path}[{at}]"))).collect()
        }
    }
}

fn read_part(raw: &Raw, path: &str) -> Result<Part, Refusal> {
    let mut part = fields::object(raw, path)?;
    match required::<String>(&mut part, path, "type")?.as_str() {
        "input_text" | "output_text" | "text" => {
            let text = required(&mut part, path, "text")?;
            // Written by every server, and mostly empty.
            for name in ["annotations", "logprobs"] {
                if part.get(name).is_some_and(|value| matches!(value.get(), "[]" | "null")) {
                    part.take(name);
                }
            }
            Ok(Part::Text { text, cache: None, extra: part })
        }
        "refusal" => Ok(Part::Refusal { text: required(&mut part, path, "refusal")? }),
        "input_image" => match optional::<String>(&mut part, path, "image_url")? {
            Some(url) => Ok(Part::Image { source: read_image(url), cache: None, extra: part }),
            None => Err(malformed(join(path, "file_id"), "the image lies with a provider that is not asked")),
        },
        other => Ok(Part::Other { kind: other.to_owned(), raw: raw.clone() }),
    }
}

/// Thoughts as [`super::items`] writes them: the signature of another protocol is their encrypted content.
fn read_thoughts(item: &mut Object, path: &str) -> Result<Part, Refusal> {
    let mut text = String::new();
    for name in ["summary", "content"] {
        let pieces: Vec<Raw> = optional(item, path, name)?.unwrap_or_default();
        for (at, piece) in pieces.iter().enumerate() {
            let path = format!("{path}.{name}[{at}]");
            let mut piece = fields::object(piece, &path)?;
            piece.take("type");
            text.push_str(&required::<String>(&mut piece, &path, "text")?);
        }
    }
    let sealed: Option<String> = optional(item, path, "encrypted_content")?;
    Ok(match sealed {
        Some(data) if text.is_empty() => Part::HiddenThinking { data },
        signature => Part::Thinking { text, signature },
    })
}
