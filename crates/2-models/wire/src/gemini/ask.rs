//! Writes a request. Model and stream are in the path, so neither is in the body.

use serde_json::Number;

use super::parts;
use crate::{
    Ask, Format, Object, Part, Protocol, Raw, Reasoning, Refusal, Role, Tool, ToolChoice,
    fields::{self, Build, join},
};

fn no_place(field: impl Into<String>) -> Refusal {
    Refusal::NoPlace { field: field.into(), protocol: Protocol::Gemini }
}

pub fn write_ask(ask: &Ask, model: &str) -> Result<Vec<u8>, Refusal> {
    fields::only(&ask.extra, &[], "", Protocol::Gemini)?;
    if ask.parallel_tool_calls == Some(false) && !ask.tools.is_empty() {
        return Err(no_place("parallel_tool_calls: false"));
    }
    let system = ask.system.iter().enumerate();
    let system = system.filter_map(|(at, part)| parts::write_plain(part, &format!("system[{at}]")).transpose());
    let system: Vec<Raw> = system.collect::<Result<_, _>>()?;
    let declarations = ask.tools.iter().enumerate().map(|(at, tool)| write_tool(tool, at));
    let declarations: Vec<Raw> = declarations.collect::<Result<_, _>>()?;
    let tools = Build::new().list("functionDeclarations", &declarations);
    Ok(Build::new()
        .maybe("systemInstruction", (!system.is_empty()).then(|| Build::new().with("parts", &system).object()))
        .with("contents", &write_turns(ask, !counts_thoughts(model))?)
        .maybe("tools", (!tools.is_empty()).then(|| [tools.object()]))
        .maybe("toolConfig", write_choice(ask))
        .maybe("generationConfig", write_config(ask, model)?)
        .bytes())
}

/// What may be left out because it changes nothing in the answer: where the prompt may be cached (Gemini does that of its own
/// accord), and who the end user is (Gemini does not ask). Who made the request is told of them.
pub fn left_to_provider(ask: &Ask) -> Vec<String> {
    let mut found = Vec::new();
    let mut hints = |parts: &[Part], path: &str| {
        let with = parts.iter().enumerate().filter(|(_, part)| parts::has_cache_hint(part));
        found.extend(with.map(|(at, _)| format!("{path}[{at}].cache_control")));
    };
    hints(&ask.system, "system");
    for (at, turn) in ask.turns.iter().enumerate() {
        hints(&turn.parts, &format!("messages[{at}].content"));
    }
    let tools = ask.tools.iter().enumerate().filter(|(_, tool)| tool.cache.is_some());
    found.extend(tools.map(|(at, _)| format!("tools[{at}].cache_control")));
    found.extend(ask.end_user.is_some().then(|| "user".to_owned()));
    found
}

struct Content {
    role: &'static str,
    results: Vec<Raw>,
    parts: Vec<Raw>,
}

/// Turns of one side are merged, and responses of functions stand first in the turn after their calls, as many as there were.
fn write_turns(ask: &Ask, signed: bool) -> Result<Vec<Raw>, Refusal> {
    let names = parts::CallNames::of(&ask.turns);
    let mut contents: Vec<Content> = Vec::new();
    for (at, turn) in ask.turns.iter().enumerate() {
        let path = format!("messages[{at}]");
        fields::only(&turn.extra, &[], &path, Protocol::Gemini)?;
        let role = match turn.role {
            Role::User | Role::Tool => "user",
            Role::Assistant => "model",
            Role::System => return Err(no_place(join(&path, "role: system"))),
        };
        if contents.last().is_none_or(|last| last.role != role) {
            contents.push(Content { role, results: Vec::new(), parts: Vec::new() });
        }
        let Some(last) = contents.last_mut() else { continue };
        let (results, parts) = parts::write(&turn.parts, &names, signed, &path)?;
        last.results.extend(results);
        last.parts.extend(parts);
    }
    let write = |content: Content| {
        let parts: Vec<Raw> = content.results.into_iter().chain(content.parts).collect();
        Build::new().with("role", content.role).with("parts", &parts).raw()
    };
    Ok(contents.into_iter().map(write).collect())
}

fn write_tool(tool: &Tool, at: usize) -> Result<Raw, Refusal> {
    fields::only(&tool.extra, &[], &format!("tools[{at}]"), Protocol::Gemini)?;
    Ok(Build::new()
        .with("name", &tool.name)
        .maybe("description", tool.description.as_ref())
        .maybe("parametersJsonSchema", tool.schema.as_ref())
        .raw())
}

