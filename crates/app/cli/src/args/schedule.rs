//! Arguments of `schedule`.

use std::time::Duration;

use agentos_types::{AgentName, ScheduleId};
use clap::{ArgGroup, Args, Subcommand};

use crate::instant::parse_span;

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommands {
    /// List all schedules
    List,
    /// Show one schedule
    Show(ScheduleArg),
    /// Create a schedule, or change the one of the same name
    Create(Create),
    /// Submit no more tasks until the schedule is resumed
    Pause(ScheduleArg),
    /// Let a paused schedule go on
    Resume(ScheduleArg),
    /// Delete a schedule; tasks that it has submitted stay
    Delete(ScheduleArg),
}

#[derive(Args, Debug)]
pub(crate) struct ScheduleArg {
    /// Id of the schedule
    #[arg(value_name = "SCHEDULE")]
    pub(crate) id: ScheduleId,
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("cadence").required(true).args(["every", "cron"])))]
pub(crate) struct Create {
    /// Name of the agent
    #[arg(value_name = "AGENT")]
    pub(crate) agent: AgentName,
    /// Name of the schedule, unique for the agent
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Time between two tasks, such as 30s or 15m
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) every: Option<Duration>,
    /// Cron expression of five fields, such as "0 7 * * 1-5"
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) cron: Option<String>,
    /// IANA time zone of the cron expression
    #[arg(long, value_name = "ZONE", default_value = "UTC", conflicts_with = "every")]
    pub(crate) timezone: String,
    /// Input of each task: JSON, @FILE for a file, or - for standard input
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) input: String,
}
