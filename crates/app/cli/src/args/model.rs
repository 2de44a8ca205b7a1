//! Arguments of `model` and `provider`. No argument takes a key: it is stored as a secret, and named here.

use std::path::PathBuf;

use agentos_types::SecretName;
use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommands {
    /// List aliases and models with window, price and health
    List,
    /// Show one alias or model
    Show(ModelArg),
    /// Let a model write a few tokens, which costs what they cost
    Test(ModelArg),
    /// Say who would be asked now, and why nobody else; asks nobody
    Explain(Explain),
    /// Ask nobody under this name any more
    Disable(ModelArg),
    /// Take a disabled one back
    Enable(ModelArg),
    /// Make the choice of a call, or one in a file, again and compare
    Replay(Replay),
    /// The document of providers, aliases and prices
    #[command(subcommand)]
    Config(ModelConfigCommands),
}

#[derive(Args, Debug)]
pub(crate) struct ModelArg {
    /// An alias, or PROVIDER/MODEL
    #[arg(value_name = "MODEL")]
    pub(crate) id: String,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// An alias, or PROVIDER/MODEL
    #[arg(value_name = "MODEL")]
    pub(crate) id: String,
    /// Tokens of the request
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) tokens: u64,
    /// Most tokens of the answer
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u64>,
    /// What the request needs, such as tools,images,json_schema,stream
    #[arg(long, value_name = "LIST")]
    pub(crate) needs: Option<String>,
    /// As for a caller with a budget
    #[arg(long)]
    pub(crate) budgeted: bool,
    /// Write the record of the choice to a file, for `model replay`
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Replay {
    /// Request id of a call (x-agent-os-request-id), or a file with the record of a choice
    #[arg(value_name = "CALL|FILE")]
    pub(crate) what: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelConfigCommands {
    /// Show the document in force
    Show,
    /// Check a document and put it in force
    Apply(Apply),
}

#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// TOML, or JSON if its name ends in .json
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Only if the document is at this revision [default: the one in force]
    #[arg(long, value_name = "N")]
    pub(crate) revision: Option<i64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProviderCommands {
    /// Add a provider, or replace it
    Add(Add),
    /// List providers and the secrets that hold their keys
    List,
    /// Ask a provider for its list of models, once with each key; costs nothing
    Test(ProviderArg),
    /// Remove a provider that no alias names
    Remove(ProviderArg),
}

#[derive(Args, Debug)]
pub(crate) struct Add {
    /// Name of the provider, the first part of PROVIDER/MODEL
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// What it speaks
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: ProviderKind,
    /// Its address, if it is not that of its kind
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,
    /// Name of the secret that holds its key; may be repeated
    #[arg(long = "key", value_name = "SECRET", value_delimiter = ',')]
    pub(crate) keys: Vec<SecretName>,
    /// A model to list; may be repeated. NAME=KNOWN: with the price and window of KNOWN, for deployments and profiles
    #[arg(long = "model", value_name = "MODEL", value_delimiter = ',')]
    pub(crate) models: Vec<String>,
    /// Of Azure: a date for addresses of deployments, such as 2024-10-21 [default: those of v1]
    #[arg(long, value_name = "VERSION")]
    pub(crate) api_version: Option<String>,
    /// Of Bedrock: sign requests for this region; the secret holds ID:SECRET of an access key [default: an API key]
    #[arg(long, value_name = "REGION")]
    pub(crate) sigv4_region: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ProviderArg {
    /// Name of the provider
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProviderKind {
    Openai,
    Anthropic,
    Gemini,
    Ollama,
    Azure,
    Bedrock,
    /// Any server that speaks OpenAI's chat completions
    OpenaiCompatible,
}

impl ProviderKind {
    /// As the document has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ProviderKind::Openai => "openai",
            ProviderKind::Anthropic => "anthropic",
            ProviderKind::Gemini => "gemini",
            ProviderKind::Ollama => "ollama",
            ProviderKind::Azure => "azure",
            ProviderKind::Bedrock => "bedrock",
            ProviderKind::OpenaiCompatible => "openai-compatible",
        }
    }
}
