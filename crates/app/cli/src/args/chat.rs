//! Arguments of `chat`.

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct Chat {
    /// Model to ask: an alias, or PROVIDER/MODEL [default: the first that the token may name]
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// What the model is told before everything else
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// One question; without it a terminal asks for line after line, and other input is one question
    #[arg(value_name = "PROMPT")]
    pub(crate) prompt: Option<String>,
}
