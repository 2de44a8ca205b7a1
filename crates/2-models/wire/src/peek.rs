//! What the router and the ledger must know of a request, in one pass over its bytes: no tree, and nothing copied but the
//! model's name. It checks the whole body on the way, so that what is forwarded untouched is JSON with each field once.

use std::ops::Range;

use crate::{Protocol, Refusal, scan::Cursor};

mod content;
mod gemini;

/// What stands in a request. Spans are kept for [`crate::splice()`].
#[derive(Clone, Debug)]
pub struct Peek {
    pub protocol: Protocol,
    /// As the client named it. Empty in a Gemini body, whose model is in the path.
    pub model: String,
    pub stream: bool,
    /// The largest, if a client wrote both of Chat's names for it.
    pub max_output_tokens: Option<u64>,
    /// Answers asked for at once; of embeddings, inputs.
    pub choices: u64,
    pub needs: Needs,
    /// Bytes that may become input tokens: the body without the data of its images. A token given by its number counts as
    /// three more, so that a third of this is never less than the numbers.
    pub text_bytes: u64,
    pub images: u64,
    /// The client expects usage in the stream. Only Chat lets it choose; the others always send it.
    pub stream_usage: bool,
    /// What the client pays more or less for, as it wrote it (`priority`, `flex`).
    pub service_tier: Option<String>,
    /// The provider keeps the answer, or goes on with it by itself when nobody waits any more (`store`, `background`).
    pub is_kept: bool,
    pub(crate) spans: Spans,
}

/// What a model must be capable of to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub tools: bool,
    pub images: bool,
    pub json_schema: bool,
    pub json_object: bool,
    pub thinking: bool,
    pub logprobs: bool,
    pub audio: bool,
    pub files: bool,
    /// Tools that the provider itself runs and bills (web search, code execution).
    pub hosted_tools: bool,
    /// Input that lies with the provider (an earlier response, a file by id), so that its size cannot be seen from here.
    pub stored_input: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Spans {
    pub model: Option<Range<usize>>,
    /// The values of all fields that limit the output.
    pub max: Vec<Range<usize>>,
    pub usage: UsageSpan,
    /// Where a field may be written: behind the object's opening brace; and whether another one follows.
    pub open: usize,
    pub empty: bool,
    /// The same of Gemini's `generationConfig`, if there is one.
    pub config: Option<(usize, bool)>,
}

/// Where `stream_options.include_usage` is to be written, if it is not true.
#[derive(Clone, Debug, Default)]
pub(crate) enum UsageSpan {
    #[default]
    Absent,
    /// `stream_options` is null.
    Null(Range<usize>),
    /// Behind the brace of `stream_options`, and whether that object is empty.
    Inside {
        open: usize,
        empty: bool,
    },
    /// The value, which is not true.
    Value(Range<usize>),
    True,
}

/// Reads a request of `POST /chat/completions`, `/responses`, `/v1/messages` (also `count_tokens`) or Gemini's.
pub fn peek(protocol: Protocol, body: &[u8]) -> Result<Peek, Refusal> {
    let mut cursor = Cursor::new(body)?;
    let mut peek = Peek::new(protocol);
    let mut inline = 0;
    peek.open(&mut cursor, body)?;
    cursor.object(|cursor, name| match protocol {
        Protocol::Chat => chat(&mut peek, &mut inline, cursor, name),
        Protocol::Responses => responses(&mut peek, &mut inline, cursor, name),
        Protocol::Messages => messages(&mut peek, &mut inline, cursor, name),
        Protocol::Gemini => gemini::field(&mut peek, &mut inline, cursor, name),
    })?;
    cursor.end()?;
    if protocol != Protocol::Gemini && peek.model.is_empty() {
        return Err(Refusal::malformed("model", "the name of a model is missing"));
    }
    peek.text_bytes = (body.len() as u64).saturating_sub(inline);
    peek.needs.images = peek.images > 0;
    Ok(peek)
}

