//! Budgets change: by an operator, by a deployment, or on another node. What this node holds of a budget that changes goes back
//! before the new one counts.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
};

use agentos_base::Ambient;
use agentos_store::Tx;
use agentos_types::{
    Actor, AgentName, Code, Fault, Result, TaskId,
    audit::AuditEvent,
    budget::{AMOUNT_MAX, BudgetScope, Period},
    notify::Notice,
};

use crate::{
    Budget, Ledger, Payer,
    counters::Booking,
    limits::{Limits, changed},
    rows,
};

/// What is in force: the budgets as they are stored, those of deployments that are under way, and both as calls ask for them.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    stored: Vec<Budget>,
    /// Each under a number of its own: two deployments of one agent may overlap.
    announced: Vec<(u64, Vec<Budget>)>,
    announced_last: u64,
    limits: Arc<Limits>,
}

impl Budgets {
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits)
    }

    fn renew(&mut self) {
        let announced = self.announced.iter().flat_map(|(_, budgets)| budgets);
        self.limits = Arc::new(Limits::new(self.stored.iter().chain(announced)));
    }
}

/// The budgets of a manifest that is being deployed hold beside those that are stored, so that no call of the new version is
/// made without them. When this is dropped, what is stored counts alone.
#[derive(Debug)]
#[must_use = "what is announced holds only as long as this"]
pub struct Announced {
    ledger: Ledger,
    number: u64,
}

impl Drop for Announced {
    fn drop(&mut self) {
        let mut budgets = self.ledger.inner.budgets.write().unwrap_or_else(PoisonError::into_inner);
        budgets.announced.retain(|(number, _)| *number != self.number);
        budgets.renew();
    }
}

/// Writes the budgets of a manifest in place of those of the version before, in the transaction of the deployment.
pub fn write_manifests(tx: &mut Tx<'_>, agent: &AgentName, budgets: &[Budget]) -> Result<()> {
    for scope in [BudgetScope::Agent(agent.clone()), BudgetScope::RunsOf(agent.clone())] {
        rows::remove_manifests(tx, &scope)?;
    }
    for budget in budgets {
        check(budget)?;
        rows::put(tx, budget)?;
    }
    rows::refuse_one_too_many(tx)?;
    tx.announce(Notice::Budgets);
    Ok(())
}

impl Ledger {
    /// Sets a budget, with its record. What this node holds of a larger one before goes back first.
    pub async fn set(&self, actor: &Actor, budget: Budget) -> Result<()> {
        check(&budget)?;
        let actor = actor.clone();
        self.change(vec![budget.scope.clone()], move |tx, ambient| {
            rows::put(tx, &budget)?;
            rows::refuse_one_too_many(tx)?;
            tx.record(event_of(ambient, &actor, "budget.set", &budget).fact("amount", budget.amount));
            Ok(())
        })
        .await
    }

    pub async fn remove(&self, actor: &Actor, budget: Budget) -> Result<()> {
        let actor = actor.clone();
        self.change(vec![budget.scope.clone()], move |tx, ambient| {
            if rows::remove(tx, &budget.scope, budget.period, budget.unit, budget.origin)? == 0 {
                let what =
                    format!("no {} budget of {} in {}", budget.period.as_str(), budget.scope, budget.unit.as_str());
                return Err(Fault::new(Code::BUDGET_NOT_FOUND, what).hint("`agent-os budget show` lists what is set"));
            }
            tx.record(event_of(ambient, &actor, "budget.remove", &budget));
            Ok(())
        })
        .await
    }

    /// The budgets of a manifest, in place of those of the one before.
    pub async fn set_of_manifest(&self, agent: &AgentName, budgets: Vec<Budget>) -> Result<()> {
        let scopes = vec![BudgetScope::Agent(agent.clone()), BudgetScope::RunsOf(agent.clone())];
        let agent = agent.clone();
        self.change(scopes, move |tx, _| write_manifests(tx, &agent, &budgets)).await
    }

    /// Before a deployment writes them ([`write_manifests`]); [`Ledger::refresh`] follows it.
    pub fn announce(&self, announced: Vec<Budget>) -> Announced {
        let mut budgets = self.inner.budgets.write().unwrap_or_else(PoisonError::into_inner);
        budgets.announced_last += 1;
        let number = budgets.announced_last;
        budgets.announced.push((number, announced));
        budgets.renew();
        Announced { ledger: self.clone(), number }
    }

