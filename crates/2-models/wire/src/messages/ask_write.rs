//! Writes a request for a provider.

use serde_json::Number;

use super::blocks::{To, write_block, write_blocks, write_cache};
use crate::{
    Ask, Format, Object, Part, Protocol, Raw, Reasoning, Refusal, Role, Tool, ToolChoice, Turn,
    fields::{self, Build, join, malformed},
};

/// Fields of the root that only this protocol has.
const OWN_FIELDS: &[&str] = &[
    "cache_control",
    "container",
    "context_management",
    "inference_geo",
    "mcp_servers",
    "output_config",
    "output_format",
    "service_tier",
    "thinking",
];

fn no_place(field: impl Into<String>) -> Refusal {
    Refusal::NoPlace { field: field.into(), protocol: Protocol::Messages }
}

/// `max_tokens` is not optional here. Where the client's protocol lets it out, the caller fills in the most that the model can
/// write; a number made up in this place would cut answers short.
pub fn write_ask(ask: &Ask, model: &str) -> Result<Vec<u8>, Refusal> {
    refuse_strangers(ask)?;
    let max_tokens =
        ask.max_output_tokens.ok_or_else(|| malformed("max_tokens", "the model's largest answer is not known"))?;
    Ok(write(ask, model)?.with("max_tokens", &max_tokens).maybe("stream", ask.stream.then_some(true)).bytes())
}

/// The request of `count_tokens`, which takes neither a bound nor how the answer is sampled.
pub fn write_count(ask: &Ask, model: &str) -> Result<Vec<u8>, Refusal> {
    refuse_strangers(ask)?;
    Ok(write(ask, model)?.bytes())
}

fn write(ask: &Ask, model: &str) -> Result<Build, Refusal> {
    let to = To { own: ask.from == Some(Protocol::Messages), client: false };
    let system = write_blocks(to, &ask.system, "system")?;
    let tools =
        ask.tools.iter().enumerate().map(|(at, tool)| write_tool(to, tool, at)).collect::<Result<Vec<_>, _>>()?;
    let (thinking, effort) = match &ask.reasoning {
        Some(reasoning) => write_reasoning(reasoning)?,
        None => (None, None),
    };
    let root = Build::new()
        .with("model", model)
        .list("system", &system)
        .with("messages", &write_turns(to, &ask.turns)?)
        .list("tools", &tools)
        .maybe("tool_choice", write_choice(ask))
        .maybe("temperature", ask.temperature.as_ref())
        .maybe("top_p", ask.top_p.as_ref())
        .maybe("top_k", ask.top_k)
        .maybe("stop_sequences", (!ask.stop.is_empty()).then_some(&ask.stop))
        .maybe("thinking", thinking)
        .maybe("output_config", write_output(ask, effort)?)
        .maybe("metadata", write_metadata(to, ask)?);
    to.extra(root, &ask.extra, OWN_FIELDS, "")
}

fn write_metadata(to: To, ask: &Ask) -> Result<Option<Object>, Refusal> {
    let user = Build::new().maybe("user_id", ask.end_user.as_ref());
    let rest = ask.extra.get("metadata").filter(|_| to.own).map(|rest| fields::object(rest, "metadata")).transpose()?;
    let metadata = match &rest {
        Some(rest) => user.extra(rest, &rest.names().collect::<Vec<_>>()),
        None => user,
    };
    Ok((!metadata.is_empty()).then(|| metadata.object()))
}

fn refuse_strangers(ask: &Ask) -> Result<(), Refusal> {
    // OpenAI has a field of this name with other words in it.
    let tier = ask.extra.get("service_tier").map_or("null", |tier| tier.get());
    if ask.from != Some(Protocol::Messages) && !matches!(tier, "null" | "\"auto\"" | "\"standard_only\"") {
        return Err(no_place("service_tier"));
    }
    let zero = |number: &Number| number.as_f64() == Some(0.0);
    let strangers = [
        ("presence_penalty", ask.presence_penalty.as_ref().is_some_and(|number| !zero(number))),
        ("frequency_penalty", ask.frequency_penalty.as_ref().is_some_and(|number| !zero(number))),
        ("seed", ask.seed.is_some()),
        ("n", ask.choices.is_some_and(|choices| choices != 1)),
        ("response_format.json_object", matches!(ask.format, Format::Json)),
        ("temperature above 1", ask.temperature.as_ref().and_then(Number::as_f64).is_some_and(|number| number > 1.0)),
    ];
    match strangers.iter().find(|(_, there)| *there) {
        Some((name, _)) => Err(no_place(*name)),
        None => Ok(()),
    }
}

struct Message {
    role: &'static str,
    results: Vec<Raw>,
    blocks: Vec<Raw>,
    extra: Build,
}

fn own_names(to: To, extra: &Object) -> Vec<&str> {
    extra.names().filter(|_| to.own).collect()
}