/// A strict tool asks for arguments that keep to the schema: forced calls do, others do in the mode VALIDATED.
fn write_choice(ask: &Ask) -> Option<Object> {
    let strict = ask.tools.iter().any(|tool| tool.strict == Some(true));
    let (mode, names) = match &ask.tool_choice {
        None | Some(ToolChoice::Auto) if strict => ("VALIDATED", None),
        None => return None,
        Some(ToolChoice::Auto) => ("AUTO", None),
        Some(ToolChoice::None) => ("NONE", None),
        Some(ToolChoice::Required) => ("ANY", None),
        Some(ToolChoice::Named(name)) => ("ANY", Some([name])),
    };
    let calling = Build::new().with("mode", mode).maybe("allowedFunctionNames", names).object();
    Some(Build::new().with("functionCallingConfig", &calling).object())
}

fn write_config(ask: &Ask, model: &str) -> Result<Option<Object>, Refusal> {
    if let Some(seed) = ask.seed.filter(|seed| i32::try_from(*seed).is_err()) {
        return Err(no_place(format!("seed: {seed}")));
    }
    let zero = |number: &&Number| number.as_f64() != Some(0.0);
    let config = Build::new()
        .maybe("maxOutputTokens", ask.max_output_tokens)
        .maybe("temperature", ask.temperature.as_ref())
        .maybe("topP", ask.top_p.as_ref())
        .maybe("topK", ask.top_k)
        // Not every model has these; a zero says nothing.
        .maybe("presencePenalty", ask.presence_penalty.as_ref().filter(zero))
        .maybe("frequencyPenalty", ask.frequency_penalty.as_ref().filter(zero))
        .maybe("seed", ask.seed)
        .maybe("candidateCount", ask.choices.filter(|choices| *choices != 1))
        .maybe("stopSequences", (!ask.stop.is_empty()).then_some(&ask.stop));
    let config = match &ask.format {
        Format::Text => config,
        Format::Json => config.with("responseMimeType", "application/json"),
        Format::Schema { name, description, schema, .. } => {
            let schema = fields::titled(schema, name.as_deref(), description.as_deref())?;
            config.with("responseMimeType", "application/json").with("responseJsonSchema", &schema)
        }
    };
    let thinking = ask.reasoning.as_ref().map(|reasoning| write_thinking(reasoning, model)).transpose()?;
    let config = config.maybe("thinkingConfig", thinking.flatten());
    Ok((!config.is_empty()).then(|| config.object()))
}

/// Models before the third generation, which sign no calls either.
fn counts_thoughts(model: &str) -> bool {
    let name = model.strip_prefix("models/").unwrap_or(model);
    ["gemini-1", "gemini-2", "gemma"].iter().any(|old| name.starts_with(old))
}

/// Models of the second generation count thoughts in tokens, later ones in levels. The tokens of a level are those that
/// Google's own OpenAI endpoint takes.
fn write_thinking(reasoning: &Reasoning, model: &str) -> Result<Option<Object>, Refusal> {
    let counts = counts_thoughts(model);
    let (budget, level) = match (reasoning.budget_tokens, reasoning.effort.as_deref()) {
        (Some(_), Some(effort)) if effort != "none" => return Err(no_place(format!("reasoning_effort: {effort}"))),
        (Some(budget), _) => (Some(budget), None),
        (None, Some("none")) => (Some(0), None),
        (None, Some("minimal" | "low")) if counts => (Some(1_024), None),
        (None, Some("medium")) if counts => (Some(8_192), None),
        (None, Some("high")) if counts => (Some(24_576), None),
        (None, Some(level @ ("minimal" | "low" | "medium" | "high"))) => (None, Some(level)),
        (None, Some(other)) => return Err(no_place(format!("reasoning_effort: {other}"))),
        (None, None) => (None, None),
    };
    let shown = match reasoning.summary.as_deref() {
        None => None,
        Some("auto") => Some(true),
        Some("omitted") => Some(false),
        Some(other) => return Err(no_place(format!("reasoning.summary: {other}"))),
    };
    let config =
        Build::new().maybe("thinkingBudget", budget).maybe("thinkingLevel", level).maybe("includeThoughts", shown);
    Ok((!config.is_empty()).then(|| config.object()))
}
