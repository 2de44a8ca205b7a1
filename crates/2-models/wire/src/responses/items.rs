//! The items of an answer and the answer around them.

use crate::{
    Ask, Finish, Object, Raw, Usage,
    fields::{self, Build},
};

/// What a stream and a whole answer say of an item, with ids that are made from the answer's.
pub fn thoughts(id: &str, text: &str, sealed: Option<&str>) -> Build {
    let summary: &[Object] = &[Build::kind("summary_text").with("text", text).object()];
    let summary = if text.is_empty() { &[] } else { summary };
    Build::kind("reasoning").with("id", id).with("summary", summary).maybe("encrypted_content", sealed)
}

pub fn message(id: &str, status: &str, parts: &[Raw]) -> Build {
    Build::kind("message").with("id", id).with("status", status).with("role", "assistant").with("content", parts)
}

pub fn text(text: &str) -> Build {
    Build::kind("output_text").with("text", text).with::<[Raw]>("annotations", &[]).with::<[Raw]>("logprobs", &[])
}

pub fn refusal(text: &str) -> Build {
    Build::kind("refusal").with("refusal", text)
}

pub fn call(id: &str, status: &str, call: &str, name: &str, arguments: &str) -> Build {
    Build::kind("function_call")
        .with("id", id)
        .with("call_id", call)
        .with("name", name)
        .with("arguments", arguments)
        .with("status", status)
}

/// The state of an answer: its status, the reason if it is incomplete, and what neither says. OpenAI has two reasons; what
/// was cut off by anything else than a filter counts as cut off by a limit.
pub fn status(finish: &Finish) -> (&'static str, Option<&str>, Option<String>) {
    const LIMIT: Option<&str> = Some("max_output_tokens");
    const FILTER: Option<&str> = Some("content_filter");
    match finish {
        Finish::Stop | Finish::ToolCalls => ("completed", None, None),
        Finish::StopSequence(text) => ("completed", None, text.as_ref().map(|text| format!("stop_sequence: {text}"))),
        Finish::Length => ("incomplete", LIMIT, None),
        Finish::ContextFull => ("incomplete", LIMIT, Some("context_full".to_owned())),
        Finish::Paused => ("incomplete", LIMIT, Some("paused".to_owned())),
        Finish::ContentFilter => ("incomplete", FILTER, None),
        Finish::Refused => ("incomplete", FILTER, Some("refused".to_owned())),
        Finish::Error => ("failed", None, None),
        Finish::Other(word) => ("incomplete", Some(word), None),
    }
}

/// Everything of a response that does not change while it is written.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub id: String,
    pub model: String,
    pub created_s: u64,
    pub echo: Object,
}

/// And what does.
#[derive(Default)]
pub struct State<'a> {
    pub status: &'a str,
    pub incomplete: Option<&'a str>,
    pub error: Option<Object>,
    pub output: &'a [Raw],
    pub usage: Option<Usage>,
    pub extra: Option<&'a Object>,
}

impl Head {
    pub fn new(id: &str, model: &str, created_s: Option<u64>, ask: &Ask) -> Self {
        // SDKs and programs look at the prefix.
        let id = if id.starts_with("resp_") { id.to_owned() } else { format!("resp_{id}") };
        Self { id, model: model.to_owned(), created_s: created_s.unwrap_or(0), echo: ask.echo.clone() }
    }

    /// The id of the item at this place.
    pub fn item(&self, prefix: &str, at: usize) -> String {
        format!("{prefix}_{}_{at}", self.id.trim_start_matches("resp_"))
    }

    pub fn response(&self, state: &State<'_>) -> Object {
        let echo = |name: &str, default: Raw| {
            let said = self.echo.get(name).filter(|value| value.get() != "null");
            said.map_or(default, |value| value.to_owned())
        };
        let none = || fields::raw(&());
        let incomplete = state.incomplete.map(|reason| Build::new().with("reason", reason).object());
        let text = Build::new().with("format", &Build::kind("text").object()).raw();
        let reasoning = Build::new().with("effort", &()).with("summary", &()).raw();
        let extra = state.extra.filter(|extra| !extra.is_empty());
        Build::new()
            .with("id", &self.id)
            .with("object", "response")
            .with("created_at", &self.created_s)
            .with("status", state.status)
            .with("background", &false)
            .with("error", &state.error)
            .with("incomplete_details", &incomplete)
            .with("instructions", &echo("instructions", none()))
            .with("max_output_tokens", &echo("max_output_tokens", none()))
            .with("metadata", &echo("metadata", fields::raw(&Object::default())))
            .with("model", &self.model)
            .with("output", state.output)
            .with("parallel_tool_calls", &echo("parallel_tool_calls", fields::raw(&true)))
            .with("previous_response_id", &())
            .with("prompt_cache_key", &echo("prompt_cache_key", none()))
            .with("reasoning", &echo("reasoning", reasoning))
            .with("safety_identifier", &echo("safety_identifier", none()))
            .with("store", &false)
            .with("temperature", &echo("temperature", fields::raw(&1.0)))
            .with("text", &echo("text", text))
            .with("tool_choice", &echo("tool_choice", fields::raw("auto")))
            .with::<Raw>("tools", &echo("tools", fields::raw::<[Raw]>(&[])))
            .with("top_p", &echo("top_p", fields::raw(&1.0)))
            .with("truncation", "disabled")
            .with("usage", &state.usage.map(usage))
            .with("user", &echo("user", none()))
            .maybe("agent_os", extra.map(|extra| Build::new().with("extra", extra).object()))
            .object()
    }
}

fn usage(usage: Usage) -> Object {
    let input = Build::new().with("cached_tokens", &usage.cache_read).with("cache_write_tokens", &usage.cache_write);
    let input = input.object();
    Build::new()
        .with("input_tokens", &usage.input)
        .with("input_tokens_details", &input)
        .with("output_tokens", &usage.output)
        .with("output_tokens_details", &Build::new().with("reasoning_tokens", &usage.reasoning).object())
        .with("total_tokens", &usage.input.saturating_add(usage.output))
        .object()
}
