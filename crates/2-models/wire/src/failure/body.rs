//! What a provider's error body says, whichever of the known shapes it has.

use serde_json::{Map, Value};

/// A provider's sentence is passed on up to here: enough for any that was seen, too little to fill a log with.
pub const MESSAGE_MAX: usize = 1_000;
/// A longer body is no error of a known shape and is not searched.
const BODY_MAX: usize = 1 << 20;
/// Words that are looked at; a body has five at the most that matter.
const WORDS_MAX: usize = 32;

#[derive(Debug, Default)]
pub struct ErrorBody {
    /// The body says that it is an error, whatever its status says.
    pub is_error: bool,
    /// Gemini refused the prompt, with status 200.
    pub blocked: bool,
    pub message: Option<String>,
    /// Google's `RetryInfo`, such as `28s`.
    pub retry_delay: Option<String>,
    /// Codes, types, statuses and reasons, the most telling one first.
    words: Vec<String>,
    number: Option<u16>,
}

impl ErrorBody {
    pub fn read(body: &[u8]) -> Self {
        let mut read = Self::default();
        if body.len() > BODY_MAX {
            return read;
        }
        match serde_json::from_slice::<Value>(body) {
            Ok(Value::Object(root)) => read.root(&root),
            // Gemini without `alt=sse` puts its error into a list.
            Ok(Value::Array(list)) => {
                if let Some(Value::Object(root)) = list.first() {
                    read.root(root);
                }
            }
            Ok(_) => {}
            Err(_) => read.message = plain(body),
        }
        read
    }

    /// A status that the body itself tells.
    pub fn status(&self) -> Option<u16> {
        self.number
    }

    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    pub fn telling_word(&self) -> Option<&str> {
        self.words.first().map(String::as_str)
    }

    /// A word that came beside the body: `ThrottlingException:http://…`.
    pub fn is_typed(&mut self, kind: Option<&str>) {
        if let Some(word) = kind.and_then(|kind| kind.split(':').next()).and_then(clean) {
            self.is_error = true;
            self.words.insert(0, word);
        }
    }

    fn root(&mut self, root: &Map<String, Value>) {
        if let Some(reason) = root.get("promptFeedback").and_then(|feedback| feedback.get("blockReason")) {
            self.blocked = true;
            self.word(Some(reason));
        }
        match root.get("error") {
            Some(Value::Object(error)) => self.error(error),
            // Ollama's own API, and some proxies.
            Some(Value::String(message)) => {
                self.is_error = true;
                self.message = clean(message);
                self.word(root.get("code"));
            }
            // A successful answer of OpenAI's `/responses` has `"error": null`.
            Some(Value::Null) | None => self.bare(root),
            Some(_) => self.is_error = true,
        }
        // A failed answer of `/responses`, whole or inside its last event.
        if let Some(Value::Object(response)) = root.get("response")
            && let Some(Value::Object(error)) = response.get("error")
        {
            self.error(error);
        }
    }

    fn error(&mut self, error: &Map<String, Value>) {
        self.is_error = true;
        self.message = text(error.get("message")).or_else(|| text(error.get("detail"))).or(self.message.take());
        let inner = error.get("innererror").or_else(|| error.get("details"));
        if let Some(Value::Object(inner)) = inner {
            self.word(inner.get("code").or_else(|| inner.get("error_code")));
        }
        for name in ["code", "type", "status"] {
            self.word(error.get(name));
        }
        if let Some(Value::Array(details)) = error.get("details") {
            details.iter().take(WORDS_MAX).for_each(|detail| self.detail(detail));
        }
    }

    /// Shapes without `error`: vLLM, Bedrock, FastAPI, and OpenAI's `error` event, whose fields stand at the top.
    fn bare(&mut self, root: &Map<String, Value>) {
        let says_error =
            matches!(root.get("object").or_else(|| root.get("type")), Some(Value::String(kind)) if kind == "error");
        let message = text(root.get("message")).or_else(|| text(root.get("detail")));
        let lone = message.is_some() && !root.contains_key("choices") && !root.contains_key("content");
        if !says_error && !lone {
            return;
        }
        self.is_error = true;
        self.message = message;
        for name in ["code", "type"] {
            self.word(root.get(name));
        }
        // `com.amazon.coral.service#UnrecognizedClientException`.
        let kind = root.get("__type").and_then(Value::as_str).and_then(|kind| kind.rsplit('#').next());
        self.word(kind.map(Value::from).as_ref());
    }

    /// Google's details: a reason, the delay, the quotas that were hit.
    fn detail(&mut self, detail: &Value) {
        self.word(detail.get("reason"));
        if let Some(Value::String(delay)) = detail.get("retryDelay") {
            self.retry_delay = Some(delay.clone());
        }
        if let Some(Value::Array(violations)) = detail.get("violations") {
            violations.iter().take(WORDS_MAX).for_each(|violation| self.word(violation.get("quotaId")));
        }
    }

    fn word(&mut self, value: Option<&Value>) {
        match value {
            // `type: "error"` is the envelope, not the reason.
            Some(Value::String(word)) if word != "error" && self.words.len() < WORDS_MAX => {
                if let Some(number) = word.parse().ok().filter(|number| (400..600).contains(number)) {
                    self.number.get_or_insert(number);
                } else if let Some(word) = clean(word) {
                    self.words.push(word);
                }
            }
            Some(Value::Number(number)) => {
                let number = number.as_u64().and_then(|number| u16::try_from(number).ok());
                if let Some(number) = number.filter(|number| (400..600).contains(number)) {
                    self.number.get_or_insert(number);
                }
            }
            _ => {}
        }
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).and_then(clean)
}

/// The body of a proxy or a load balancer: its text, if it is short prose and no page.
fn plain(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') { None } else { clean(&text) }
}

/// What a log and a client may see: bounded, on one line.
fn clean(text: &str) -> Option<String> {
    let mut clean = String::new();
    for part in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if clean.len() + part.len_utf8() > MESSAGE_MAX {
            break;
        }
        clean.push(part);
    }
    let trimmed = clean.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}
