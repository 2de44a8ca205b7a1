//! A request for a model's answer, in no protocol: what all of them can say has a field, the rest is extra.

use serde_json::Number;

use crate::{Object, Protocol, Raw};

#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Whose extras these are. A writer of this protocol puts back even those that it does not know.
    pub from: Option<Protocol>,
    /// As the client named it: an alias, `PROVIDER/MODEL`, or a bare name.
    pub model: String,
    /// What stands before all turns.
    pub system: Vec<Part>,
    pub turns: Vec<Turn>,
    /// In the client's order, which is never changed.
    pub tools: Vec<Tool>,
    pub tool_choice: Option<ToolChoice>,
    pub parallel_tool_calls: Option<bool>,
    /// Tokens of the answer, thinking included.
    pub max_output_tokens: Option<u64>,
    pub temperature: Option<Number>,
    pub top_p: Option<Number>,
    pub top_k: Option<u64>,
    pub presence_penalty: Option<Number>,
    pub frequency_penalty: Option<Number>,
    pub seed: Option<i64>,
    /// Answers asked for at once (`n`). `None` is one.
    pub choices: Option<u64>,
    pub stop: Vec<String>,
    pub format: Format,
    pub reasoning: Option<Reasoning>,
    pub stream: bool,
    /// The client asked for usage at the end of a stream (`stream_options.include_usage`).
    pub stream_usage: bool,
    /// Who the end user is, as the client tells the provider.
    pub end_user: Option<String>,
    /// What the reader's protocol has and this type has not, under its own names. A writer of the same protocol puts it back;
    /// another one has a place for it or refuses.
    pub extra: Object,
    /// What the answer repeats to the client, as it was written. It concerns no provider. Only Responses has it.
    pub echo: Object,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions in the middle of a conversation; those before it are [`Ask::system`].
    System,
    User,
    Assistant,
    /// Results of tools; only [`Part::ToolResult`].
    Tool,
}

/// Consecutive turns of one role stay apart: what merges them is the writer whose protocol asks for it.
#[derive(Clone, Debug)]
pub struct Turn {
    pub role: Role,
    pub parts: Vec<Part>,
    /// For example `name`.
    pub extra: Object,
}

#[derive(Clone, Debug)]
pub enum Part {
    Text {
        text: String,
        cache: Option<CacheHint>,
        extra: Object,
    },
    Image {
        source: ImageSource,
        cache: Option<CacheHint>,
        extra: Object,
    },
    /// A call that the model made; `arguments` is the JSON text as the model wrote it, valid or not.
    ToolCall {
        id: String,
        name: String,
        arguments: String,
        extra: Object,
    },
    /// What came of it. Parts are text and images.
    ToolResult {
        call: String,
        parts: Vec<Part>,
        is_error: bool,
        cache: Option<CacheHint>,
        extra: Object,
    },
    /// Thoughts that a provider wants to see again, with its signature.
    Thinking {
        text: String,
        signature: Option<String>,
    },
    /// Thoughts that only their provider can read.
    HiddenThinking {
        data: String,
    },
    Refusal {
        text: String,
    },
    /// Any other kind (audio, documents, files), as its protocol wrote it, with the name of its kind.
    Other {
        kind: String,
        raw: Raw,
    },
}

impl Part {
    pub fn text(text: impl Into<String>) -> Self {
        Part::Text { text: text.into(), cache: None, extra: Object::default() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    Url(String),
    /// Base64, without line breaks.
    Inline {
        media_type: String,
        data: String,
    },
}

/// Up to here the provider may remember the prompt (Anthropic's `cache_control`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheHint {
    /// For example `5m` or `1h`; `None` is the provider's default.
    pub ttl: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Tool {
    pub name: String,
    pub description: Option<String>,
    /// JSON schema of the arguments, as it was written. `None` takes no arguments.
    pub schema: Option<Raw>,
    /// Arguments must keep to the schema.
    pub strict: Option<bool>,
    pub cache: Option<CacheHint>,
    pub extra: Object,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    Auto,
    None,
    /// Some tool, whichever.
    Required,
    Named(String),
}

#[derive(Clone, Debug, Default)]
pub enum Format {
    #[default]
    Text,
    /// Any JSON object.
    Json,
    Schema {
        name: Option<String>,
        description: Option<String>,
        schema: Raw,
        strict: Option<bool>,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// `none`, `minimal`, `low`, `medium`, `high` and what comes after.
    pub effort: Option<String>,
    /// Tokens of thinking; 0 turns it off where it can be.
    pub budget_tokens: Option<u64>,
    /// Thoughts are shown, and how (`auto`, `concise`, `detailed`); `None` is the provider's default.
    pub summary: Option<String>,
}