/// Reads a request of `POST /embeddings`.
pub fn peek_embeddings(body: &[u8]) -> Result<Peek, Refusal> {
    let mut cursor = Cursor::new(body)?;
    let mut peek = Peek::new(Protocol::Chat);
    let mut tokens = 0_u64;
    let mut inputs = None;
    peek.open(&mut cursor, body)?;
    cursor.object(|cursor, name| match name {
        "model" => model(&mut peek, cursor),
        "input" => {
            inputs = Some(content::inputs(cursor, &mut tokens)?);
            Ok(())
        }
        _ => cursor.pass(),
    })?;
    cursor.end()?;
    if peek.model.is_empty() {
        return Err(Refusal::malformed("model", "the name of a model is missing"));
    }
    peek.choices = inputs.ok_or_else(|| Refusal::malformed("input", "the input is missing"))?;
    peek.text_bytes = (body.len() as u64).saturating_add(tokens.saturating_mul(3));
    Ok(peek)
}

impl Peek {
    fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            model: String::new(),
            stream: false,
            max_output_tokens: None,
            choices: 1,
            needs: Needs::default(),
            text_bytes: 0,
            images: 0,
            stream_usage: protocol != Protocol::Chat,
            service_tier: None,
            // Responses are kept unless the client does not want it.
            is_kept: protocol == Protocol::Responses,
            spans: Spans::default(),
        }
    }

    fn open(&mut self, cursor: &mut Cursor<'_>, body: &[u8]) -> Result<(), Refusal> {
        if cursor.next() != b'{' {
            return Err(Refusal::malformed("body", "not a JSON object"));
        }
        self.spans.open = cursor.at() + 1;
        self.spans.empty = opens_empty(body, self.spans.open);
        Ok(())
    }

    fn limit(&mut self, cursor: &mut Cursor<'_>, name: &str) -> Result<(), Refusal> {
        let (count, span) = cursor.count(name)?;
        self.max_output_tokens = self.max_output_tokens.max(count);
        self.spans.max.push(span);
        Ok(())
    }
}

fn opens_empty(body: &[u8], open: usize) -> bool {
    body.get(open..).unwrap_or_default().trim_ascii_start().first() == Some(&b'}')
}

fn model(peek: &mut Peek, cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
    if cursor.next() != b'"' {
        return Err(Refusal::malformed("model", "not a string"));
    }
    let start = cursor.at();
    peek.model = cursor.string()?.decode()?.into_owned();
    peek.spans.model = Some(start..cursor.at());
    Ok(())
}

/// The fields that all of OpenAI's and Anthropic's requests have.
fn common(peek: &mut Peek, cursor: &mut Cursor<'_>, name: &str) -> Result<(), Refusal> {
    match name {
        "model" => model(peek, cursor)?,
        "stream" => peek.stream = cursor.bool("stream")?.unwrap_or(false),
        "tools" => content::tools(&mut peek.needs, cursor)?,
        "service_tier" => {
            peek.service_tier = match cursor.string_or_skip()? {
                Some(text) => Some(text.decode()?.into_owned()),
                None => None,
            };
        }
        _ => cursor.pass()?,
    }
    Ok(())
}

fn chat(peek: &mut Peek, inline: &mut u64, cursor: &mut Cursor<'_>, name: &str) -> Result<(), Refusal> {
    match name {
        "messages" => content::turns(peek, inline, cursor, "messages")?,
        "max_tokens" | "max_completion_tokens" => peek.limit(cursor, name)?,
        "n" => match cursor.count("n")?.0 {
            Some(0) => return Err(Refusal::malformed("n", "no answer is asked for")),
            n => peek.choices = n.unwrap_or(1),
        },
        "stream_options" => stream_options(peek, cursor)?,
        "functions" => peek.needs.tools |= cursor.some()?,
        "web_search_options" => {
            peek.needs.hosted_tools |= cursor.next() == b'{';
            cursor.skip()?;
        }
        "response_format" => format(peek, cursor)?,
        "reasoning_effort" => {
            peek.needs.thinking |= cursor.string_or_skip()?.is_some_and(|effort| effort.inner() != "none");
        }
        "logprobs" | "top_logprobs" => peek.needs.logprobs |= cursor.some()?,
        "audio" => peek.needs.audio |= cursor.some()?,
        "store" => {
            peek.is_kept = cursor.next() == b't';
            cursor.skip()?;
        }
        _ => common(peek, cursor, name)?,
    }
    Ok(())
}

