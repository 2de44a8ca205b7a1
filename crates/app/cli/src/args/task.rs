//! Arguments of `task`.

use agentos_types::{AgentName, TaskId, task::TaskState};
use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};

use super::Paging;
use crate::instant::{When, parse_when};

#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommands {
    /// Submit a task to an agent
    Submit(Submit),
    /// List tasks, newest first
    List(List),
    /// Show one task with its output or failure
    Show(ShowTask),
    /// Follow the events of a task until it has ended; exit code 4 unless it completed
    Watch(Watch),
    /// Ask the agent to stop work on a task, and stop it by force when the grace is over
    Cancel(TaskArg),
    /// Let a task that waits for a person go on
    Retry(TaskArg),
    /// Send a failed task back to work
    Redrive(Redrive),
}

#[derive(Args, Debug)]
pub(crate) struct TaskArg {
    /// Id of the task
    #[arg(value_name = "TASK")]
    pub(crate) id: TaskId,
}

#[derive(Args, Debug)]
pub(crate) struct Submit {
    /// Name of the agent
    #[arg(value_name = "AGENT")]
    pub(crate) agent: AgentName,
    /// Input: JSON, @FILE for a file, or - for standard input
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) input: String,
    /// A repeat of the submit with the same key returns the same task
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Not before this time: an RFC 3339 time, or a span from now such as 15m
    #[arg(long, value_name = "TIME", value_parser = parse_when)]
    pub(crate) run_at: Option<When>,
    /// Fail after this time: an RFC 3339 time, or a span from now such as 15m
    #[arg(long, value_name = "TIME", value_parser = parse_when)]
    pub(crate) deadline: Option<When>,
    /// Most attempts [default: tasks.attempts_max of the server]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=100))]
    pub(crate) attempts: Option<i64>,
    /// Follow the task until it has ended; exit code 4 unless it completed
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only tasks of this agent
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<AgentName>,
    /// Only tasks in this state
    #[arg(long, value_name = "STATE", value_parser = state_parser())]
    pub(crate) state: Option<TaskState>,
    #[command(flatten)]
    pub(crate) paging: Paging,
}

#[derive(Args, Debug)]
pub(crate) struct ShowTask {
    /// Id of the task
    #[arg(value_name = "TASK")]
    pub(crate) id: TaskId,
    /// Show the journalled steps instead of the task
    #[arg(long)]
    pub(crate) steps: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// Id of the task
    #[arg(value_name = "TASK")]
    pub(crate) id: TaskId,
    /// Show only events after this sequence number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub(crate) after: i64,
}

#[derive(Args, Debug)]
pub(crate) struct Redrive {
    /// Id of the task
    #[arg(value_name = "TASK")]
    pub(crate) id: TaskId,
    /// New input: JSON, @FILE for a file, or - for standard input [default: the old input]
    #[arg(long, value_name = "JSON")]
    pub(crate) input: Option<String>,
}

fn state_parser() -> impl TypedValueParser<Value = TaskState> {
    let known = PossibleValuesParser::new(TaskState::ALL.map(TaskState::as_str));
    known.try_map(|text| TaskState::parse(&text).ok_or("not a task state"))
}
