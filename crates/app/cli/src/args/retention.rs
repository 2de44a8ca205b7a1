//! Arguments of `retention`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum RetentionCommands {
    /// Show what is kept for how long, the last run and the next one
    Show,
    /// Take away now what is too old
    Run(Run),
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// Only count what would be taken away
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
    /// Wait for the end of the run
    #[arg(long)]
    pub(crate) wait: bool,
}
