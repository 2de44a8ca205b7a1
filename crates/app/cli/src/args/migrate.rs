//! Arguments of `migrate`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommands {
    /// Show the schema of the database, what this program knows of it, and who applied what
    Status,
    /// Show what would be done, and what a way down would lose
    Plan(Plan),
    /// Apply what is missing, after a backup
    Up(Change),
    /// Revert every migration above a number, after a backup
    Down(Down),
}

#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// Plan the way down to this schema instead of the way up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) to: Option<i64>,
    /// End with exit code 1 if there is something to do
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Change {
    /// Do everything on the data and take it back, to see whether it can be done
    #[arg(long)]
    pub(crate) check: bool,
    /// Take no backup: you have one
    #[arg(long, conflicts_with = "check")]
    pub(crate) backup_taken: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Down {
    /// Newest migration that stays
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) to: i64,
    #[command(flatten)]
    pub(crate) change: Change,
}
