//! Arguments of `agent`.

use std::path::PathBuf;

use agentos_types::AgentName;
use clap::{Args, Subcommand};

use super::Paging;

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommands {
    /// Deploy a signed package of this machine, or a newer version of it
    Deploy(Deploy),
    /// List all agents
    List,
    /// Show one agent: state, grants, limits, and what is enforced on it
    Show(AgentArg),
    /// Show what an agent wrote to its standard output and error
    Logs(Logs),
    /// Show what agents have published, newest first
    Notifications(Notifications),
    /// Give the agent no more tasks until it is resumed
    Pause(AgentArg),
    /// Let a paused agent work again
    Resume(AgentArg),
    /// Stop the agent's process and start a new one; also ends a quarantine
    Restart(AgentArg),
    /// Stop the agent for good; a deploy of the package starts it again
    Terminate(AgentArg),
}

#[derive(Args, Debug)]
pub(crate) struct AgentArg {
    /// Name of the agent
    #[arg(value_name = "AGENT")]
    pub(crate) name: AgentName,
}

#[derive(Args, Debug)]
pub(crate) struct Deploy {
    /// Directory with agent.dsse.json (see `agent-os sign`) and the package's files
    #[arg(value_name = "PACKAGE_DIR")]
    pub(crate) package: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// Name of the agent
    #[arg(value_name = "AGENT")]
    pub(crate) name: AgentName,
    /// How many of the newest lines to show
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) lines: usize,
}

#[derive(Args, Debug)]
pub(crate) struct Notifications {
    /// Only what this agent has published
    #[arg(value_name = "AGENT")]
    pub(crate) agent: Option<AgentName>,
    #[command(flatten)]
    pub(crate) paging: Paging,
}
