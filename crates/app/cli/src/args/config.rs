//! Arguments of `config`, `explain` and `completions`.

use agentos_types::Code;
use clap::{Args, Subcommand};
use clap_complete::Shell;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommands {
    /// Check the configuration file and the environment without a start
    Check,
    /// Show every setting's value
    Show(Show),
    /// List all settings with type, default and meaning
    Schema,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// Show also where each value comes from
    #[arg(long)]
    pub(crate) origin: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// Error code, such as AOS-1401
    #[arg(value_name = "CODE")]
    pub(crate) code: Code,
}

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// Shell
    #[arg(value_name = "SHELL", value_enum)]
    pub(crate) shell: Shell,
}