    async fn change(
        &self,
        scopes: Vec<BudgetScope>,
        work: impl FnOnce(&mut Tx<'_>, &Ambient) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let _writing = self.inner.writing.lock().await;
        let ambient = self.inner.ambient.clone();
        self.give_back(&scopes, move |tx| {
            work(tx, &ambient)?;
            tx.announce(Notice::Budgets);
            Ok(())
        })
        .await?;
        self.read().await.map(drop)
    }

    /// Reads the budgets again: they were changed on another node, or by a deployment.
    pub async fn refresh(&self) -> Result<()> {
        let _writing = self.inner.writing.lock().await;
        let scopes = self.read().await?;
        if scopes.is_empty() {
            return Ok(());
        }
        self.give_back(&scopes, |_| Ok(())).await
    }

    /// Takes what is stored for what is in force. Returns the scopes in which something is different.
    pub(crate) async fn read(&self) -> Result<Vec<BudgetScope>> {
        let stored = self.inner.store.read(rows::budgets).await?;
        let mut budgets = self.inner.budgets.write().unwrap_or_else(PoisonError::into_inner);
        let scopes: BTreeSet<BudgetScope> = changed(&budgets.stored, &stored);
        budgets.stored = stored;
        budgets.renew();
        Ok(scopes.into_iter().collect())
    }

    /// Does `work`, and in the same transaction gives back what no call holds of these scopes. The caller holds `writing`.
    async fn give_back(
        &self,
        scopes: &[BudgetScope],
        work: impl FnOnce(&mut Tx<'_>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let now = self.inner.ambient.now();
        let returned: Vec<Booking> = scopes.iter().flat_map(|scope| self.inner.counters.unused(scope)).collect();
        let (node, bookings) = (self.inner.node.clone(), returned.clone());
        let written = self
            .inner
            .store
            .write(move |tx| {
                work(tx)?;
                bookings.iter().try_for_each(|booking| rows::book(tx, &node, booking, now))
            })
            .await;
        if written.is_err() {
            returned.iter().for_each(|booking| self.inner.counters.undo(booking, now));
            self.doubt(returned.iter().map(|booking| &booking.key));
        }
        written
    }

    /// Whose budgets an agent shares. Asked for with each call, so that it is held in memory.
    pub fn enrol(&self, agent: &AgentName, team: Option<String>, tenant: Option<String>) {
        let mut members = self.inner.members.write().unwrap_or_else(PoisonError::into_inner);
        if team.is_none() && tenant.is_none() {
            members.remove(agent);
        } else {
            members.insert(agent.clone(), (team, tenant));
        }
    }

    /// Everybody who pays for a call of an agent.
    pub fn payer(&self, agent: &AgentName, run: Option<TaskId>) -> Payer {
        let members = self.inner.members.read().unwrap_or_else(PoisonError::into_inner);
        let (team, tenant) = members.get(agent).cloned().unwrap_or_default();
        Payer { run, agent: Some(agent.clone()), token: None, team, tenant }
    }
}

fn check(budget: &Budget) -> Result<()> {
    let refused = |what: String| Err(Fault::new(Code::BUDGET_INVALID, what));
    if !(0..=AMOUNT_MAX).contains(&budget.amount) {
        return refused(format!("an amount of {} is outside of 0..={AMOUNT_MAX}", budget.amount));
    }
    match (&budget.scope, budget.period) {
        (BudgetScope::Run(_), _) => refused("one run has no budget of its own; set one for runs-of:AGENT".into()),
        (BudgetScope::RunsOf(_), Period::Total) => Ok(()),
        (BudgetScope::RunsOf(_), _) => {
            refused("a budget for each run counts the whole run: use the period total".into())
        }
        _ => Ok(()),
    }
}

fn event_of(ambient: &Ambient, actor: &Actor, action: &str, budget: &Budget) -> AuditEvent {
    AuditEvent::new(ambient.event_id(), ambient.now(), actor.clone(), action, budget.scope.to_string())
        .fact("period", budget.period.as_str())
        .fact("unit", budget.unit.as_str())
        .fact("origin", budget.origin.as_str())
}
