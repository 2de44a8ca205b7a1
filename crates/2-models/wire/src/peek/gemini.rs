//! Gemini's request, which spells its fields in two ways and puts what others have on top into `generationConfig`.

use crate::{Peek, Refusal, scan::Cursor};

pub(super) fn field(peek: &mut Peek, inline: &mut u64, cursor: &mut Cursor<'_>, name: &str) -> Result<(), Refusal> {
    match name {
        "contents" if cursor.next() == b'[' => cursor.array(|cursor| content(peek, inline, cursor)),
        "contents" | "systemInstruction" | "system_instruction" if cursor.next() == b'{' => {
            content(peek, inline, cursor)
        }
        "tools" if cursor.next() == b'[' => cursor.array(|cursor| {
            cursor.object(|cursor, name| {
                let some = cursor.some()?;
                match name {
                    "functionDeclarations" | "function_declarations" => peek.needs.tools |= some,
                    _ => peek.needs.hosted_tools = true,
                }
                Ok(())
            })
        }),
        "generationConfig" | "generation_config" if cursor.next() == b'{' => {
            let open = cursor.at() + 1;
            let mut fields = 0;
            cursor.object(|cursor, name| {
                fields += 1;
                config(peek, cursor, name)
            })?;
            peek.spans.config = Some((open, fields == 0));
            Ok(())
        }
        "cachedContent" | "cached_content" => {
            peek.needs.stored_input |= cursor.some()?;
            Ok(())
        }
        _ => cursor.pass(),
    }
}

fn config(peek: &mut Peek, cursor: &mut Cursor<'_>, name: &str) -> Result<(), Refusal> {
    match name {
        "maxOutputTokens" | "max_output_tokens" => peek.limit(cursor, name)?,
        "candidateCount" | "candidate_count" => peek.choices = cursor.count(name)?.0.unwrap_or(1).max(1),
        "responseSchema" | "response_schema" | "responseJsonSchema" | "response_json_schema" => {
            peek.needs.json_schema |= cursor.some()?;
        }
        "responseMimeType" | "response_mime_type" => {
            if let Some(kind) = cursor.string_or_skip()? {
                peek.needs.json_object |= kind.decode()? == "application/json";
            }
        }
        "thinkingConfig" | "thinking_config" => peek.needs.thinking |= cursor.some()?,
        "responseLogprobs" | "response_logprobs" => peek.needs.logprobs |= cursor.some()?,
        "speechConfig" | "speech_config" => peek.needs.audio |= cursor.some()?,
        _ => cursor.pass()?,
    }
    Ok(())
}

fn content(peek: &mut Peek, inline: &mut u64, cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
    cursor.object(|cursor, name| {
        if name != "parts" || cursor.next() != b'[' {
            return cursor.pass();
        }
        cursor.array(|cursor| {
            cursor.object(|cursor, name| match name {
                "inlineData" | "inline_data" if cursor.next() == b'{' => blob(peek, inline, cursor),
                "fileData" | "file_data" => {
                    peek.needs.files = true;
                    peek.needs.stored_input |= cursor.some()?;
                    Ok(())
                }
                _ => cursor.pass(),
            })
        })
    })
}

fn blob(peek: &mut Peek, inline: &mut u64, cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
    let mut bytes = 0;
    let mut media = String::new();
    cursor.object(|cursor, name| {
        match name {
            "mimeType" | "mime_type" => {
                if let Some(text) = cursor.string_or_skip()? {
                    media = text.decode()?.into_owned();
                }
            }
            "data" => bytes = cursor.string_or_skip()?.map_or(0, |text| text.inner().len() as u64),
            _ => cursor.pass()?,
        }
        Ok(())
    })?;
    if media.starts_with("image/") {
        peek.images += 1;
        *inline += bytes;
    } else if media.starts_with("audio/") {
        peek.needs.audio = true;
    } else {
        peek.needs.files = true;
    }
    Ok(())
}
