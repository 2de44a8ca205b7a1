//! `budget`.

use agentos_api::budgets::{BudgetFilter, BudgetKey, SetBudget, SpendFilter};
use agentos_types::{
    Result,
    budget::{BudgetScope, BudgetUnit, Period},
};

use super::Session;
use crate::{
    args::{BudgetCommands, Per, SetBudget as SetArgs},
    exit::{Exit, Outcome, usage},
};

pub(super) async fn run(session: &mut Session<'_>, command: BudgetCommands) -> Outcome {
    match command {
        BudgetCommands::Set(args) => {
            let body = body_of(args)?;
            let set = session.client()?.set_budget(&body).await?;
            session.printer.one(&set)?;
        }
        BudgetCommands::Show(args) => {
            let budgets = session.client()?.budgets(&BudgetFilter { scope: args.scope }).await?;
            session.printer.list(&budgets)?;
        }
        BudgetCommands::Top(args) => {
            let filter = SpendFilter { days: args.days, limit: args.limit };
            let spend = session.client()?.spend(&filter).await?;
            session.printer.list(&spend)?;
        }
        BudgetCommands::Remove(args) => {
            let period = period(&args.scope, args.per)?;
            let key = BudgetKey { scope: args.scope, period, unit: args.unit.into() };
            session.client()?.remove_budget(&key).await?;
            session.printer.note(&format!("removed the budget of {} a {}", key.scope, period.as_str()));
        }
    }
    Ok(Exit::Success)
}

fn body_of(args: SetArgs) -> Result<SetBudget> {
    let amounts =
        [(BudgetUnit::NanoUsd, args.usd), (BudgetUnit::Tokens, args.tokens), (BudgetUnit::Requests, args.requests)];
    let given = amounts.into_iter().find_map(|(unit, amount)| Some((unit, amount?)));
    let (unit, amount) = given.ok_or_else(|| usage("no amount is given", "add --usd, --tokens or --requests"))?;
    let period = period(&args.scope, args.per)?;
    Ok(SetBudget { scope: args.scope, period, unit, amount })
}

/// Each task counts as a whole; everything else has to say when counting begins anew.
fn period(scope: &BudgetScope, per: Option<Per>) -> Result<Period> {
    match (scope, per) {
        (_, Some(per)) => Ok(per.into()),
        (BudgetScope::RunsOf(_), None) => Ok(Period::Total),
        (_, None) => Err(usage("when does counting begin anew?", "add --per minute, day, month or total")),
    }
}
