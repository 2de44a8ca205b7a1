//! Arguments of `witness`.

use agentos_types::LogName;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum WitnessCommands {
    /// Register another node's log; again with the same name it takes a new key and settles a refusal
    Add(AddLog),
    /// List the logs with what is held of them
    List,
    /// Show one log, or the checkpoints that are held of it
    Show(ShowLog),
    /// Forget a log and everything that is held of it
    Remove(LogArg),
}

#[derive(Args, Debug)]
pub(crate) struct AddLog {
    /// Name to know it by
    #[arg(value_name = "NAME")]
    pub(crate) name: LogName,
    /// The log's verifier key, from keys/audit.vkey of the other node; @FILE reads it from a file
    #[arg(long, value_name = "KEY")]
    pub(crate) public_key: String,
}

#[derive(Args, Debug)]
pub(crate) struct ShowLog {
    /// Name of the log
    #[arg(value_name = "NAME")]
    pub(crate) name: LogName,
    /// Print only the held checkpoints, as --held takes them
    #[arg(long)]
    pub(crate) notes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LogArg {
    /// Name of the log
    #[arg(value_name = "NAME")]
    pub(crate) name: LogName,
}
