//! Writes a request for a provider.

use super::message::{To, no_place, write_content, write_turn};
use crate::{
    Ask, Dialect, Format, Object, Part, Protocol, Raw, Reasoning, Refusal, Tool, ToolChoice,
    fields::{self, Build},
};

/// Fields that the other protocols' requests may carry under the same name and with the same meaning.
const SHARED_FIELDS: &[&str] = &[
    "logit_bias",
    "logprobs",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "top_logprobs",
    "verbosity",
];

/// Tokens of thinking up to which an effort is low, and up to which it is medium.
const LOW_TOKENS: u64 = 4_096;
const MEDIUM_TOKENS: u64 = 16_384;

pub fn write_ask(ask: &Ask, model: &str, dialect: Dialect) -> Result<Vec<u8>, Refusal> {
    let to = To { own: ask.from == Some(Protocol::Chat), wide: dialect == Dialect::Compatible };
    if let Some(tier) = ask.extra.get("service_tier")
        && !to.own
        && !matches!(tier.get(), "null" | "\"auto\"" | "\"default\"" | "\"flex\"" | "\"scale\"" | "\"priority\"")
    {
        // Anthropic has a field of this name with other words in it.
        return Err(no_place("service_tier"));
    }
    if ask.top_k.is_some() && !to.own && !to.wide {
        return Err(no_place("top_k"));
    }
    let mut messages = Vec::with_capacity(ask.turns.len() + 1);
    let system: Vec<&Part> = ask.system.iter().collect();
    if let Some(content) = write_content(to, &system, "system")? {
        messages.push(Build::new().with("role", "system").with("content", &content).raw());
    }
    for (at, turn) in ask.turns.iter().enumerate() {
        messages.extend(write_turn(to, turn, &format!("messages[{at}]"))?);
    }
    let tools = ask.tools.iter().enumerate().map(|(at, tool)| write_tool(to, tool, &format!("tools[{at}]")));
    let tools = tools.collect::<Result<Vec<_>, _>>()?;
    let mut extra = ask.extra.clone();
    let options = write_stream_options(ask, extra.take("stream_options"))?;
    let effort = ask.reasoning.as_ref().map(|reasoning| write_effort(ask.from, reasoning)).transpose()?.flatten();
    let root = Build::new()
        .with("model", model)
        .with("messages", &messages)
        .list("tools", &tools)
        .maybe("tool_choice", ask.tool_choice.as_ref().map(write_choice))
        .maybe("parallel_tool_calls", ask.parallel_tool_calls)
        .maybe(dialect.max_field(), ask.max_output_tokens)
        .maybe("temperature", ask.temperature.as_ref())
        .maybe("top_p", ask.top_p.as_ref())
        .maybe("top_k", ask.top_k)
        .maybe("presence_penalty", ask.presence_penalty.as_ref())
        .maybe("frequency_penalty", ask.frequency_penalty.as_ref())
        .maybe("seed", ask.seed)
        .maybe("n", ask.choices)
        .maybe("stop", (!ask.stop.is_empty()).then_some(&ask.stop))
        .maybe("response_format", write_format(&ask.format))
        .maybe("reasoning_effort", effort)
        .maybe("stream", ask.stream.then_some(true))
        .maybe("stream_options", options)
        .maybe("user", ask.end_user.as_ref());
    Ok(to.extra(root, &extra, SHARED_FIELDS, "")?.bytes())
}

