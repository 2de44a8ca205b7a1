//! Reads a client's request.

use serde_json::value::RawValue;

use super::message::{read_cache, read_turn};
use crate::{
    Ask, Format, Object, Protocol, Raw, Reasoning, Refusal, Role, Tool, ToolChoice,
    fields::{self, join, malformed, optional, required},
};

pub fn read_ask(body: &[u8]) -> Result<Ask, Refusal> {
    let mut root = Object::parse(body).map_err(|error| malformed("body", error))?;
    let fields = &mut root;
    let mut ask = Ask {
        from: Some(Protocol::Chat),
        model: required(fields, "", "model")?,
        tools: read_tools(optional(fields, "", "tools")?.unwrap_or_default())?,
        parallel_tool_calls: optional(fields, "", "parallel_tool_calls")?,
        max_output_tokens: read_max(fields)?,
        temperature: optional(fields, "", "temperature")?,
        top_p: optional(fields, "", "top_p")?,
        top_k: optional(fields, "", "top_k")?,
        presence_penalty: optional(fields, "", "presence_penalty")?,
        frequency_penalty: optional(fields, "", "frequency_penalty")?,
        seed: optional(fields, "", "seed")?,
        choices: optional(fields, "", "n")?,
        stop: read_stop(fields)?,
        stream: optional(fields, "", "stream")?.unwrap_or(false),
        end_user: optional(fields, "", "user")?,
        ..Ask::default()
    };
    if let Some(effort) = optional(fields, "", "reasoning_effort")? {
        ask.reasoning = Some(Reasoning { effort: Some(effort), ..Reasoning::default() });
    }
    read_turns(&mut ask, required(fields, "", "messages")?)?;
    read_stream_options(&mut ask, fields)?;
    read_choice(&mut ask, fields)?;
    read_format(&mut ask, fields)?;
    ask.extra = root;
    Ok(ask)
}

/// The field has two names. Who writes both means one number.
fn read_max(root: &mut Object) -> Result<Option<u64>, Refusal> {
    let new: Option<u64> = optional(root, "", "max_completion_tokens")?;
    let old: Option<u64> = optional(root, "", "max_tokens")?;
    match (new, old) {
        (Some(new), Some(old)) if new != old => {
            Err(malformed("max_tokens", format!("it says {old}, and 'max_completion_tokens' says {new}")))
        }
        (new, old) => Ok(new.or(old)),
    }
}

fn read_stop(root: &mut Object) -> Result<Vec<String>, Refusal> {
    match root.get("stop").map(|stop| stop.get().starts_with('"')) {
        Some(true) => Ok(optional(root, "", "stop")?.into_iter().collect()),
        _ => Ok(optional(root, "", "stop")?.unwrap_or_default()),
    }
}

/// Instructions before all turns are the system's, unless they say more than their text.
fn read_turns(ask: &mut Ask, messages: Vec<Raw>) -> Result<(), Refusal> {
    for (at, message) in messages.iter().enumerate() {
        let turn = read_turn(message, &format!("messages[{at}]"))?;
        if turn.role == Role::System && ask.turns.is_empty() && turn.extra.is_empty() {
            ask.system.extend(turn.parts);
        } else {
            ask.turns.push(turn);
        }
    }
    Ok(())
}

fn read_stream_options(ask: &mut Ask, root: &mut Object) -> Result<(), Refusal> {
    let Some(mut options) = optional::<Object>(root, "", "stream_options")? else { return Ok(()) };
    ask.stream_usage = optional(&mut options, "stream_options", "include_usage")?.unwrap_or(false);
    // Nothing is added to our streams, and what a provider adds is taken out.
    if options.get("include_obfuscation").is_some_and(|wanted| matches!(wanted.get(), "false" | "null")) {
        options.take("include_obfuscation");
    }
    if !options.is_empty() {
        root.put("stream_options", fields::raw(&options));
    }
    Ok(())
}

