//! Blocks of content, the same in requests and answers.

use serde_json::value::RawValue;

use crate::{
    CacheHint, ImageSource, Object, Part, Protocol, Raw, Refusal,
    fields::{self, Build, Content, join, malformed},
};

/// Kinds that only this protocol has and that pass as they are.
const OWN_KINDS: &[&str] = &[
    "document",
    "image",
    "search_result",
    "container_upload",
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "tool_reference",
    "mcp_tool_use",
    "mcp_tool_result",
    "compaction",
    "thinking",
];

/// Signatures of Gemini's thoughts travel through clients as signatures of thinking, with this before them.
pub const GEMINI_SIGNATURE: &str = "gemini:";

/// A string is one block of text.
pub fn read_content(raw: &RawValue, path: &str) -> Result<Vec<Part>, Refusal> {
    match fields::content(raw, path)? {
        Content::Text(text) => Ok(vec![Part::text(text)]),
        Content::Blocks(blocks) => {
            blocks.iter().enumerate().map(|(at, block)| read_block(block, &format!("{path}[{at}]"))).collect()
        }
    }
}

fn read_block(raw: &RawValue, path: &str) -> Result<Part, Refusal> {
    let mut block = fields::object(raw, path)?;
    let kind: String = fields::required(&mut block, path, "type")?;
    let other = || Part::Other { kind: kind.clone(), raw: raw.to_owned() };
    Ok(match kind.as_str() {
        "text" => Part::Text {
            text: fields::required(&mut block, path, "text")?,
            cache: read_cache(&mut block, path)?,
            extra: block,
        },
        "image" => match read_image(&mut block, path)? {
            Some(source) => Part::Image { source, cache: read_cache(&mut block, path)?, extra: block },
            None => other(),
        },
        "tool_use" => Part::ToolCall {
            id: fields::required(&mut block, path, "id")?,
            name: fields::required(&mut block, path, "name")?,
            arguments: fields::required::<Raw>(&mut block, path, "input")?.get().to_owned(),
            extra: block,
        },
        "tool_result" => Part::ToolResult {
            call: fields::required(&mut block, path, "tool_use_id")?,
            parts: match block.take("content") {
                Some(content) if content.get() != "null" => read_content(&content, &join(path, "content"))?,
                _ => Vec::new(),
            },
            is_error: fields::optional(&mut block, path, "is_error")?.unwrap_or(false),
            cache: read_cache(&mut block, path)?,
            extra: block,
        },
        "thinking" if block.names().all(|name| matches!(name, "thinking" | "signature")) => Part::Thinking {
            text: fields::required(&mut block, path, "thinking")?,
            // An empty one is ours: the model that thought had none to give.
            signature: fields::optional(&mut block, path, "signature")?.filter(|text: &String| !text.is_empty()),
        },
        "redacted_thinking" if block.names().eq(["data"]) => {
            Part::HiddenThinking { data: fields::required(&mut block, path, "data")? }
        }
        _ => other(),
    })
}

fn read_image(block: &mut Object, path: &str) -> Result<Option<ImageSource>, Refusal> {
    let path = join(path, "source");
    let Some(raw) = block.get("source") else { return Err(malformed(path, "the field is missing")) };
    let mut source = fields::object(raw, &path)?;
    let kind: String = fields::required(&mut source, &path, "type")?;
    let read = match kind.as_str() {
        "base64" => ImageSource::Inline {
            media_type: fields::required(&mut source, &path, "media_type")?,
            data: fields::required(&mut source, &path, "data")?,
        },
        "url" => ImageSource::Url(fields::required(&mut source, &path, "url")?),
        // A file that lies with the provider.
        _ => return Ok(None),
    };
    if !source.is_empty() {
        return Ok(None);
    }
    block.take("source");
    Ok(Some(read))
}

pub fn read_cache(object: &mut Object, path: &str) -> Result<Option<CacheHint>, Refusal> {
    let path = join(path, "cache_control");
    let Some(mut hint) = object.take_as::<Object>("cache_control").map_err(|error| malformed(&*path, error))? else {
        return Ok(None);
    };
    let kind: String = fields::required(&mut hint, &path, "type")?;
    let ttl = fields::optional(&mut hint, &path, "ttl")?;
    match (kind.as_str(), hint.names().next()) {
        ("ephemeral", None) => Ok(Some(CacheHint { ttl })),
        (_, Some(name)) => Err(malformed(join(&path, name), "unknown field")),
        _ => Err(malformed(join(&path, "type"), format!("unknown kind '{kind}'"))),
    }
}

