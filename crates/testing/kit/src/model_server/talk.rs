//! What a request asks for, as far as the answer depends on it. Read from the JSON by hand: the reader under test must not
//! be its own judge.

use serde_json::Value;

use super::Asked;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    Chat,
    Responses,
    Messages,
    Gemini,
}

#[derive(Clone, Debug)]
pub struct Talk {
    pub speech: Speech,
    pub model: String,
    pub is_stream: bool,
    /// Chat alone sends the cost of a stream only to who asks for it.
    pub usage_in_stream: bool,
    /// All texts, the last of them that of the newest turn.
    pub texts: Vec<String>,
    /// The newest turn is the result of a tool.
    pub has_result: bool,
    /// Name and schema of the arguments.
    pub tools: Vec<(String, Value)>,
    /// The tool that must be called; all others are left alone.
    pub forced: Option<String>,
    pub tools_forbidden: bool,
    /// Of the whole answer.
    pub schema: Option<Value>,
    pub output_max: Option<u64>,
}

impl Talk {
    pub fn read(asked: &Asked) -> Option<Self> {
        let body = asked.json();
        let route = asked.route();
        let speech = match route {
            _ if route.ends_with("/chat/completions") => Speech::Chat,
            _ if route.ends_with("/responses") => Speech::Responses,
            _ if route.ends_with("/messages") || route.ends_with("/messages/count_tokens") => Speech::Messages,
            _ if route.contains("enerateContent") => Speech::Gemini,
            _ => return None,
        };
        let turns = match speech {
            Speech::Chat | Speech::Messages => &body["messages"],
            Speech::Responses => &body["input"],
            Speech::Gemini => &body["contents"],
        };
        let mut texts = Vec::new();
        for own in ["system", "instructions", "systemInstruction"] {
            collect(&body[own], &mut texts);
        }
        collect(turns, &mut texts);
        let choice =
            if speech == Speech::Gemini { &body["toolConfig"]["functionCallingConfig"] } else { &body["tool_choice"] };
        Some(Self {
            speech,
            model: asked.model(),
            is_stream: asked.is_stream(),
            usage_in_stream: body["stream_options"]["include_usage"] == true,
            has_result: turns.as_array().and_then(|turns| turns.last()).is_some_and(is_result),
            texts,
            tools: tools(&body["tools"]),
            forced: forced(choice),
            tools_forbidden: choice == "none" || choice["type"] == "none" || choice["mode"] == "NONE",
            schema: schema(&body),
            output_max: output_max(&body),
        })
    }

    pub fn last_text(&self) -> &str {
        self.texts.last().map_or("", String::as_str)
    }
}

/// Each text below a value, in order: `content`, `parts`, `text`, `output`, `response` of any depth.
fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(object) => {
            if let Some(result) = object.get("functionResponse") {
                texts.push(result["response"].to_string());
            }
            for name in ["content", "parts", "text", "output"] {
                object.get(name).into_iter().for_each(|inner| collect(inner, texts));
            }
        }
        _ => {}
    }
}

fn is_result(turn: &Value) -> bool {
    let inside =
        |name: &str, found: fn(&Value) -> bool| turn[name].as_array().is_some_and(|parts| parts.iter().any(found));
    turn["role"] == "tool"
        || turn["type"] == "function_call_output"
        || inside("content", |part| part["type"] == "tool_result")
        || inside("parts", |part| part.get("functionResponse").is_some())
}

fn tools(value: &Value) -> Vec<(String, Value)> {
    let one = |tool: &Value| {
        let inner = if tool["function"].is_object() { &tool["function"] } else { tool };
        let schema =
            ["parameters", "input_schema", "parametersJsonSchema"].into_iter().find_map(|name| inner.get(name));
        Some((inner["name"].as_str()?.to_owned(), schema.cloned().unwrap_or_default()))
    };
    let all = value.as_array().into_iter().flatten();
    all.flat_map(|tool| match tool["functionDeclarations"].as_array() {
        Some(declared) => declared.iter().filter_map(one).collect::<Vec<_>>(),
        None => one(tool).into_iter().collect(),
    })
    .collect()
}

fn forced(choice: &Value) -> Option<String> {
    let places = [&choice["function"]["name"], &choice["name"], &choice["allowedFunctionNames"][0]];
    places.into_iter().find_map(|name| name.as_str()).map(str::to_owned)
}

fn schema(body: &Value) -> Option<Value> {
    let places = [
        &body["response_format"]["json_schema"]["schema"],
        &body["text"]["format"]["schema"],
        &body["output_config"]["format"]["schema"],
        &body["generationConfig"]["responseJsonSchema"],
        &body["generationConfig"]["responseSchema"],
    ];
    places.into_iter().find(|schema| schema.is_object()).cloned()
}

fn output_max(body: &Value) -> Option<u64> {
    let names = ["max_completion_tokens", "max_output_tokens", "max_tokens"];
    let own = names.into_iter().find_map(|name| body[name].as_u64());
    own.or_else(|| body["generationConfig"]["maxOutputTokens"].as_u64())
}
