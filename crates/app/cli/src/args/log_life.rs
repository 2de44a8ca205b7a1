//! Arguments of `audit prune`, `audit hold` and `audit rotate-key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::instant::{When, parse_when};

#[derive(Args, Debug)]
pub(crate) struct Prune {
    /// Only say what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// First write what goes into this directory, as a segment that verifies by itself
    #[arg(long, value_name = "DIR", conflicts_with = "dry_run")]
    pub(crate) archive: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HoldCommands {
    /// Place a legal hold: no day that it covers is pruned
    Add(HoldAdd),
    /// List all holds that stand
    List,
    /// Release a hold
    Release(HoldRelease),
}

#[derive(Args, Debug)]
pub(crate) struct HoldAdd {
    /// Name of the hold: lower-case letters, digits and dashes
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Why it is placed, such as the number of a case
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// From the UTC day of this time on: an RFC 3339 time, or a span before now such as 30d [default: the whole log]
    #[arg(long, value_name = "TIME", value_parser = parse_when)]
    pub(crate) from: Option<When>,
}

#[derive(Args, Debug)]
pub(crate) struct HoldRelease {
    /// Name of the hold
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}
