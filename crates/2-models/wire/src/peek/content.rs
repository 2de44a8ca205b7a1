//! Turns, their parts and the tools, as far as [`super::peek`] needs them: what is an image, whose data becomes no text.

use crate::{Needs, Peek, Refusal, scan::Cursor};

/// Tools that a client runs itself, by the beginning of their `type`. Any other type that is not a function is the
/// provider's, which bills it.
const CLIENT_TOOLS: &[&str] =
    &["function", "custom", "bash", "text_editor", "computer", "memory", "local_shell", "apply_patch"];

pub(super) fn tools(needs: &mut Needs, cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
    if cursor.next() != b'[' {
        return cursor.pass();
    }
    cursor.array(|cursor| {
        needs.tools = true;
        if cursor.next() != b'{' {
            return cursor.pass();
        }
        cursor.object(|cursor, name| {
            if name != "type" {
                return cursor.pass();
            }
            if let Some(kind) = cursor.string_or_skip()? {
                let kind = kind.decode()?;
                needs.hosted_tools |= !CLIENT_TOOLS.iter().any(|known| kind.starts_with(known));
            }
            Ok(())
        })
    })
}

/// `messages` or `input`: a string, or turns and items.
pub(super) fn turns(peek: &mut Peek, inline: &mut u64, cursor: &mut Cursor<'_>, field: &str) -> Result<(), Refusal> {
    match cursor.next() {
        b'[' => cursor.array(|cursor| match cursor.next() {
            b'{' => part(peek, inline, cursor),
            _ => Err(Refusal::malformed(field, "an element is no object")),
        }),
        b'"' if field == "input" => cursor.pass(),
        b'n' => cursor.pass(),
        _ => Err(Refusal::malformed(field, "not an array")),
    }
}

/// What a part says of itself, whatever the order of its fields.
#[derive(Default)]
struct Part {
    kind: Kind,
    /// Bytes of an image's data in the body.
    data: u64,
    stored: bool,
}

#[derive(Default, PartialEq)]
enum Kind {
    #[default]
    Other,
    Image,
    Audio,
    File,
    Reference,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name {
            // `computer_screenshot` is how the output of a computer call shows the screen.
            "image_url" | "input_image" | "image" | "computer_screenshot" => Kind::Image,
            "input_audio" => Kind::Audio,
            "file" | "input_file" | "document" | "container_upload" => Kind::File,
            "item_reference" => Kind::Reference,
            _ => Kind::Other,
        }
    }
}

/// A turn, an item or a part of one: all of them nest through `content` or `output`.
fn part(peek: &mut Peek, inline: &mut u64, cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
    let mut part = Part::default();
    cursor.object(|cursor, name| match name {
        "type" => {
            if let Some(kind) = cursor.string_or_skip()? {
                part.kind = Kind::of(&kind.decode()?);
            }
            Ok(())
        }
        "content" | "output" => nested(peek, inline, cursor),
        "image_url" | "source" | "file" => source(&mut part, cursor),
        "file_id" => {
            part.stored |= cursor.some()?;
            Ok(())
        }
        _ => cursor.pass(),
    })?;
    match part.kind {
        Kind::Image => {
            peek.images += 1;
            *inline += part.data;
        }
        Kind::Audio => peek.needs.audio = true,
        Kind::File => peek.needs.files = true,
        Kind::Reference => part.stored = true,
        Kind::Other => {}
    }
    peek.needs.stored_input |= part.stored;
    Ok(())
}

fn nested(peek: &mut Peek, inline: &mut u64, cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
    match cursor.next() {
        b'[' => cursor.array(|cursor| match cursor.next() {
            b'{' => part(peek, inline, cursor),
            _ => cursor.pass(),
        }),
        b'{' => part(peek, inline, cursor),
        _ => cursor.pass(),
    }
}

/// Where the bytes of a part come from: a URL, or an object with `url`, `data` or `file_id`.
fn source(part: &mut Part, cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
    let data = |text: &str| if text.starts_with("data:") { text.len() as u64 } else { 0 };
    match cursor.next() {
        b'"' => part.data = data(cursor.string()?.inner()),
        b'{' => cursor.object(|cursor, name| {
            match name {
                "url" => part.data += cursor.string_or_skip()?.map_or(0, |text| data(text.inner())),
                "data" => part.data += cursor.string_or_skip()?.map_or(0, |text| text.inner().len() as u64),
                "file_id" => part.stored |= cursor.some()?,
                _ => cursor.pass()?,
            }
            Ok(())
        })?,
        _ => cursor.pass()?,
    }
    Ok(())
}

/// The input of embeddings: a text, texts, tokens, or lists of tokens. Tells how many inputs there are.
pub(super) fn inputs(cursor: &mut Cursor<'_>, tokens: &mut u64) -> Result<u64, Refusal> {
    let mut inputs = 0;
    let mut numbers = 0_u64;
    match cursor.next() {
        b'"' => {
            cursor.string()?;
            return Ok(1);
        }
        b'[' => cursor.array(|cursor| {
            match cursor.next() {
                b'[' => {
                    inputs += 1;
                    cursor.array(|cursor| {
                        numbers += 1;
                        cursor.pass()
                    })?;
                }
                b'0'..=b'9' => {
                    numbers += 1;
                    cursor.skip()?;
                }
                _ => {
                    inputs += 1;
                    cursor.skip()?;
                }
            }
            Ok(())
        })?,
        _ => return Err(Refusal::malformed("input", "neither a text nor a list")),
    }
    *tokens += numbers;
    if inputs == 0 && numbers == 0 {
        return Err(Refusal::malformed("input", "the input is empty"));
    }
    Ok(inputs.max(1))
}
