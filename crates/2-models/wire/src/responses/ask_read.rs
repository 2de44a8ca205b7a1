//! Reads a client's request.

use serde_json::value::RawValue;

use super::input::read_input;
use crate::{
    Ask, Format, Object, Part, Protocol, Raw, Reasoning, Refusal, Tool, ToolChoice,
    chat::read_schema,
    fields::{self, join, malformed, optional, required},
};

/// What the answer repeats.
const ECHOED: &[&str] = &[
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "user",
];

/// Fields that only a provider that remembers can fulfil, and the values that ask for nothing.
const STATEFUL: &[(&str, &[&str])] = &[
    ("previous_response_id", &[]),
    ("conversation", &[]),
    ("prompt", &[]),
    ("background", &["false"]),
    ("store", &["false"]),
    ("truncation", &["\"disabled\""]),
    ("context_management", &["[]"]),
    ("max_tool_calls", &[]),
    ("top_logprobs", &["0"]),
];

pub fn read_ask(body: &[u8]) -> Result<Ask, Refusal> {
    let mut root = Object::parse(body).map_err(|error| malformed("body", error))?;
    let mut echo = Object::default();
    for (name, value) in root.iter().filter(|(name, _)| ECHOED.contains(name)) {
        echo.put(name, value.to_owned());
    }
    let fields = &mut root;
    refuse_state(fields)?;
    // Only the answer has a place for it.
    fields.take("metadata");
    let mut ask = Ask {
        from: Some(Protocol::Responses),
        model: required(fields, "", "model")?,
        tools: read_tools(optional(fields, "", "tools")?.unwrap_or_default())?,
        tool_choice: read_choice(fields)?,
        parallel_tool_calls: optional(fields, "", "parallel_tool_calls")?,
        max_output_tokens: optional(fields, "", "max_output_tokens")?,
        temperature: optional(fields, "", "temperature")?,
        top_p: optional(fields, "", "top_p")?,
        reasoning: read_reasoning(fields)?,
        stream: optional(fields, "", "stream")?.unwrap_or(false),
        // Each stream of this protocol ends with it.
        stream_usage: true,
        end_user: optional(fields, "", "user")?,
        echo,
        ..Ask::default()
    };
    if let Some(instructions) = optional::<String>(fields, "", "instructions")? {
        ask.system.push(Part::text(instructions));
    }
    read_input(&mut ask, required(fields, "", "input")?)?;
    read_text(&mut ask, fields)?;
    read_includes(fields)?;
    ask.extra = root;
    Ok(ask)
}

fn no_state(field: &str) -> Refusal {
    malformed(field, "it needs a provider of this protocol; the chosen one is translated for, and remembers nothing")
}

fn refuse_state(root: &mut Object) -> Result<(), Refusal> {
    for (name, harmless) in STATEFUL {
        if let Some(value) = root.take(name)
            && value.get() != "null"
            && !harmless.contains(&value.get())
        {
            return Err(no_state(name));
        }
    }
    // Nothing is added to our streams.
    if let Some(mut options) = optional::<Object>(root, "", "stream_options")? {
        if optional(&mut options, "stream_options", "include_obfuscation")? == Some(true) {
            return Err(no_state("stream_options.include_obfuscation"));
        }
        if let Some(name) = options.names().next() {
            return Err(malformed(join("stream_options", name), "unknown field"));
        }
    }
    Ok(())
}

/// Encrypted thoughts are always in the answer.
fn read_includes(root: &mut Object) -> Result<(), Refusal> {
    let includes: Vec<String> = optional(root, "", "include")?.unwrap_or_default();
    match includes.iter().position(|include| include != "reasoning.encrypted_content") {
        Some(at) => Err(no_state(&format!("include[{at}]"))),
        None => Ok(()),
    }
}

fn read_tools(tools: Vec<Raw>) -> Result<Vec<Tool>, Refusal> {
    let read = |(at, raw): (usize, &Raw)| {
        let path = format!("tools[{at}]");
        let mut tool = fields::object(raw, &path)?;
        let kind: String = required(&mut tool, &path, "type")?;
        if kind != "function" {
            return Err(no_state(&format!("{path}.type: {kind}")));
        }
        Ok(Tool {
            name: required(&mut tool, &path, "name")?,
            description: optional(&mut tool, &path, "description")?,
            schema: optional(&mut tool, &path, "parameters")?,
            strict: optional(&mut tool, &path, "strict")?,
            cache: None,
            extra: tool,
        })
    };
    tools.iter().enumerate().map(read).collect()
}

fn read_choice(root: &mut Object) -> Result<Option<ToolChoice>, Refusal> {
    let Some(raw) = root.take("tool_choice").filter(|raw| raw.get() != "null") else { return Ok(None) };
    Ok(Some(match raw.get() {
        "\"auto\"" => ToolChoice::Auto,
        "\"none\"" => ToolChoice::None,
        "\"required\"" => ToolChoice::Required,
        _ => {
            let mut choice = fields::object(&raw, "tool_choice")?;
            let kind: String = required(&mut choice, "tool_choice", "type")?;
            if kind != "function" {
                return Err(no_state(&format!("tool_choice.type: {kind}")));
            }
            let name = required(&mut choice, "tool_choice", "name")?;
            if let Some(name) = choice.names().next() {
                return Err(malformed(join("tool_choice", name), "unknown field"));
            }
            ToolChoice::Named(name)
        }
    }))
}

fn read_reasoning(root: &mut Object) -> Result<Option<Reasoning>, Refusal> {
    let path = "reasoning";
    let Some(mut reasoning) = optional::<Object>(root, "", path)? else { return Ok(None) };
    let effort = optional(&mut reasoning, path, "effort")?;
    let old: Option<String> = optional(&mut reasoning, path, "generate_summary")?;
    let summary = optional(&mut reasoning, path, "summary")?.or(old);
    match reasoning.names().next() {
        Some(name) => Err(malformed(join(path, name), "unknown field")),
        None => {
            Ok(Some(Reasoning { effort, summary, budget_tokens: None }).filter(|read| *read != Reasoning::default()))
        }
    }
}

fn read_text(ask: &mut Ask, root: &mut Object) -> Result<(), Refusal> {
    let Some(mut text) = optional::<Object>(root, "", "text")? else { return Ok(()) };
    if let Some(verbosity) = text.take("verbosity") {
        root.put("verbosity", verbosity);
    }
    if let Some(raw) = text.take("format").filter(|raw| raw.get() != "null") {
        ask.format = read_format(&raw)?;
    }
    match text.names().next() {
        Some(name) => Err(malformed(join("text", name), "unknown field")),
        None => Ok(()),
    }
}

fn read_format(raw: &RawValue) -> Result<Format, Refusal> {
    let path = "text.format";
    let mut format = fields::object(raw, path)?;
    let read = match required::<String>(&mut format, path, "type")?.as_str() {
        "text" => Format::Text,
        "json_object" => Format::Json,
        "json_schema" => {
            read_schema(&mut format, path)?.ok_or_else(|| malformed("text.format.schema", "it is missing"))?
        }
        other => return Err(malformed(join(path, "type"), format!("unknown kind '{other}'"))),
    };
    match format.names().next() {
        Some(name) => Err(malformed(join(path, name), "unknown field")),
        None => Ok(read),
    }
}