fn read_tools(tools: Vec<Raw>) -> Result<Vec<Tool>, Refusal> {
    tools.iter().enumerate().map(|(at, tool)| read_tool(tool, &format!("tools[{at}]"))).collect()
}

/// What is no function is kept whole in the extras, under its name.
fn read_tool(raw: &RawValue, path: &str) -> Result<Tool, Refusal> {
    let mut tool = fields::object(raw, path)?;
    let kind = tool.get("type").map_or("\"function\"", |kind| kind.get()).to_owned();
    if kind != "\"function\"" {
        let own = tool.get(kind.trim_matches('"')).map(|own| fields::object(own, path)).transpose()?;
        let name = own.map(|mut own| optional(&mut own, path, "name")).transpose()?.flatten().unwrap_or_default();
        return Ok(Tool { name, description: None, schema: None, strict: None, cache: None, extra: tool });
    }
    tool.take("type");
    let mut function: Object = required(&mut tool, path, "function")?;
    let path_in = join(path, "function");
    let read = Tool {
        name: required(&mut function, &path_in, "name")?,
        description: optional(&mut function, &path_in, "description")?,
        schema: optional(&mut function, &path_in, "parameters")?,
        strict: optional(&mut function, &path_in, "strict")?,
        cache: read_cache(&mut tool, path)?,
        extra: Object::default(),
    };
    if !function.is_empty() {
        tool.put("function", fields::raw(&function));
    }
    Ok(Tool { extra: tool, ..read })
}

/// Choices that others have no word for stay in the extras.
fn read_choice(ask: &mut Ask, root: &mut Object) -> Result<(), Refusal> {
    let Some(raw) = root.take("tool_choice").filter(|raw| raw.get() != "null") else { return Ok(()) };
    ask.tool_choice = match raw.get() {
        "\"auto\"" => Some(ToolChoice::Auto),
        "\"none\"" => Some(ToolChoice::None),
        "\"required\"" => Some(ToolChoice::Required),
        object if object.starts_with('{') => {
            let mut choice = fields::object(&raw, "tool_choice")?;
            let mut function = choice.take_as::<Object>("function").ok().flatten().unwrap_or_default();
            let name: Option<String> = optional(&mut function, "tool_choice.function", "name")?;
            choice.take("type");
            name.filter(|_| choice.is_empty() && function.is_empty()).map(ToolChoice::Named)
        }
        other => return Err(malformed("tool_choice", format!("unknown choice {other}"))),
    };
    if ask.tool_choice.is_none() {
        root.put("tool_choice", raw);
    }
    Ok(())
}

fn read_format(ask: &mut Ask, root: &mut Object) -> Result<(), Refusal> {
    let path = "response_format";
    let Some(raw) = root.take(path).filter(|raw| raw.get() != "null") else { return Ok(()) };
    let mut format = fields::object(&raw, path)?;
    let kind: String = required(&mut format, path, "type")?;
    let read = match kind.as_str() {
        "text" if format.is_empty() => Format::Text,
        "json_object" if format.is_empty() => Format::Json,
        "json_schema" => {
            let mut inner: Object = required(&mut format, path, "json_schema")?;
            match read_schema(&mut inner, "response_format.json_schema")? {
                Some(schema) if inner.is_empty() && format.is_empty() => schema,
                _ => return keep(root, raw),
            }
        }
        _ => return keep(root, raw),
    };
    ask.format = read;
    Ok(())
}

fn keep(root: &mut Object, format: Raw) -> Result<(), Refusal> {
    root.put("response_format", format);
    Ok(())
}

/// The form that Chat and Responses share. `None` without a schema.
pub fn read_schema(inner: &mut Object, path: &str) -> Result<Option<Format>, Refusal> {
    let name = optional(inner, path, "name")?;
    let description = optional(inner, path, "description")?;
    let strict = optional(inner, path, "strict")?;
    let schema: Option<Raw> = optional(inner, path, "schema")?;
    Ok(schema.map(|schema| Format::Schema { name, description, schema, strict }))
}