/// User and assistant take turns, and results of tools stand first in the turn after their calls: the provider asks for both.
fn write_turns(to: To, turns: &[Turn]) -> Result<Vec<Raw>, Refusal> {
    let mut messages: Vec<Message> = Vec::new();
    for (at, turn) in turns.iter().enumerate() {
        let path = format!("messages[{at}]");
        if !to.own {
            fields::only(&turn.extra, &[], &path, Protocol::Messages)?;
        }
        let role = match turn.role {
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
            // Moved to the front it would say something else to the turns before it.
            Role::System => return Err(no_place(join(&path, "role: system"))),
        };
        if messages.last().is_none_or(|last| last.role != role) {
            messages.push(Message { role, results: Vec::new(), blocks: Vec::new(), extra: Build::new() });
        }
        let Some(last) = messages.last_mut() else { continue };
        last.extra = std::mem::take(&mut last.extra).extra(&turn.extra, &own_names(to, &turn.extra));
        for (at, part) in turn.parts.iter().enumerate() {
            let Some(block) = write_block(to, part, &format!("{path}.content[{at}]"))? else { continue };
            if matches!(part, Part::ToolResult { .. }) { last.results.push(block) } else { last.blocks.push(block) }
        }
    }
    let write = |message: Message| {
        let content: Vec<Raw> = message.results.into_iter().chain(message.blocks).collect();
        let extra = message.extra.object();
        let names: Vec<&str> = extra.names().collect();
        Build::new().with("role", message.role).with("content", &content).extra(&extra, &names).raw()
    };
    Ok(messages.into_iter().map(write).collect())
}

fn write_tool(to: To, tool: &Tool, at: usize) -> Result<Raw, Refusal> {
    // One of the provider's own has a type; `function` is what OpenAI calls all of the client's.
    let own = tool.extra.get("type").is_some_and(|kind| kind.get() != "\"function\"");
    let nothing = || Build::kind("object").with("properties", &Object::default()).raw();
    let written = Build::new()
        .maybe("name", (!tool.name.is_empty()).then_some(&tool.name))
        .maybe("description", tool.description.as_ref())
        .maybe("input_schema", tool.schema.clone().or_else(|| (!own).then(nothing)))
        .maybe("strict", tool.strict)
        .maybe("cache_control", write_cache(tool.cache.as_ref()));
    Ok(to.extra(written, &tool.extra, &[], &format!("tools[{at}]"))?.raw())
}

fn write_choice(ask: &Ask) -> Option<Object> {
    let disable = ask.parallel_tool_calls.map(|parallel| !parallel);
    let (kind, name) = match (&ask.tool_choice, disable) {
        (None, None) => return None,
        (None | Some(ToolChoice::Auto), _) => ("auto", None),
        // Without calls there are none side by side, so the other field would say nothing; the provider refuses it here.
        (Some(ToolChoice::None), _) => return Some(Build::kind("none").object()),
        (Some(ToolChoice::Required), _) => ("any", None),
        (Some(ToolChoice::Named(name)), _) => ("tool", Some(name)),
    };
    Some(Build::kind(kind).maybe("name", name).maybe("disable_parallel_tool_use", disable).object())
}

/// An effort without a budget lets the model decide when to think.
fn write_reasoning(reasoning: &Reasoning) -> Result<(Option<Object>, Option<String>), Refusal> {
    let off = reasoning.budget_tokens == Some(0) || reasoning.effort.as_deref() == Some("none");
    let display = match reasoning.summary.as_deref() {
        None => None,
        Some("auto") if !off => Some("summarized"),
        Some("omitted") if !off => Some("omitted"),
        Some(other) => return Err(no_place(format!("reasoning.summary: {other}"))),
    };
    let effort = match reasoning.effort.as_deref() {
        None | Some("none") => None,
        Some(effort @ ("low" | "medium" | "high" | "xhigh" | "max")) => Some(effort.to_owned()),
        Some(other) => return Err(no_place(format!("reasoning_effort: {other}"))),
    };
    let thinking = match reasoning.budget_tokens {
        _ if off => Build::kind("disabled"),
        Some(budget) => Build::kind("enabled").with("budget_tokens", &budget),
        None => Build::kind("adaptive"),
    };
    Ok((Some(thinking.maybe("display", display).object()), effort))
}

fn write_output(ask: &Ask, effort: Option<String>) -> Result<Option<Object>, Refusal> {
    let format = match &ask.format {
        Format::Schema { name, description, schema, .. } => {
            let schema = fields::titled(schema, name.as_deref(), description.as_deref())?;
            Some(Build::kind("json_schema").with("schema", &schema).object())
        }
        Format::Text | Format::Json => None,
    };
    let rest = ask.extra.get("output_config").map(|rest| fields::object(rest, "output_config")).transpose()?;
    let config = Build::new().maybe("effort", effort).maybe("format", format);
    let config = match &rest {
        Some(rest) => config.extra(rest, &rest.names().collect::<Vec<_>>()),
        None => config,
    };
    Ok((!config.is_empty()).then(|| config.object()))
}
