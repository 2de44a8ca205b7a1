//! Messages and their parts, the same in requests and answers.

use serde_json::value::RawValue;

use crate::{
    CacheHint, ImageSource, Object, Part, Protocol, Raw, Refusal, Role, Turn,
    fields::{self, Build, Content, join, malformed, only, optional, required},
};

/// The kind under which a call that is no function's is kept, before its own kind.
const OTHER_CALL: &str = "tool_call:";

/// Kinds of parts that only this protocol has and that pass as they are.
const OWN_KINDS: &[&str] = &["input_audio", "file"];

pub fn read_turn(raw: &RawValue, path: &str) -> Result<Turn, Refusal> {
    let mut message = fields::object(raw, path)?;
    let role = match required::<String>(&mut message, path, "role")?.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => return Err(malformed(join(path, "role"), format!("unknown role '{other}'"))),
    };
    if role == Role::Tool {
        let result = Part::ToolResult {
            call: required(&mut message, path, "tool_call_id")?,
            parts: read_content(&mut message, path)?,
            is_error: false,
            cache: read_cache(&mut message, path)?,
            extra: message,
        };
        return Ok(Turn { role, parts: vec![result], extra: Object::default() });
    }
    let parts = read_said(&mut message, path)?;
    Ok(Turn { role, parts, extra: message })
}

/// What a message says, taken out of it: thoughts, content, refusal, calls.
pub fn read_said(message: &mut Object, path: &str) -> Result<Vec<Part>, Refusal> {
    let mut parts = Vec::new();
    // Whose servers think aloud call it one or the other.
    for name in ["reasoning_content", "reasoning"] {
        if message.get(name).is_some_and(|text| text.get().starts_with('"')) {
            let text: String = required(message, path, name)?;
            match parts.first() {
                None if text.is_empty() => {}
                None => parts.push(Part::Thinking { text, signature: None }),
                // Some write both, with the same thoughts.
                Some(Part::Thinking { text: known, .. }) if *known == text || text.is_empty() => {}
                Some(_) => message.put(name, fields::raw(&text)),
            }
        }
    }
    parts.extend(read_content(message, path)?);
    if let Some(text) = optional(message, path, "refusal")? {
        parts.push(Part::Refusal { text });
    }
    let calls: Vec<Raw> = optional(message, path, "tool_calls")?.unwrap_or_default();
    for (at, call) in calls.iter().enumerate() {
        parts.push(read_call(call, &format!("{path}.tool_calls[{at}]"))?);
    }
    Ok(parts)
}

fn read_content(message: &mut Object, path: &str) -> Result<Vec<Part>, Refusal> {
    let path = join(path, "content");
    let Some(content) = message.take("content").filter(|content| content.get() != "null") else {
        return Ok(Vec::new());
    };
    match fields::content(&content, &path)? {
        Content::Text(text) => Ok(vec![Part::text(text)]),
        Content::Blocks(blocks) => {
            blocks.iter().enumerate().map(|(at, block)| read_part(block, &format!("{path}[{at}]"))).collect()
        }
    }
}

fn read_part(raw: &RawValue, path: &str) -> Result<Part, Refusal> {
    let mut part = fields::object(raw, path)?;
    let kind: String = required(&mut part, path, "type")?;
    match kind.as_str() {
        "text" => Ok(Part::Text {
            text: required(&mut part, path, "text")?,
            cache: read_cache(&mut part, path)?,
            extra: part,
        }),
        "refusal" if part.names().eq(["refusal"]) => Ok(Part::Refusal { text: required(&mut part, path, "refusal")? }),
        "image_url" => {
            let mut image: Object = required(&mut part, path, "image_url")?;
            let source = read_image(required(&mut image, &join(path, "image_url"), "url")?);
            let cache = read_cache(&mut part, path)?;
            for (name, value) in image.iter() {
                part.put(name, value.to_owned());
            }
            Ok(Part::Image { source, cache, extra: part })
        }
        _ => Ok(Part::Other { kind, raw: raw.to_owned() }),
    }
}

/// A URL, or the data in it.
pub fn read_image(url: String) -> ImageSource {
    let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    match inline {
        Some((media_type, data)) if !media_type.contains([';', ',']) => {
            ImageSource::Inline { media_type: media_type.to_owned(), data: data.to_owned() }
        }
        _ => ImageSource::Url(url),
    }
}

pub fn write_image(source: &ImageSource) -> String {
    match source {
        ImageSource::Url(url) => url.clone(),
        ImageSource::Inline { media_type, data } => format!("data:{media_type};base64,{data}"),
    }
}

