//! The arguments as types, one module for each noun. The comments on the fields are the help texts.

mod agent;
mod audit;
mod budget;
mod chat;
mod config;
mod log_life;
mod migrate;
mod model;
mod retention;
mod sandbox;
mod schedule;
mod secret;
mod server;
mod task;
mod token;
mod witness;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use agent::{AgentCommands, Notifications};
pub(crate) use audit::{AuditCommands, Export, ExportNotes, Query, Tail, Verify, WitnessStatusCommands};
pub(crate) use budget::{BudgetCommands, Per, Set as SetBudget};
pub(crate) use chat::Chat;
pub(crate) use config::{Completions, ConfigCommands, Explain};
pub(crate) use log_life::{HoldCommands, Prune};
pub(crate) use migrate::{Change as MigrateChange, MigrateCommands};
pub(crate) use model::{
    Add as AddProvider, Apply as ApplyModels, Explain as ExplainModel, ModelCommands, ModelConfigCommands,
    ProviderCommands,
};
pub(crate) use retention::{RetentionCommands, Run as RetentionRun};
pub(crate) use sandbox::{SandboxCli, SandboxCommands, SandboxRun};
pub(crate) use schedule::{Create as CreateSchedule, ScheduleCommands};
pub(crate) use secret::SecretCommands;
pub(crate) use server::{Down, Sign, Up};
pub(crate) use task::{List as ListTasks, Redrive, Submit, TaskCommands, Watch};
pub(crate) use token::TokenCommands;
pub(crate) use witness::{AddLog, ShowLog, WitnessCommands};

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  the server refused the request, or something failed
  2  wrong usage
  3  no server answers
  4  the task ended without success (failed, canceled or rejected)
  5  the audit log does not verify
  6  no valid token, a missing right, or a file that others can read
  125  the sandbox could not be made, and the command did not run

sandbox run ends as its command does: with its status, 128 and the number of the signal that ended it, or 124 after
--time.

Environment:
  AGENT_OS_HOME   data directory, when --data-dir is not given
  AGENT_OS_URL    address of the server, when --url is not given
  AGENT_OS_TOKEN  token, instead of the one in the data directory";

/// Runs AI agents as an operating system runs programs.
#[derive(Debug, Parser)]
#[command(
    name = crate::PROGRAM,
    version,
    after_help = EXIT_CODES,
    max_term_width = 100,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Directory of the installation [default: AGENT_OS_HOME, else ~/.local/share/agent-os]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address of the server [default: AGENT_OS_URL, else the one that runs for the data directory]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// PEM file of a certificate authority to trust for the server
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Shape of the data on standard output; times are RFC 3339 in tables and microseconds in JSON
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// Print only ids or values in tables, and no notes
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// One document
    Json,
    /// One line an item
    Jsonl,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new installation: keys, trust root, token, database
    Init,
    /// Start the server
    Up(Up),
    /// Stop the server of the data directory and wait for its end
    Down(Down),
    /// Show whether the server runs and how it is
    Status,
    /// Examine this machine and the installation, and say what is enforced
    Doctor,
    /// The schema of the database of a stopped installation: look, bring up, take back
    #[command(subcommand)]
    Migrate(MigrateCommands),
    /// Sign an agent package
    Sign(Sign),
    /// Agents: deploy, look at, control
    #[command(subcommand)]
    Agent(AgentCommands),
    /// Tasks: submit, follow, control
    #[command(subcommand)]
    Task(TaskCommands),
    /// Ask a model, and see its answer while it is written
    Chat(Chat),
    /// Schedules: tasks that are submitted again and again
    #[command(subcommand)]
    Schedule(ScheduleCommands),
    /// The audit log: read, prove, export
    #[command(subcommand)]
    Audit(AuditCommands),
    /// Logs of other nodes that this node witnesses
    #[command(subcommand)]
    Witness(WitnessCommands),
    /// Secrets: stored encrypted, used for agents, never shown
    #[command(subcommand)]
    Secret(SecretCommands),
    /// Tokens of the API
    #[command(subcommand)]
    Token(TokenCommands),
    /// Models: look, explain, try, set
    #[command(subcommand)]
    Model(ModelCommands),
    /// Providers of models: add, try, remove
    #[command(subcommand)]
    Provider(ProviderCommands),
    /// Budgets: who may spend how much on models, and who did
    #[command(subcommand)]
    Budget(BudgetCommands),
    /// Retention: what is kept for how long, and what is taken away
    #[command(subcommand)]
    Retention(RetentionCommands),
    /// Sandboxes: the wall around agents, for any command
    #[command(subcommand)]
    Sandbox(SandboxCommands),
    /// Settings: check, show, list
    #[command(subcommand)]
    Config(ConfigCommands),
    /// Explain an error code
    Explain(Explain),
    /// Print a completion script for a shell
    Completions(Completions),
}

/// Which part of a long listing.
#[derive(Args, Debug)]
pub(crate) struct Paging {
    /// Most items to show
    #[arg(long, value_name = "N", default_value_t = agentos_types::limits::PAGE_DEFAULT as u16,
        value_parser = clap::value_parser!(u16).range(1..=agentos_types::limits::PAGE_MAX as i64))]
    pub(crate) limit: u16,
    /// Go on where the page before ended
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::Exit;

    #[test]
    fn the_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_names_every_exit_code() {
        for exit in Exit::ALL {
            assert!(EXIT_CODES.contains(&format!("  {}  {}", exit.code(), exit.meaning())), "{exit:?}");
        }
    }
}
