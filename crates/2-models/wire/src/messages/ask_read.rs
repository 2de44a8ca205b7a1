//! Reads a request of a client.

use super::blocks::{read_cache, read_content};
use crate::{
    Ask, Format, Object, Part, Protocol, Raw, Reasoning, Refusal, Role, Tool, ToolChoice, Turn,
    fields::{self, join, malformed},
};

/// `POST /v1/messages`.
pub fn read_ask(body: &[u8]) -> Result<Ask, Refusal> {
    let ask = read_count(body)?;
    match ask.max_output_tokens {
        Some(_) => Ok(ask),
        None => Err(malformed("max_tokens", "the field is missing")),
    }
}

/// `POST /v1/messages/count_tokens`: the same without a bound of the answer.
pub fn read_count(body: &[u8]) -> Result<Ask, Refusal> {
    let mut root = Object::parse(body).map_err(|error| malformed("body", error))?;
    let fields = &mut root;
    let (tool_choice, parallel_tool_calls) = read_choice(fields)?;
    let stream = fields::optional(fields, "", "stream")?.unwrap_or(false);
    let mut ask = Ask {
        from: Some(Protocol::Messages),
        model: fields::required(fields, "", "model")?,
        system: match fields.take("system") {
            Some(system) if system.get() != "null" => read_content(&system, "system")?,
            _ => Vec::new(),
        },
        turns: read_turns(fields::required(fields, "", "messages")?)?,
        tools: read_tools(fields::optional(fields, "", "tools")?.unwrap_or_default())?,
        tool_choice,
        parallel_tool_calls,
        max_output_tokens: fields::optional(fields, "", "max_tokens")?,
        temperature: fields::optional(fields, "", "temperature")?,
        top_p: fields::optional(fields, "", "top_p")?,
        top_k: fields::optional(fields, "", "top_k")?,
        stop: fields::optional(fields, "", "stop_sequences")?.unwrap_or_default(),
        stream,
        // Streams of this protocol always end with usage.
        stream_usage: stream,
        ..Ask::default()
    };
    read_thinking(fields, &mut ask)?;
    read_output(fields, &mut ask)?;
    if let Some(mut metadata) = fields::optional::<Object>(fields, "", "metadata")? {
        ask.end_user = fields::optional(&mut metadata, "metadata", "user_id")?;
        if !metadata.is_empty() {
            fields.put("metadata", fields::raw(&metadata));
        }
    }
    ask.extra = root;
    Ok(ask)
}

/// Results of tools come in a turn of the user; here they are a turn of their own.
fn read_turns(messages: Vec<Raw>) -> Result<Vec<Turn>, Refusal> {
    let mut turns = Vec::with_capacity(messages.len());
    for (at, message) in messages.iter().enumerate() {
        let path = format!("messages[{at}]");
        let mut message = fields::object(message, &path)?;
        let role = match fields::required::<String>(&mut message, &path, "role")?.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => return Err(malformed(join(&path, "role"), format!("unknown role '{other}'"))),
        };
        let content: Raw = fields::required(&mut message, &path, "content")?;
        let parts = read_content(&content, &join(&path, "content"))?;
        let (results, parts): (Vec<Part>, Vec<Part>) =
            parts.into_iter().partition(|part| matches!(part, Part::ToolResult { .. }));
        let nothing = parts.is_empty() && message.is_empty() && !results.is_empty();
        if !results.is_empty() {
            turns.push(Turn { role: Role::Tool, parts: results, extra: Object::default() });
        }
        if !nothing {
            turns.push(Turn { role, parts, extra: message });
        }
    }
    Ok(turns)
}

