//! JSON by schema and calls of tools, from models that have neither: both are asked for in words, and what comes back is
//! checked before anybody believes it.
//!
//! A model that was told to write JSON may write anything. So an answer is held until it is whole, streams included, and one
//! that is not what was asked for is malformed, never passed on as if it were. The client is told what was emulated: a model
//! with tools of its own calls several at once and chooses better among them.

mod check;
mod prompt;
mod recover;
mod stream;
#[cfg(test)]
mod tests;

use crate::{Ask, Format, Raw, Refusal, ToolChoice, fields};
pub use stream::Stream;

/// What the model has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacks {
    pub tools: bool,
    pub json_schema: bool,
    pub json_object: bool,
}

/// How an answer is read back.
#[derive(Clone, Debug)]
pub struct Emulation {
    tools: Option<Tools>,
    /// Calls of the past were put into words.
    retold: bool,
    /// Of the text, where it is no call: any object, or one by this schema.
    format: Option<Option<Raw>>,
}

#[derive(Clone, Debug)]
struct Tools {
    /// Names and schemas of those that may be called now.
    callable: Vec<(String, Raw)>,
    choice: Choice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// A call, or a reply.
    Auto,
    Required,
    /// The one tool is fixed, and the answer is its arguments.
    Fixed,
}

/// The request in words that any model can read. `None`: it needs nothing that the model lacks.
pub fn emulate(ask: &Ask, lacks: Lacks) -> Result<Option<(Ask, Emulation)>, Refusal> {
    let mut asked = ask.clone();
    let past_calls = prompt::has_calls(&ask.turns);
    let with_tools = lacks.tools && (!ask.tools.is_empty() || past_calls);
    let wants_schema = matches!(ask.format, Format::Schema { .. });
    let with_format = (wants_schema && lacks.json_schema) || (matches!(ask.format, Format::Json) && lacks.json_object);
    if !with_tools && !with_format {
        return Ok(None);
    }
    let format = match &ask.format {
        Format::Text => None,
        Format::Json => Some(None),
        Format::Schema { schema, .. } => Some(Some(schema.clone())),
    };
    if !with_tools {
        prompt::ask_for_json(&mut asked, format.as_ref().and_then(Option::as_ref));
        asked.format = if lacks.json_object { Format::Text } else { Format::Json };
        return Ok(Some((asked, Emulation { tools: None, retold: false, format })));
    }
    let tools = tools(ask)?;
    prompt::retell_calls(&mut asked.turns);
    match &tools {
        // Calls lie in the past only; the answer is an ordinary one.
        None if with_format => {
            prompt::ask_for_json(&mut asked, format.as_ref().and_then(Option::as_ref));
            asked.format = if lacks.json_object { Format::Text } else { Format::Json };
        }
        None => {}
        Some(tools) => {
            let reply = format.as_ref().and_then(Option::as_ref);
            prompt::ask_for_call(&mut asked, tools, reply);
            asked.format = match check::union(tools, reply) {
                Some(schema) if !lacks.json_schema => {
                    Format::Schema { name: Some("tool_call".to_owned()), description: None, schema, strict: None }
                }
                _ if lacks.json_object => Format::Text,
                _ => Format::Json,
            };
        }
    }
    asked.tools = Vec::new();
    asked.tool_choice = None;
    asked.parallel_tool_calls = None;
    // A schema that the model itself keeps to is not ours to check, but where it is part of the reply.
    let format = format.filter(|_| with_format || tools.is_some());
    Ok(Some((asked, Emulation { tools, retold: past_calls, format })))
}

/// The tools that may be called now: none, if the client forbids it.
fn tools(ask: &Ask) -> Result<Option<Tools>, Refusal> {
    let mut callable = Vec::with_capacity(ask.tools.len());
    for (at, tool) in ask.tools.iter().enumerate() {
        // Tools that a provider runs itself have a type of their own.
        if tool.extra.get("type").is_some_and(|kind| kind.get() != "\"function\"") {
            return Err(Refusal::NotCapable { what: format!("tools[{at}]"), model: ask.model.clone() });
        }
        callable.push((tool.name.clone(), tool.schema.clone().unwrap_or_else(check::any_object)));
    }
    let choice = match &ask.tool_choice {
        Some(ToolChoice::None) => return Ok(None),
        Some(ToolChoice::Required) => Choice::Required,
        Some(ToolChoice::Named(name)) => {
            callable.retain(|(known, _)| known == name);
            if callable.is_empty() {
                return Err(fields::malformed("tool_choice", format!("there is no tool '{name}'")));
            }
            Choice::Fixed
        }
        Some(ToolChoice::Auto) | None => Choice::Auto,
    };
    Ok((!callable.is_empty()).then_some(Tools { callable, choice }))
}

impl Emulation {
    /// Names of what was emulated, for the client.
    pub fn what(&self) -> Vec<&'static str> {
        let format = match &self.format {
            Some(Some(_)) => Some("json_schema"),
            Some(None) => Some("json_object"),
            None => None,
        };
        (self.tools.is_some() || self.retold).then_some("tools").into_iter().chain(format).collect()
    }

    /// Of a stream, which is held until it is whole.
    pub fn stream(&self) -> Stream {
        Stream::new(self.clone())
    }
}
