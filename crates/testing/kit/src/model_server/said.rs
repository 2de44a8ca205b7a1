//! What the model says: decided by the request alone, so that a test can tell that its words went there and back. A word is a
//! token here.

use serde_json::{Map, Value, json};

use super::{Act, talk::Talk};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Stop,
    Length,
    Tools,
    Filter,
}

#[derive(Clone, Debug)]
pub struct Said {
    pub text: String,
    /// Id, name, arguments.
    pub calls: Vec<(String, String, Value)>,
    pub why: Why,
    /// Input and output tokens, unless it says nothing of them.
    pub usage: Option<(u64, u64)>,
}

impl Said {
    pub fn to(talk: &Talk, act: &Act) -> Self {
        let mut said = Self { text: String::new(), calls: Vec::new(), why: Why::Stop, usage: None };
        match act {
            Act::Say(text) => said.text = text.clone(),
            Act::Call(calls) => said.calls = calls.iter().enumerate().map(scripted).collect(),
            Act::Huge(bytes) => said.text = "x".repeat(*bytes),
            Act::Filtered => said.why = Why::Filter,
            _ => said.speak(talk),
        }
        if !said.calls.is_empty() {
            said.why = Why::Tools;
        }
        said.stop_at(talk.output_max);
        said.usage = match act {
            Act::Usage(input, output) => Some((*input, *output)),
            Act::NoUsage => None,
            _ => Some((input_tokens(talk), said.output_tokens())),
        };
        said
    }

    fn speak(&mut self, talk: &Talk) {
        let tool = talk.tools.iter().find(|(name, _)| talk.forced.as_ref().is_none_or(|forced| forced == name));
        match (tool, &talk.schema) {
            (Some((name, schema)), _) if !talk.tools_forbidden && !talk.has_result => {
                self.calls.push(("call_1".into(), name.clone(), fill(schema, talk.last_text())));
            }
            (_, Some(schema)) => self.text = fill(schema, talk.last_text()).to_string(),
            _ => self.text = format!("You said: {}", talk.last_text()),
        }
    }

    fn stop_at(&mut self, output_max: Option<u64>) {
        let words = self.pieces();
        let Some(max) = output_max.and_then(|max| usize::try_from(max).ok()) else { return };
        if self.calls.is_empty() && words.len() > max {
            self.text = words.into_iter().take(max).collect();
            self.why = Why::Length;
        }
    }

    /// The text by its words, each with the space before it.
    pub fn pieces(&self) -> Vec<String> {
        let mut pieces: Vec<String> = Vec::new();
        for (index, word) in self.text.split(' ').enumerate() {
            pieces.push(if index == 0 { word.to_owned() } else { format!(" {word}") });
        }
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    fn output_tokens(&self) -> u64 {
        let words = self.pieces().len() + self.calls.iter().map(|call| 1 + call.2.to_string().len() / 4).sum::<usize>();
        u64::try_from(words).unwrap_or(u64::MAX)
    }
}

pub fn input_tokens(talk: &Talk) -> u64 {
    let words: usize = talk.texts.iter().map(|text| text.split_whitespace().count()).sum();
    u64::try_from(words.max(1)).unwrap_or(u64::MAX)
}

fn scripted((index, (name, arguments)): (usize, &(String, String))) -> (String, String, Value) {
    let arguments = serde_json::from_str(arguments).expect("arguments of a script are JSON");
    (format!("call_{}", index + 1), name.clone(), arguments)
}

/// A value that the schema accepts: what is required, texts from the user's words. Enough for the schemas of tests.
fn fill(schema: &Value, text: &str) -> Value {
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    match schema["type"].as_str().unwrap_or_default().to_lowercase().as_str() {
        "string" => json!(text.split_whitespace().last().unwrap_or_default()),
        "integer" | "number" => json!(7),
        "boolean" => json!(true),
        "array" => json!([fill(&schema["items"], text)]),
        "object" => {
            let named = schema["properties"].as_object().cloned().unwrap_or_default();
            let filled: Map<String, Value> =
                named.iter().map(|(name, inner)| (name.clone(), fill(inner, text))).collect();
            Value::Object(filled)
        }
        _ => Value::Null,
    }
}

/// The embedding of a text: of unit length or less, different for different texts.
pub fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut state =
        text.bytes().fold(2_166_136_261_u32, |state, byte| (state ^ u32::from(byte)).wrapping_mul(16_777_619));
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        // Sixteen bits are exact in a float, in decimal notation too.
        f32::from(u16::try_from(state & 0xffff).unwrap_or_default()) / 65_536.0
    };
    (0..dimensions).map(|_| next()).collect()
}