fn read_call(raw: &RawValue, path: &str) -> Result<Part, Refusal> {
    let mut call = fields::object(raw, path)?;
    let kind: String = optional(&mut call, path, "type")?.unwrap_or_else(|| "function".to_owned());
    if kind != "function" {
        return Ok(Part::Other { kind: format!("{OTHER_CALL}{kind}"), raw: raw.to_owned() });
    }
    let mut function: Object = required(&mut call, path, "function")?;
    let inner = join(path, "function");
    let id = optional(&mut call, path, "id")?.unwrap_or_default();
    let name = required(&mut function, &inner, "name")?;
    let arguments = optional(&mut function, &inner, "arguments")?.unwrap_or_default();
    // Where a call stands in its list is told by the list.
    call.take("index");
    if !function.is_empty() {
        call.put("function", fields::raw(&function));
    }
    Ok(Part::ToolCall { id, name, arguments, extra: call })
}

/// Not OpenAI's own, but what routers of other providers take in this protocol.
pub fn read_cache(object: &mut Object, path: &str) -> Result<Option<CacheHint>, Refusal> {
    let path = join(path, "cache_control");
    let Some(raw) = object.take("cache_control").filter(|raw| raw.get() != "null") else { return Ok(None) };
    let mut hint = fields::object(&raw, &path)?;
    let kind: String = required(&mut hint, &path, "type")?;
    let ttl = optional(&mut hint, &path, "ttl")?;
    match (kind.as_str(), hint.names().next()) {
        ("ephemeral", None) => Ok(Some(CacheHint { ttl })),
        (_, Some(name)) => Err(malformed(join(&path, name), "unknown field")),
        _ => Err(malformed(join(&path, "type"), format!("unknown kind '{kind}'"))),
    }
}

/// How parts are written.
#[derive(Clone, Copy)]
pub struct To {
    /// They were read from this protocol, so what is unknown goes back.
    pub own: bool,
    /// Servers that take what OpenAI refuses: cache hints, thoughts.
    pub wide: bool,
}

impl To {
    fn check(self, extra: &Object, known: &[&str], path: &str) -> Result<(), Refusal> {
        if self.own { Ok(()) } else { only(extra, known, path, Protocol::Chat) }
    }

    /// All extras when they are this protocol's own; else the known ones.
    pub fn extra(self, build: Build, extra: &Object, known: &[&str], path: &str) -> Result<Build, Refusal> {
        self.check(extra, known, path)?;
        let names: Vec<&str> = if self.own { extra.names().collect() } else { known.to_vec() };
        Ok(build.extra(extra, &names))
    }

    pub fn cache(self, cache: Option<&CacheHint>) -> Option<Object> {
        let cache = cache.filter(|_| self.own || self.wide)?;
        Some(Build::kind("ephemeral").maybe("ttl", cache.ttl.as_ref()).object())
    }
}

/// A string if it is no more than that, which all servers take; else a list of parts.
pub fn write_content(to: To, parts: &[&Part], path: &str) -> Result<Option<Raw>, Refusal> {
    match parts {
        [] => Ok(None),
        [Part::Text { text, cache, extra }] if extra.is_empty() && to.cache(cache.as_ref()).is_none() => {
            Ok(Some(fields::raw(text)))
        }
        parts => {
            let write = |(at, part): (usize, &&Part)| write_part(to, part, &format!("{path}[{at}]"));
            let parts = parts.iter().enumerate().map(write).collect::<Result<Vec<_>, _>>()?;
            Ok(Some(fields::raw(&parts)))
        }
    }
}

fn write_part(to: To, part: &Part, path: &str) -> Result<Raw, Refusal> {
    match part {
        Part::Text { text, cache, extra } => {
            let part = Build::kind("text").with("text", text).maybe("cache_control", to.cache(cache.as_ref()));
            Ok(to.extra(part, extra, &[], path)?.raw())
        }
        Part::Image { source, cache, extra } => {
            let mut rest = extra.clone();
            let detail = rest.take("detail").filter(|detail| detail.get() != "null");
            let image = Build::new().with("url", &write_image(source)).maybe("detail", detail);
            let part = Build::kind("image_url")
                .with("image_url", &image.object())
                .maybe("cache_control", to.cache(cache.as_ref()));
            Ok(to.extra(part, &rest, &[], path)?.raw())
        }
        Part::Refusal { text } => Ok(Build::kind("refusal").with("refusal", text).raw()),
        Part::Other { kind, raw } if to.own || OWN_KINDS.contains(&kind.as_str()) => Ok(raw.clone()),
        Part::Other { kind, .. } => Err(no_place(join(path, kind))),
        Part::ToolCall { .. } => Err(no_place(join(path, "tool_call"))),
        Part::ToolResult { .. } => Err(no_place(join(path, "tool_result"))),
        Part::Thinking { .. } | Part::HiddenThinking { .. } => Err(no_place(join(path, "thinking"))),
    }
}

