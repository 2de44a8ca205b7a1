//! How much, and on whose account.

use agentos_types::{
    AgentName, TaskId, TokenId,
    budget::{AMOUNT_MAX, BudgetScope, BudgetUnit},
};

/// What one call uses or could use at most. Never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub nano_usd: i64,
    /// Input and output.
    pub tokens: i64,
    pub requests: i64,
}

impl Amount {
    pub fn of(&self, unit: BudgetUnit) -> i64 {
        let amount = match unit {
            BudgetUnit::NanoUsd => self.nano_usd,
            BudgetUnit::Tokens => self.tokens,
            BudgetUnit::Requests => self.requests,
        };
        // A provider can report anything; sums of such numbers have to stay numbers.
        amount.clamp(0, AMOUNT_MAX)
    }
}

/// Everybody who pays for a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payer {
    pub run: Option<TaskId>,
    pub agent: Option<AgentName>,
    pub token: Option<TokenId>,
    pub team: Option<String>,
    pub tenant: Option<String>,
}

/// A budget of the first scope is counted under the second: that of all runs under the run that it is.
pub(crate) type Account = (BudgetScope, BudgetScope);

impl Payer {
    pub(crate) fn accounts(&self) -> Vec<Account> {
        let same = |scope: BudgetScope| (scope.clone(), scope);
        let run = self.agent.clone().zip(self.run.clone());
        let run = run.map(|(agent, task)| (BudgetScope::RunsOf(agent), BudgetScope::Run(task)));
        let agent = self.agent.clone().map(BudgetScope::Agent).map(same);
        let token = self.token.clone().map(BudgetScope::Token).map(same);
        let team = self.team.clone().map(BudgetScope::Team).map(same);
        let tenant = self.tenant.clone().map(BudgetScope::Tenant).map(same);
        [run, agent, token, team, tenant].into_iter().flatten().collect()
    }

    /// The narrowest scope but the run, for sums by payer.
    pub fn shown(&self) -> String {
        let agent = self.agent.clone().map(BudgetScope::Agent);
        let token = self.token.clone().map(BudgetScope::Token);
        agent.or(token).map_or_else(|| "nobody".to_owned(), |scope| scope.to_string())
    }
}
