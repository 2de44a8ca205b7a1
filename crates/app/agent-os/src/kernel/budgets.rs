//! Budgets through the API, and the deployment of those that a manifest brings.

use std::time::Duration;

use agentos_api::{
    body::Context,
    budgets::{BudgetFilter, BudgetInfo, BudgetKey, Budgets, SetBudget, SpendFilter, SpendInfo},
};
use agentos_ledger::{Budget, Ledger, Origin, Spend, SpendRow, Standing};
use agentos_store::Store;
use agentos_supervisor::agents;
use agentos_types::{Actor, AgentName, Code, Fault, Manifest, Result, Timestamp, limits::PAGE_MAX, notify::Notice};
use async_trait::async_trait;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::ServerKernel;

const DAYS_MAX: u16 = 396;

#[async_trait]
impl Budgets for ServerKernel {
    async fn list_budgets(&self, filter: BudgetFilter) -> Result<Vec<BudgetInfo>> {
        Ok(self.ledger.standing(filter.scope).await?.into_iter().map(info).collect())
    }

    async fn set_budget(&self, context: &Context, body: SetBudget) -> Result<BudgetInfo> {
        let SetBudget { scope, period, unit, amount } = body;
        let origin = Origin::Operator;
        let (set_by, set_at) = (context.actor.label(), self.ambient.now());
        let budget = Budget { scope: scope.clone(), period, unit, origin, amount, set_by, set_at };
        self.ledger.set(&context.actor, budget).await?;
        let standing = self.ledger.standing(Some(scope)).await?;
        let of = |one: &Standing| (one.budget.period, one.budget.unit, one.budget.origin);
        let found = standing.into_iter().find(|one| of(one) == (period, unit, origin));
        found.map(info).ok_or_else(|| Fault::new(Code::BUDGET_NOT_FOUND, "the budget was removed meanwhile"))
    }

    async fn remove_budget(&self, context: &Context, key: BudgetKey) -> Result<()> {
        let BudgetKey { scope, period, unit } = key;
        let budget = Budget {
            scope,
            period,
            unit,
            origin: Origin::Operator,
            amount: 0,
            set_by: context.actor.label(),
            set_at: self.ambient.now(),
        };
        self.ledger.remove(&context.actor, budget).await
    }

    async fn spend(&self, filter: SpendFilter) -> Result<Vec<SpendInfo>> {
        let limit = usize::from(filter.limit);
        if !(1..=DAYS_MAX).contains(&filter.days) || !(1..=PAGE_MAX).contains(&limit) {
            let what = format!("days are 1 to {DAYS_MAX} and the limit is 1 to {PAGE_MAX}");
            return Err(Fault::new(Code::BUDGET_INVALID, what));
        }
        let since = self.ambient.now().before(Duration::from_secs(u64::from(filter.days - 1) * 86_400));
        // What this node has not written yet is a second old at most.
        let rows = self.store.read(move |conn| Spend::top(conn, since, limit)).await?;
        Ok(rows.into_iter().map(spent).collect())
    }
}

fn info(standing: Standing) -> BudgetInfo {
    let Standing { budget, used, reserved, forfeited, resets_at } = standing;
    BudgetInfo {
        scope: budget.scope,
        period: budget.period,
        unit: budget.unit,
        origin: budget.origin.as_str().to_owned(),
        amount: budget.amount,
        used,
        reserved,
        forfeited,
        resets_at: (!resets_at.is_never()).then_some(resets_at),
        set_by: budget.set_by,
        set_at: budget.set_at,
    }
}

fn spent(row: SpendRow) -> SpendInfo {
    SpendInfo {
        payer: row.payer,
        model: row.model,
        requests: row.requests,
        failures: row.failures,
        tokens_input: row.tokens_input,
        tokens_output: row.tokens_output,
        nano_usd: row.nano_usd,
        estimated: row.estimated,
        cached: row.cached,
    }
}

/// What a manifest says about money, as rows of the ledger.
pub(super) fn of_manifest(manifest: &Manifest, actor: &Actor, now: Timestamp) -> Vec<Budget> {
    let limits = manifest.budget.limits(&manifest.name).into_iter();
    let budget = |(scope, period, unit, amount)| Budget {
        scope,
        period,
        unit,
        origin: Origin::Manifest,
        amount,
        set_by: actor.label(),
        set_at: now,
    };
    limits.map(budget).collect()
}

pub(super) fn enrol(ledger: &Ledger, manifest: &Manifest) {
    ledger.enrol(&manifest.name, manifest.budget.team.clone(), manifest.budget.tenant.clone());
}

/// Whose budgets each agent shares. Called before the first of them lives.
pub async fn enrol_all(ledger: &Ledger, store: &Store) -> Result<()> {
    for agent in store.read(agents::list).await? {
        let budget = agent.budget.unwrap_or_default();
        ledger.enrol(&agent.name, budget.team, budget.tenant);
    }
    Ok(())
}

/// As the manifest that is installed says; an agent that is not there shares nothing.
pub(super) async fn renew(ledger: &Ledger, store: &Store, name: &AgentName) -> Result<()> {
    let wanted = name.clone();
    match store.read(move |conn| agents::manifest(conn, &wanted)).await {
        Ok(manifest) => enrol(ledger, &manifest),
        Err(fault) if fault.code == Code::AGENT_NOT_FOUND => ledger.enrol(name, None, None),
        Err(fault) => return Err(fault),
    }
    Ok(())
}

/// Follows what changes: budgets that another node has set, and manifests with another team. What was missed is read as a whole.
pub async fn follow(
    ledger: Ledger,
    store: Store,
    mut notices: broadcast::Receiver<Notice>,
    shutdown: CancellationToken,
) {
    loop {
        let notice = tokio::select! {
            () = shutdown.cancelled() => return,
            notice = notices.recv() => notice,
        };
        let outcome = match notice {
            Ok(Notice::Budgets) => ledger.refresh().await,
            Ok(Notice::Agent(name)) => renew(&ledger, &store, &name).await,
            Ok(Notice::Missed) | Err(RecvError::Lagged(_)) => match enrol_all(&ledger, &store).await {
                Ok(()) => ledger.refresh().await,
                failed => failed,
            },
            Ok(_) => Ok(()),
            Err(RecvError::Closed) => return,
        };
        if let Err(fault) = outcome {
            tracing::warn!(%fault, detail = fault.detail, "changed budgets could not be read; those before hold");
        }
    }
}