/// Hints that OpenAI takes no field for because it does by itself what they ask: it caches the beginning of any prompt. Who
/// made the request is told of them.
pub fn left_to_provider(ask: &Ask, dialect: Dialect) -> Vec<String> {
    let mut found = Vec::new();
    if ask.from == Some(Protocol::Chat) || dialect == Dialect::Compatible {
        return found;
    }
    let mut hints = |parts: &[Part], path: &str| {
        for (at, part) in parts.iter().enumerate() {
            if let Part::Text { cache: Some(_), .. }
            | Part::Image { cache: Some(_), .. }
            | Part::ToolResult { cache: Some(_), .. } = part
            {
                found.push(format!("{path}[{at}].cache_control"));
            }
        }
    };
    hints(&ask.system, "system");
    for (at, turn) in ask.turns.iter().enumerate() {
        hints(&turn.parts, &format!("messages[{at}].content"));
    }
    for (at, tool) in ask.tools.iter().enumerate() {
        if tool.cache.is_some() {
            found.push(format!("tools[{at}].cache_control"));
        }
    }
    found
}

/// A provider counts a stream only if it is asked to, and without its figures there is no bill.
fn write_stream_options(ask: &Ask, rest: Option<Raw>) -> Result<Option<Object>, Refusal> {
    if !ask.stream {
        return rest.map(|rest| fields::object(&rest, "stream_options")).transpose();
    }
    let options = Build::new().with("include_usage", &true);
    let Some(rest) = rest else { return Ok(Some(options.object())) };
    let rest = fields::object(&rest, "stream_options")?;
    let names: Vec<&str> = rest.names().collect();
    Ok(Some(options.extra(&rest, &names).object()))
}

fn write_tool(to: To, tool: &Tool, path: &str) -> Result<Raw, Refusal> {
    if to.own && tool.extra.get("type").is_some() {
        return Ok(fields::raw(&tool.extra));
    }
    let mut rest = tool.extra.clone();
    if rest.get("type").is_some_and(|kind| kind.get() == "\"function\"") {
        rest.take("type");
    }
    let inner = rest.take("function").map(|inner| fields::object(&inner, path)).transpose()?.unwrap_or_default();
    let function = Build::new()
        .with("name", &tool.name)
        .maybe("description", tool.description.as_ref())
        .maybe("parameters", tool.schema.as_ref())
        .maybe("strict", tool.strict);
    let function = to.extra(function, &inner, &[], path)?.object();
    let written = Build::kind("function").with("function", &function);
    let written = written.maybe("cache_control", to.cache(tool.cache.as_ref()));
    Ok(to.extra(written, &rest, &[], path)?.raw())
}

fn write_choice(choice: &ToolChoice) -> Raw {
    match choice {
        ToolChoice::Auto => fields::raw("auto"),
        ToolChoice::None => fields::raw("none"),
        ToolChoice::Required => fields::raw("required"),
        ToolChoice::Named(name) => {
            Build::kind("function").with("function", &Build::new().with("name", name).object()).raw()
        }
    }
}

/// The name of a schema is needed here and is not said by all.
fn write_format(format: &Format) -> Option<Object> {
    match format {
        Format::Text => None,
        Format::Json => Some(Build::kind("json_object").object()),
        Format::Schema { name, description, schema, strict } => {
            let inner = Build::new()
                .with("name", name.as_deref().unwrap_or("answer"))
                .maybe("description", description.as_ref())
                .with("schema", schema)
                .maybe("strict", *strict);
            Some(Build::kind("json_schema").with("json_schema", &inner.object()).object())
        }
    }
}

/// A budget of thoughts becomes the effort that comes closest; that the whole stays below the limit of output is kept.
fn write_effort(from: Option<Protocol>, reasoning: &Reasoning) -> Result<Option<String>, Refusal> {
    if reasoning.summary.is_some() {
        let responses = from == Some(Protocol::Responses);
        return Err(no_place(if responses { "reasoning.summary" } else { "thinking.display" }));
    }
    let of_budget = |tokens| match tokens {
        0 => "none",
        1..=LOW_TOKENS => "low",
        _ if tokens <= MEDIUM_TOKENS => "medium",
        _ => "high",
    };
    Ok(reasoning.effort.clone().or_else(|| reasoning.budget_tokens.map(|tokens| of_budget(tokens).to_owned())))
}
