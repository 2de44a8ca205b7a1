//! Retention through the API, and the list of everything that is pruned.

use std::time::Duration;

use agentos_api::body::{Context, RetentionCount, RetentionPolicy, RetentionRows, RetentionRun, RetentionStatus};
use agentos_audit::{Authority, PruneOrder, Upkeep};
use agentos_store::Store;
use agentos_tasks::retention::{self, Kind, Pass, Policy, Pruner, Rows, Status};
use agentos_types::{Result, Timestamp};
use async_trait::async_trait;

use super::{ServerKernel, packages::Packages};

/// Answers of models that ended so long ago. Nobody is given one from the moment of its end.
const ENDED_ANSWER_DAYS: u64 = 1;

/// All pruners, in the order in which they run. A component that has something to prune adds its line.
pub fn pruners(policy: &Policy, log: Option<LogDays>, packages: Packages) -> Vec<Box<dyn Pruner>> {
    let days = policy.credential_days;
    let mut list = retention::pruners(policy);
    list.push(Box::new(Rows {
        kind: "tokens",
        days,
        count: agentos_identity::count_ended,
        take: agentos_identity::prune_ended,
    }));
    list.push(Box::new(Rows {
        kind: "secret-versions",
        days,
        count: agentos_secrets::count_replaced,
        take: agentos_secrets::prune_replaced,
    }));
    list.push(Box::new(Rows {
        kind: "model-answers",
        days: ENDED_ANSWER_DAYS,
        count: agentos_models::count_ended_answers,
        take: agentos_models::prune_ended_answers,
    }));
    list.push(Box::new(Rows {
        kind: "model-decisions",
        days: policy.event_days,
        count: agentos_models::count_old_decisions,
        take: agentos_models::prune_old_decisions,
    }));
    list.push(Box::new(packages));
    list.extend(log.map(|log| Box::new(log) as Box<dyn Pruner>));
    list.push(retention::last());
    list
}

/// Days of the audit log. What may go, and how, is its own rule; a run only begins it.
pub struct LogDays {
    pub upkeep: Upkeep,
    /// Age from which a day may go.
    pub age: Duration,
}

impl LogDays {
    const KIND: Kind = "audit-records";
}

#[async_trait]
impl Pruner for LogDays {
    async fn count(&self, store: &Store, now: Timestamp) -> Result<Vec<(Kind, u64)>> {
        // Without the owner of the tables nothing would go; whoever starts the server so prunes at another time.
        let may = store.may_administer();
        let records = if may { self.upkeep.prune(now.before(self.age), true).await?.records } else { 0 };
        Ok(vec![(Self::KIND, records)])
    }

    /// The order first, then one piece after the other. What a run leaves, the next one takes, whoever ordered it.
    async fn batch(&self, pass: &Pass) -> Result<bool> {
        if !pass.store.may_administer() {
            return Ok(false);
        }
        if pass.cursor().is_empty() {
            pass.advance("ordered".into());
            let order = PruneOrder { before: pass.now.before(self.age), dry_run: false, keep_from: None };
            let records = self.upkeep.seal_order(&Authority::system(), order).await?.records;
            pass.write(move |_| Ok(vec![(Self::KIND, records)])).await?;
        }
        pass.timed(self.upkeep.clear_piece()).await
    }
}

pub(super) async fn status(kernel: &ServerKernel) -> Result<RetentionStatus> {
    kernel.retention.status().await.map(shown)
}

pub(super) async fn preview(kernel: &ServerKernel) -> Result<Vec<RetentionRows>> {
    let counts = kernel.retention.preview().await?;
    Ok(counts.into_iter().map(|(kind, rows)| RetentionRows { kind: kind.to_owned(), rows }).collect())
}

pub(super) async fn run(kernel: &ServerKernel, context: &Context) -> Result<RetentionStatus> {
    kernel.retention.ask(&context.actor, Some(context.request_id.to_string())).await.map(shown)
}

fn shown(status: Status) -> RetentionStatus {
    let policy = status.policy;
    RetentionStatus {
        running: status.is_running(),
        policy: RetentionPolicy {
            task_days: policy.task_days,
            dead_letter_days: policy.dead_letter_days,
            event_days: policy.event_days,
            idempotency_days: policy.idempotency_days,
            credential_days: policy.credential_days,
            hour_utc: policy.hour_utc,
        },
        last_run: status.last_run.map(|run| RetentionRun {
            asked_by: run.asked_by,
            started_at: run.started_at,
            finished_at: run.finished_at,
            failure: run.failure,
        }),
        next_at: status.next_at,
        counts: status
            .counts
            .into_iter()
            .map(|count| RetentionCount { kind: count.kind, rows_last: count.rows_last, rows_total: count.rows_total })
            .collect(),
    }
}