fn responses(peek: &mut Peek, inline: &mut u64, cursor: &mut Cursor<'_>, name: &str) -> Result<(), Refusal> {
    match name {
        "input" => content::turns(peek, inline, cursor, "input")?,
        "max_output_tokens" => peek.limit(cursor, name)?,
        "text" if cursor.next() == b'{' => cursor.object(|cursor, name| match name {
            "format" => format(peek, cursor),
            _ => cursor.pass(),
        })?,
        "reasoning" => thinking(peek, cursor, "effort", "none")?,
        "top_logprobs" => peek.needs.logprobs |= cursor.some()?,
        "store" => {
            peek.is_kept = cursor.next() != b'f';
            cursor.skip()?;
        }
        "previous_response_id" | "conversation" | "prompt" => peek.needs.stored_input |= cursor.some()?,
        _ => common(peek, cursor, name)?,
    }
    Ok(())
}

fn messages(peek: &mut Peek, inline: &mut u64, cursor: &mut Cursor<'_>, name: &str) -> Result<(), Refusal> {
    match name {
        "messages" => content::turns(peek, inline, cursor, "messages")?,
        "max_tokens" => peek.limit(cursor, name)?,
        "thinking" => thinking(peek, cursor, "type", "disabled")?,
        "output_format" => format(peek, cursor)?,
        "output_config" if cursor.next() == b'{' => cursor.object(|cursor, name| match name {
            "format" => format(peek, cursor),
            _ => cursor.pass(),
        })?,
        "mcp_servers" => peek.needs.hosted_tools |= cursor.some()?,
        "container" => peek.needs.stored_input |= cursor.some()?,
        _ => common(peek, cursor, name)?,
    }
    Ok(())
}

fn stream_options(peek: &mut Peek, cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
    if cursor.next() != b'{' {
        let span = cursor.skip()?;
        if span.len() != 4 {
            return Err(Refusal::malformed("stream_options", "not an object"));
        }
        peek.spans.usage = UsageSpan::Null(span);
        return Ok(());
    }
    let open = cursor.at() + 1;
    let mut fields = 0;
    let mut value = None;
    cursor.object(|cursor, name| {
        fields += 1;
        if name != "include_usage" {
            return cursor.pass();
        }
        cursor.next();
        let start = cursor.at();
        let wanted = cursor.bool("stream_options.include_usage")?;
        value = Some((wanted == Some(true), start..cursor.at()));
        Ok(())
    })?;
    peek.spans.usage = match value {
        Some((true, _)) => UsageSpan::True,
        Some((false, span)) => UsageSpan::Value(span),
        None => UsageSpan::Inside { open, empty: fields == 0 },
    };
    peek.stream_usage = matches!(peek.spans.usage, UsageSpan::True);
    Ok(())
}

/// `response_format`, `text.format`, `output_format`: an object with a `type`.
fn format(peek: &mut Peek, cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
    if cursor.next() != b'{' {
        return cursor.pass();
    }
    cursor.object(|cursor, name| {
        if name != "type" {
            return cursor.pass();
        }
        if let Some(kind) = cursor.string_or_skip()? {
            match &*kind.decode()? {
                "json_schema" => peek.needs.json_schema = true,
                "json_object" => peek.needs.json_object = true,
                _ => {}
            }
        }
        Ok(())
    })
}

/// An object that asks for thoughts, unless its `field` says `off`.
fn thinking(peek: &mut Peek, cursor: &mut Cursor<'_>, field: &str, off: &str) -> Result<(), Refusal> {
    if cursor.next() != b'{' {
        return cursor.pass();
    }
    let mut wanted = true;
    cursor.object(|cursor, name| {
        if name != field {
            return cursor.pass();
        }
        if let Some(text) = cursor.string_or_skip()? {
            wanted = text.decode()? != off;
        }
        Ok(())
    })?;
    peek.needs.thinking |= wanted;
    Ok(())
}

#[cfg(test)]
mod tests;
