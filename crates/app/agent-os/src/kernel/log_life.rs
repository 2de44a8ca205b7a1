//! Pruning, legal holds and a new key of the audit log: the words of the API for what `Upkeep` does.

use agentos_api::body::{AddAuditHold, AuditHold, AuditKeyRotated, AuditPruned, Context, PruneAudit};
use agentos_audit::{Authority, Hold, NewHold, PruneOrder};
use agentos_types::{Code, Fault, Result};

use super::ServerKernel;

pub(super) async fn prune(kernel: &ServerKernel, context: &Context, body: PruneAudit) -> Result<AuditPruned> {
    let before = kernel.ambient.now().before(kernel.audit_retention);
    let keep_from = body.keep_from.map(u64::try_from).transpose();
    let keep_from = keep_from.map_err(|_| Fault::new(Code::AUDIT_QUERY_INVALID, "keep_from is below zero"))?;
    let order = PruneOrder { before, dry_run: body.dry_run, keep_from };
    let report = kernel.upkeep.prune_by(&authority(context), order).await?;
    let seq = |count| i64::try_from(count).map_err(Fault::internal);
    Ok(AuditPruned {
        dry_run: report.dry_run,
        before,
        days: report.days,
        records: report.records,
        first_kept: seq(report.first_kept)?,
        first_kept_before: seq(report.first_kept_before)?,
        held: report.held,
    })
}

pub(super) async fn holds(kernel: &ServerKernel) -> Result<Vec<AuditHold>> {
    Ok(kernel.upkeep.holds().await?.into_iter().map(hold).collect())
}

pub(super) async fn add_hold(kernel: &ServerKernel, context: &Context, body: AddAuditHold) -> Result<AuditHold> {
    let new = NewHold { name: body.name, reason: body.reason, from: body.from };
    kernel.upkeep.add_hold(&authority(context), new).await.map(hold)
}

pub(super) async fn release_hold(kernel: &ServerKernel, context: &Context, name: &str) -> Result<()> {
    kernel.upkeep.release_hold(&authority(context), name).await
}

/// The next key lies in its file before the log hears of it, and the old one is destroyed after the log has changed.
pub(super) async fn rotate_key(kernel: &ServerKernel, context: &Context) -> Result<AuditKeyRotated> {
    let files = kernel.log_keys.lock().await;
    // A change that was cut off is brought to its end first.
    files.settle(kernel.audit.identity())?;
    let seed = files.next(&kernel.ambient)?;
    let rotated = kernel.upkeep.rotate_key(&authority(context), &seed).await?;
    files.settle(kernel.audit.identity())?;
    Ok(AuditKeyRotated { old_key: rotated.old.to_string(), new_key: rotated.new.to_string() })
}

fn authority(context: &Context) -> Authority {
    Authority { actor: context.actor.clone(), correlation: Some(context.request_id.to_string()) }
}

fn hold(hold: Hold) -> AuditHold {
    AuditHold {
        from: hold.from(),
        name: hold.name,
        reason: hold.reason,
        placed_by: hold.placed_by,
        placed_at: hold.placed_at,
    }
}