pub fn no_place(field: impl Into<String>) -> Refusal {
    Refusal::no_place(field, Protocol::Chat)
}

/// A turn as messages: each result of a tool is one of its own.
pub fn write_turn(to: To, turn: &Turn, path: &str) -> Result<Vec<Raw>, Refusal> {
    match turn.role {
        Role::Tool => {
            to.check(&turn.extra, &[], path)?;
            let write = |(at, part): (usize, &Part)| write_result(to, part, &format!("{path}.content[{at}]"));
            turn.parts.iter().enumerate().map(write).collect()
        }
        Role::Assistant => write_assistant(to, turn, path).map(|message| vec![message]),
        Role::System | Role::User => {
            let role = if turn.role == Role::User { "user" } else { "system" };
            let parts: Vec<&Part> = turn.parts.iter().collect();
            let content = write_content(to, &parts, &join(path, "content"))?;
            let content = content.unwrap_or_else(|| fields::raw(""));
            let message = Build::new().with("role", role).with("content", &content);
            Ok(vec![to.extra(message, &turn.extra, &["name"], path)?.raw()])
        }
    }
}

/// The protocol has no mark for a call that failed: its text says so, if it does not already.
fn mark_error(parts: &[Part]) -> Vec<Part> {
    let mut parts = parts.to_vec();
    match parts.first_mut() {
        Some(Part::Text { text, .. }) if text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("error")) => {}
        Some(Part::Text { text, .. }) => text.insert_str(0, "Error: "),
        _ => parts.insert(0, Part::text("Error:")),
    }
    parts
}

fn write_result(to: To, part: &Part, path: &str) -> Result<Raw, Refusal> {
    let Part::ToolResult { call, parts, is_error, cache, extra } = part else {
        return Err(malformed(path, "a turn of tools holds only their results"));
    };
    if let Some(image) = parts.iter().find(|part| !matches!(part, Part::Text { .. }))
        && !to.own
    {
        let kind = if matches!(image, Part::Image { .. }) { "image" } else { "content" };
        return Err(no_place(join(path, kind)));
    }
    let marked = is_error.then(|| mark_error(parts));
    let parts: Vec<&Part> = marked.as_ref().unwrap_or(parts).iter().collect();
    let content = write_content(to, &parts, path)?.unwrap_or_else(|| fields::raw(""));
    let message = Build::new().with("role", "tool").with("tool_call_id", call).with("content", &content);
    let message = message.maybe("cache_control", to.cache(cache.as_ref()));
    Ok(to.extra(message, extra, &[], path)?.raw())
}

fn write_assistant(to: To, turn: &Turn, path: &str) -> Result<Raw, Refusal> {
    let mut said: Vec<&Part> = Vec::new();
    let mut calls: Vec<Raw> = Vec::new();
    let mut thoughts = String::new();
    let mut refusal: Option<&str> = None;
    let last = turn.parts.iter().rposition(|part| matches!(part, Part::Text { .. } | Part::Refusal { .. }));
    for (at, part) in turn.parts.iter().enumerate() {
        let path = format!("{path}.content[{at}]");
        match part {
            Part::ToolCall { .. } => calls.push(write_call(to, part, &path)?),
            Part::Other { kind, raw } if to.own && kind.starts_with(OTHER_CALL) => calls.push(raw.clone()),
            Part::Thinking { text, signature: None } if to.own || to.wide => thoughts.push_str(text),
            // Before other words it is one of them.
            Part::Refusal { text } if last == Some(at) => refusal = Some(text),
            part => said.push(part),
        }
    }
    let content = write_content(to, &said, &join(path, "content"))?;
    let nothing = content.is_none() && calls.is_empty() && refusal.is_none();
    let message = Build::new()
        .with("role", "assistant")
        .maybe("content", content.or_else(|| nothing.then(|| fields::raw(""))))
        .maybe("refusal", refusal)
        .maybe("reasoning_content", (!thoughts.is_empty()).then_some(thoughts))
        .list("tool_calls", &calls);
    Ok(to.extra(message, &turn.extra, &["name"], path)?.raw())
}

pub fn write_call(to: To, part: &Part, path: &str) -> Result<Raw, Refusal> {
    let Part::ToolCall { id, name, arguments, extra } = part else {
        return Err(malformed(path, "not a call"));
    };
    let mut rest = extra.clone();
    let inner = rest.take("function").map(|inner| fields::object(&inner, path)).transpose()?.unwrap_or_default();
    let function = Build::new().with("name", name).with("arguments", arguments);
    let function = to.extra(function, &inner, &[], path)?.object();
    let call = Build::new().with("id", id).with("type", "function").with("function", &function);
    Ok(to.extra(call, &rest, &[], path)?.raw())
}