pub fn write_cache(hint: Option<&CacheHint>) -> Option<Object> {
    hint.map(|hint| Build::kind("ephemeral").maybe("ttl", hint.ttl.as_ref()).object())
}

/// How blocks are written.
#[derive(Clone, Copy)]
pub struct To {
    /// They were read from this protocol, so what is unknown goes back.
    pub own: bool,
    /// For a client, which keeps signatures; a provider checks them.
    pub client: bool,
}

impl To {
    /// All extras when they are this protocol's own; else the known ones, and a refusal for others.
    pub fn extra(self, build: Build, extra: &Object, known: &[&str], path: &str) -> Result<Build, Refusal> {
        if self.own {
            return Ok(build.extra(extra, &extra.names().collect::<Vec<_>>()));
        }
        fields::only(extra, known, path, Protocol::Messages)?;
        let said = |name: &&str| extra.get(name).is_some_and(|value| value.get() != "null");
        Ok(build.extra(extra, &known.iter().copied().filter(said).collect::<Vec<_>>()))
    }
}

/// `None`: an empty text, which the protocol forbids and which says nothing.
pub fn write_block(to: To, part: &Part, path: &str) -> Result<Option<Raw>, Refusal> {
    let no_place = |field: String| Refusal::NoPlace { field, protocol: Protocol::Messages };
    Ok(Some(match part {
        Part::Text { text, cache: None, .. } if text.is_empty() => return Ok(None),
        Part::Text { text, cache, extra } => {
            let block = Build::kind("text").with("text", text);
            let block = to.extra(block, extra, &["citations"], path)?;
            block.maybe("cache_control", write_cache(cache.as_ref())).raw()
        }
        Part::Image { source, cache, extra } => {
            let block = to.extra(Build::kind("image").with("source", &write_image(source)), extra, &[], path)?;
            block.maybe("cache_control", write_cache(cache.as_ref())).raw()
        }
        Part::ToolCall { id, name, arguments, extra } => {
            let input = arguments_object(arguments, &join(path, "arguments"))?;
            let block = Build::kind("tool_use").with("id", id).with("name", name).with("input", &input);
            to.extra(block, extra, &["cache_control", "caller"], path)?.raw()
        }
        Part::ToolResult { call, parts, is_error, cache, extra } => {
            let block = Build::kind("tool_result").with("tool_use_id", call);
            let block =
                block.list("content", &write_blocks(to, parts, path)?).maybe("is_error", is_error.then_some(true));
            to.extra(block, extra, &[], path)?.maybe("cache_control", write_cache(cache.as_ref())).raw()
        }
        Part::Thinking { text, signature } => {
            let signature = signature.as_deref().unwrap_or_default();
            if !to.client && (signature.is_empty() || signature.starts_with(GEMINI_SIGNATURE)) {
                // Thoughts of another provider's model: this one takes none without its own signature.
                return Err(no_place(join(path, "thinking")));
            }
            Build::kind("thinking").with("thinking", text).with("signature", signature).raw()
        }
        Part::HiddenThinking { data } => Build::kind("redacted_thinking").with("data", data).raw(),
        Part::Refusal { text } => Build::kind("text").with("text", text).raw(),
        Part::Other { kind, raw } if OWN_KINDS.contains(&kind.as_str()) || to.own || to.client => raw.clone(),
        Part::Other { kind, .. } => return Err(no_place(join(path, kind))),
    }))
}

pub fn write_blocks(to: To, parts: &[Part], path: &str) -> Result<Vec<Raw>, Refusal> {
    let blocks = parts.iter().enumerate().map(|(at, part)| write_block(to, part, &format!("{path}.content[{at}]")));
    blocks.filter_map(Result::transpose).collect()
}

fn write_image(source: &ImageSource) -> Object {
    match source {
        ImageSource::Url(url) => Build::kind("url").with("url", url).object(),
        ImageSource::Inline { media_type, data } => {
            Build::kind("base64").with("media_type", media_type).with("data", data).object()
        }
    }
}

/// The text that a model wrote as arguments, as an object. Some models write nothing where there are none.
pub fn arguments_object(arguments: &str, path: &str) -> Result<Object, Refusal> {
    let text = if arguments.trim().is_empty() { "{}" } else { arguments };
    Object::parse(text.as_bytes()).map_err(|error| malformed(path, format!("no JSON object: {error}")))
}
