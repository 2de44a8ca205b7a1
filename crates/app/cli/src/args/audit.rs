//! Arguments of `audit`.

use std::path::PathBuf;

use agentos_types::{TaskId, audit::Decision, limits::PAGE_MAX};
use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};

use super::{HoldCommands, Paging, Prune};
use crate::instant::{When, parse_when};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommands {
    /// Show the newest records, oldest first, and with --follow those to come
    Tail(Tail),
    /// Search the log, newest first
    Query(Query),
    /// Verify the log: offline where the database is, else by asking the server; exit code 5 unless it verifies
    Verify(Verify),
    /// Write the log as a segment that verifies without the database
    Export(Export),
    /// Print the newest signed checkpoint; keep it elsewhere, a later log must extend it
    Checkpoint,
    /// Take away whole days that are older than retention.audit_log_days; what is left still verifies
    Prune(Prune),
    /// Legal holds: days that are not pruned
    #[command(subcommand)]
    Hold(HoldCommands),
    /// Give the log a new key, which the old one signs
    RotateKey,
    /// Where the checkpoints of this log go, and how far they have come
    #[command(subcommand)]
    Witness(WitnessStatusCommands),
}

#[derive(Debug, Subcommand)]
pub(crate) enum WitnessStatusCommands {
    /// Show every witness with what has arrived there
    Status,
    /// Write the checkpoints that nodes have cosigned, as --held takes them
    Export(ExportNotes),
}

#[derive(Args, Debug)]
pub(crate) struct ExportNotes {
    /// File to write, which must not exist yet; - for standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(crate) out: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Tail {
    /// How many of the newest records to show
    #[arg(long, value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u16).range(0..=PAGE_MAX as i64))]
    pub(crate) lines: u16,
    /// Go on with new records until interrupted
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Query {
    /// Who acted: system, token:ID, agent:NAME or anonymous
    #[arg(long, value_name = "ACTOR")]
    pub(crate) actor: Option<String>,
    /// What was done, such as net.fetch
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: Option<String>,
    /// What was decided or came of it
    #[arg(long, value_name = "DECISION", value_parser = decision_parser())]
    pub(crate) decision: Option<Decision>,
    /// Only records of this task
    #[arg(long, value_name = "TASK")]
    pub(crate) task: Option<TaskId>,
    /// From this time on: an RFC 3339 time, or a span before now such as 24h
    #[arg(long, value_name = "TIME", value_parser = parse_when)]
    pub(crate) since: Option<When>,
    /// Before this time: an RFC 3339 time, or a span before now such as 1h
    #[arg(long, value_name = "TIME", value_parser = parse_when)]
    pub(crate) until: Option<When>,
    /// Oldest first
    #[arg(long)]
    pub(crate) ascending: bool,
    #[command(flatten)]
    pub(crate) paging: Paging,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// Checkpoints that were kept elsewhere: a note, a witness file, or what a witness has exported; the log must extend all of
    /// them. Verifies offline. May be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) held: Vec<PathBuf>,
    /// A verifier key of the log; those after it follow from the log. Verifies offline [default: keys/audit.vkey of the
    /// data directory, the log's first key]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// An exported segment in the place of the database, as Postgres needs it; - for standard input. Verifies offline
    #[arg(long, value_name = "FILE")]
    pub(crate) segment: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// File to write, which must not exist yet; - for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Sequence number of the first record
    #[arg(long, value_name = "SEQ", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) from_seq: i64,
}

fn decision_parser() -> impl TypedValueParser<Value = Decision> {
    PossibleValuesParser::new(Decision::ALL.map(Decision::as_str))
        .try_map(|text| Decision::ALL.into_iter().find(|decision| decision.as_str() == text).ok_or("not a decision"))
}
