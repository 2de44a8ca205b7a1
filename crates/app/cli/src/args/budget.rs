//! Arguments of `budget`.

use agentos_types::budget::{AMOUNT_MAX, BudgetScope, BudgetUnit, Period, parse_usd};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum BudgetCommands {
    /// Set a budget, or change its amount; it holds at once
    Set(Set),
    /// Show budgets and what is used of them
    Show(Show),
    /// Show who has spent most, on which model
    Top(Top),
    /// Remove a budget that was set here; that of a manifest goes with the manifest
    Remove(Remove),
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("amount").args(["usd", "tokens", "requests"]).required(true))]
pub(crate) struct Set {
    /// Whose use is counted: agent:NAME, runs-of:NAME, token:ID, team:NAME or tenant:NAME
    #[arg(value_name = "SCOPE")]
    pub(crate) scope: BudgetScope,
    /// When counting begins anew, in UTC; runs-of counts each task as a whole
    #[arg(long, value_name = "PERIOD")]
    pub(crate) per: Option<Per>,
    /// US dollars, up to nine digits after the point
    #[arg(long, value_name = "AMOUNT", value_parser = nano_usd)]
    pub(crate) usd: Option<i64>,
    /// Input and output together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..=AMOUNT_MAX))]
    pub(crate) tokens: Option<i64>,
    /// Calls of models
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..=AMOUNT_MAX))]
    pub(crate) requests: Option<i64>,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// Only budgets of this scope
    #[arg(value_name = "SCOPE")]
    pub(crate) scope: Option<BudgetScope>,
}

#[derive(Args, Debug)]
pub(crate) struct Top {
    /// Days back, today included
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=396))]
    pub(crate) days: u16,
    /// Most rows to show
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(crate) limit: u16,
}

#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Whose use is counted
    #[arg(value_name = "SCOPE")]
    pub(crate) scope: BudgetScope,
    /// Its period; not needed for runs-of
    #[arg(long, value_name = "PERIOD")]
    pub(crate) per: Option<Per>,
    /// What it counts
    #[arg(long, value_name = "UNIT")]
    pub(crate) unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Per {
    Minute,
    Day,
    Month,
    /// Never anew
    Total,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Unit {
    Usd,
    Tokens,
    Requests,
}

impl From<Per> for Period {
    fn from(per: Per) -> Period {
        match per {
            Per::Minute => Period::Minute,
            Per::Day => Period::Day,
            Per::Month => Period::Month,
            Per::Total => Period::Total,
        }
    }
}

impl From<Unit> for BudgetUnit {
    fn from(unit: Unit) -> BudgetUnit {
        match unit {
            Unit::Usd => BudgetUnit::NanoUsd,
            Unit::Tokens => BudgetUnit::Tokens,
            Unit::Requests => BudgetUnit::Requests,
        }
    }
}

fn nano_usd(text: &str) -> Result<i64, &'static str> {
    parse_usd(text).ok_or("write an amount such as 5 or 0.25, at most nine digits after the point")
}