fn read_tools(tools: Vec<Raw>) -> Result<Vec<Tool>, Refusal> {
    let read = |(at, tool): (usize, &Raw)| {
        let path = format!("tools[{at}]");
        let mut tool = fields::object(tool, &path)?;
        // The provider's own tools have a dated type and mostly no schema; the client's have none, or this one.
        let own = tool.get("type").is_some_and(|kind| !matches!(kind.get(), "\"custom\"" | "null"));
        if !own {
            tool.take("type");
        }
        let schema: Option<Raw> = fields::optional(&mut tool, &path, "input_schema")?;
        if schema.is_none() && !own {
            return Err(malformed(join(&path, "input_schema"), "the field is missing"));
        }
        Ok(Tool {
            name: fields::optional(&mut tool, &path, "name")?.unwrap_or_default(),
            description: fields::optional(&mut tool, &path, "description")?,
            schema,
            strict: fields::optional(&mut tool, &path, "strict")?,
            cache: read_cache(&mut tool, &path)?,
            extra: tool,
        })
    };
    tools.iter().enumerate().map(read).collect()
}

fn read_choice(root: &mut Object) -> Result<(Option<ToolChoice>, Option<bool>), Refusal> {
    let path = "tool_choice";
    let Some(mut choice) = fields::optional::<Object>(root, "", path)? else { return Ok((None, None)) };
    let read = match fields::required::<String>(&mut choice, path, "type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(fields::required(&mut choice, path, "name")?),
        other => return Err(malformed("tool_choice.type", format!("unknown kind '{other}'"))),
    };
    let parallel = fields::optional::<bool>(&mut choice, path, "disable_parallel_tool_use")?.map(|disable| !disable);
    match choice.names().next() {
        Some(name) => Err(malformed(join(path, name), "unknown field")),
        None => Ok((Some(read), parallel)),
    }
}

/// What is new in `thinking` stays in the extras, as it was.
fn read_thinking(root: &mut Object, ask: &mut Ask) -> Result<(), Refusal> {
    let Some(raw) = root.take("thinking").filter(|raw| raw.get() != "null") else { return Ok(()) };
    let mut thinking = fields::object(&raw, "thinking")?;
    let kind: String = fields::required(&mut thinking, "thinking", "type")?;
    let mut reasoning = Reasoning {
        budget_tokens: fields::optional(&mut thinking, "thinking", "budget_tokens")?,
        summary: fields::optional(&mut thinking, "thinking", "display")?,
        effort: None,
    };
    if reasoning.summary.as_deref() == Some("summarized") {
        reasoning.summary = Some("auto".to_owned());
    }
    let known = match kind.as_str() {
        "enabled" => reasoning.budget_tokens.is_some_and(|budget| budget > 0),
        "adaptive" => reasoning.budget_tokens.is_none(),
        "disabled" if reasoning == Reasoning::default() => {
            reasoning.budget_tokens = Some(0);
            true
        }
        _ => false,
    };
    if known && thinking.is_empty() {
        ask.reasoning = Some(reasoning);
    } else {
        root.put("thinking", raw);
    }
    Ok(())
}

/// An effort without thinking bounds the answer too, which no other protocol can say: then it stays in the extras.
fn read_output(root: &mut Object, ask: &mut Ask) -> Result<(), Refusal> {
    let Some(mut config) = fields::optional::<Object>(root, "", "output_config")? else { return Ok(()) };
    if let Some(reasoning) = &mut ask.reasoning {
        reasoning.effort = fields::optional(&mut config, "output_config", "effort")?;
    }
    if let Some(mut format) = fields::optional::<Object>(&mut config, "output_config", "format")? {
        let path = "output_config.format";
        let kind: String = fields::required(&mut format, path, "type")?;
        if kind != "json_schema" {
            return Err(malformed(join(path, "type"), format!("unknown kind '{kind}'")));
        }
        let schema = fields::required(&mut format, path, "schema")?;
        if let Some(name) = format.names().next() {
            return Err(malformed(join(path, name), "unknown field"));
        }
        ask.format = Format::Schema { name: None, description: None, schema, strict: None };
    }
    if !config.is_empty() {
        root.put("output_config", fields::raw(&config));
    }
    Ok(())
}
