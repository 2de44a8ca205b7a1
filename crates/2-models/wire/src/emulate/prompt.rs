//! What the model is told: which JSON is wanted, which tools there are, and what came of calls so far.

use std::collections::HashMap;

use super::{Choice, Tools};
use crate::{
    Ask, Object, Part, Raw, Role, Turn,
    fields::{self, Build},
};

pub fn ask_for_json(ask: &mut Ask, schema: Option<&Raw>) {
    let text = match schema {
        Some(schema) => {
            let what = "Answer with one JSON value and nothing else. It must be valid against this JSON schema:";
            format!("{what}\n{}", schema.get())
        }
        None => "Answer with one JSON object and nothing else.".to_owned(),
    };
    ask.system.push(Part::text(text));
}

pub fn ask_for_call(ask: &mut Ask, tools: &Tools, reply: Option<&Raw>) {
    if tools.choice == Choice::Fixed
        && let Some((name, schema)) = tools.callable.first()
    {
        let described = ask_description(ask, name);
        let text = format!(
            "Call the tool '{name}'.{described} Answer with its arguments, as one JSON object, and nothing else. They must be \
             valid against this JSON schema:\n{}",
            schema.get()
        );
        ask.system.push(Part::text(text));
        return;
    }
    let list = tools.callable.iter().map(|(name, schema)| {
        let description = description(ask, name);
        Build::new().with("name", name).maybe("description", description).with("arguments", schema).raw()
    });
    let list: Vec<Raw> = list.collect();
    let mut text = format!(
        "You have tools. This is their list, each with the JSON schema of its arguments:\n{}\nTo call one, answer with one \
         JSON object and nothing else: {{\"tool\": its name, \"arguments\": an object}}. You are then told its result.",
        fields::raw(&list).get()
    );
    match (tools.choice, reply) {
        (Choice::Required | Choice::Fixed, _) => text.push_str(" You must call one now."),
        (Choice::Auto, None) => text.push_str(" To answer without a tool: {\"reply\": your answer}."),
        (Choice::Auto, Some(schema)) => {
            let rest = " To answer without a tool: {\"reply\": a value that is valid against this JSON schema}:";
            text.push_str(&format!("{rest}\n{}", schema.get()));
        }
    }
    ask.system.push(Part::text(text));
}

fn description<'a>(ask: &'a Ask, name: &str) -> Option<&'a str> {
    ask.tools.iter().find(|tool| tool.name == name).and_then(|tool| tool.description.as_deref())
}

fn ask_description(ask: &Ask, name: &str) -> String {
    description(ask, name).map(|text| format!(" {text}")).unwrap_or_default()
}

pub fn has_calls(turns: &[Turn]) -> bool {
    let call = |part: &Part| matches!(part, Part::ToolCall { .. } | Part::ToolResult { .. });
    turns.iter().any(|turn| turn.parts.iter().any(call))
}

/// Calls and results as text, in the words that the model is asked to use.
pub fn retell_calls(turns: &mut Vec<Turn>) {
    let mut names: HashMap<String, String> = HashMap::new();
    for turn in turns.iter_mut() {
        let mut parts = Vec::with_capacity(turn.parts.len());
        for part in std::mem::take(&mut turn.parts) {
            match part {
                Part::ToolCall { id, name, arguments, extra } => {
                    parts.push(Part::Text { text: call(&name, &arguments), cache: None, extra });
                    names.insert(id, name);
                }
                Part::ToolResult { call, parts: results, is_error, cache, extra } => {
                    let name = names.get(&call).map_or("", String::as_str);
                    let how = if is_error { "The tool failed" } else { "Result of the tool" };
                    parts.push(Part::Text { text: format!("{how} '{name}':"), cache, extra });
                    parts.extend(results);
                }
                other => parts.push(other),
            }
        }
        turn.parts = parts;
        if turn.role == Role::Tool {
            turn.role = Role::User;
        }
    }
    // Results and what the user said next are one turn: templates of small models want them to alternate.
    turns.dedup_by(|later, turn| {
        let one =
            turn.role == Role::User && later.role == Role::User && later.extra.is_empty() && turn.extra.is_empty();
        if one {
            turn.parts.append(&mut later.parts);
        }
        one
    });
}

/// As it was, also where a model once wrote arguments that are no JSON.
fn call(name: &str, arguments: &str) -> String {
    match Object::parse(arguments.as_bytes()) {
        Ok(arguments) => Build::new().with("tool", name).with("arguments", &arguments).raw().get().to_owned(),
        Err(_) => Build::new().with("tool", name).with("arguments", arguments).raw().get().to_owned(),
    }
}
