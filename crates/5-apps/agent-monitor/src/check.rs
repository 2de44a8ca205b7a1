//! One check of one watch: look, decide in a single write, deliver. See the crate's header for why this loses nothing.

use agentos_sdk::{Code, TaskError, Value, json};

use crate::{
    deliver,
    diff::{self, Difference},
    kernel::{self, Kernel, submitted_at},
    record::{self, Alert, Baseline, OUTBOX_MAX, Standing, Watch, snapshot_prefix},
    source::{self, Look, Snapshot},
};

/// A source that failed this often in a row is tried at every 32nd scheduled check only.
const BACK_OFF_MAX: u32 = 32;

/// What a check of one watch came to.
#[derive(Debug)]
pub struct Report {
    /// For the task's output.
    pub value: Value,
    /// A delivery that this very task should try again.
    pub retry: Option<TaskError>,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    /// There is no such watch (any more).
    Gone,
    Skipped,
    /// Too many alerts wait to be published; the next difference will cover what happens meanwhile.
    Blocked,
    /// Another check was faster; its decision stands.
    Superseded,
    Unchanged,
    /// Seen for the first time.
    Baseline,
    Failing,
    Changed {
        number: u64,
        difference: Difference,
    },
}

/// `scheduled`: back-off applies.
pub async fn one(kernel: &impl Kernel, name: &str, scheduled: bool) -> Result<Report, TaskError> {
    let Some((before, version)) = record::load(kernel, format!("{name}/get"), name).await? else {
        return Ok(report(name, &Outcome::Gone, None, None));
    };
    let mut watch = before.clone();
    let outcome = decide(kernel, name, &mut watch, scheduled).await?;
    if kernel.attempt() > 1 && is_another(kernel, name, &before).await? {
        return finish(kernel, name, Outcome::Superseded).await;
    }
    let stored = if watch == before {
        Ok(version)
    } else {
        record::store(kernel, &format!("{name}/decide"), name, &watch, version).await
    };
    match stored {
        // A later attempt replays its first steps, and meanwhile another task may have gone on: it reads the record anew.
        Ok(_) if kernel.attempt() > 1 => finish(kernel, name, outcome).await,
        Ok(version) => {
            let delivery = deliver::flush(kernel, name, watch.clone(), version).await?;
            Ok(report(name, &outcome, Some(&watch), Some(delivery)))
        }
        Err(conflict) if conflict.code == Code::KV_CONFLICT => finish(kernel, name, Outcome::Superseded).await,
        Err(error) => Err(error.into()),
    }
}

/// Versions begin anew when a watch is removed and added again, so a later attempt does not trust them alone.
async fn is_another(kernel: &impl Kernel, name: &str, before: &Watch) -> Result<bool, TaskError> {
    let current = record::load(kernel, format!("{name}/again/{}", kernel.attempt()), name).await?;
    Ok(current.is_none_or(|(watch, _)| watch.id != before.id))
}

/// Goes on with the record as it is now.
async fn finish(kernel: &impl Kernel, name: &str, outcome: Outcome) -> Result<Report, TaskError> {
    let current = record::load(kernel, format!("{name}/reload/{}", kernel.attempt()), name).await?;
    if outcome == Outcome::Superseded {
        let own = own_snapshot(kernel, name);
        let in_use = current.iter().any(|(watch, _)| watch.baseline.iter().any(|baseline| baseline.snapshot == own));
        if !in_use {
            kernel::kv_delete(kernel, format!("{name}/drop-text/{}", kernel.attempt()), own).await?;
        }
    }
    match current {
        None => Ok(report(name, &Outcome::Gone, None, None)),
        // On a first attempt the faster check is delivering at this moment, or the next one will.
        Some((watch, _)) if outcome == Outcome::Superseded && kernel.attempt() == 1 => {
            Ok(report(name, &outcome, Some(&watch), None))
        }
        Some((watch, version)) => {
            let delivery = deliver::flush(kernel, name, watch.clone(), version).await?;
            Ok(report(name, &outcome, Some(&watch), Some(delivery)))
        }
    }
}

/// Changes `watch` to what it should be; nobody knows of it until it is stored.
async fn decide(kernel: &impl Kernel, name: &str, watch: &mut Watch, scheduled: bool) -> Result<Outcome, TaskError> {
    // A look may bring two alerts: the source is back, and it changed.
    if watch.outbox.iter().filter(|alert| !alert.published).count() + 2 > OUTBOX_MAX {
        return Ok(Outcome::Blocked);
    }
    if scheduled && watch.health.skipped < checks_to_skip(watch.health.failures) {
        watch.health.skipped += 1;
        return Ok(Outcome::Skipped);
    }
    let looked = source::look(kernel, &format!("{name}/source"), &watch.definition, watch.baseline.as_ref()).await?;
    let snapshot = match looked {
        Look::Failing(standing, message) => {
            turn(kernel, name, watch, standing, Some(message));
            return Ok(Outcome::Failing);
        }
        Look::Same => {
            turn(kernel, name, watch, Standing::Ok, None);
            return Ok(Outcome::Unchanged);
        }
        Look::Content(snapshot) => snapshot,
    };
    turn(kernel, name, watch, Standing::Ok, None);
    match &mut watch.baseline {
        Some(baseline) if baseline.hash == snapshot.hash => {
            (baseline.marker, baseline.bytes) = (snapshot.marker, snapshot.bytes);
            Ok(Outcome::Unchanged)
        }
        Some(baseline) => {
            let old = baseline.clone();
            changed(kernel, name, watch, &old, snapshot).await
        }
        None => {
            watch.baseline = Some(keep(kernel, name, snapshot).await?);
            Ok(Outcome::Baseline)
        }
    }
}

async fn changed(
    kernel: &impl Kernel,
    name: &str,
    watch: &mut Watch,
    old: &Baseline,
    snapshot: Snapshot,
) -> Result<Outcome, TaskError> {
    let stored = kernel::kv_get(kernel, format!("{name}/old-text"), old.snapshot.clone()).await?;
    let difference = match stored.value {
        Some(Value::String(text)) => diff::between(&text, &snapshot.text),
        _ => Difference {
            summary: "changed; the earlier text is no longer stored".into(),
            added: 0,
            removed: 0,
            diff: String::new(),
        },
    };
    let new = keep(kernel, name, snapshot).await?;
    let number = watch.changes + 1;
    let id = watch.alert_id(name, "watch.changed", number, &old.hash, &new.hash);
    let data = json!({
        "kind": "watch.changed",
        "id": id,
        "watch": name,
        "source": watch.definition.source,
        "number": number,
        "task": kernel.task(),
        "at": submitted_at(kernel.task()).to_string(),
        "summary": format!("{}: {}", watch.definition.source.label(), difference.summary),
        "added": difference.added,
        "removed": difference.removed,
        "diff": difference.diff,
        "before": {"hash": old.hash, "bytes": old.bytes, "at": old.taken_at},
        "after": {"hash": new.hash, "bytes": new.bytes, "cut": new.cut},
    });
    watch.changes = number;
    watch.baseline = Some(new);
    push(
        watch,
        Alert {
            id,
            kind: "watch.changed".into(),
            data,
            published: false,
            webhook: watch.definition.webhook.clone(),
            task: kernel.task().to_string(),
            number: Some(number),
            replaces: Some(old.snapshot.clone()),
        },
    );
    Ok(Outcome::Changed { number, difference })
}

/// Stores the text under a key of this task's own, so that no other check can write to it.
pub async fn keep(kernel: &impl Kernel, name: &str, snapshot: Snapshot) -> Result<Baseline, TaskError> {
    let key = own_snapshot(kernel, name);
    kernel::kv_put(kernel, &format!("{name}/text"), key.clone(), Value::String(snapshot.text), None).await?;
    Ok(Baseline {
        hash: snapshot.hash,
        bytes: snapshot.bytes,
        cut: snapshot.cut,
        snapshot: key,
        marker: snapshot.marker,
        taken_at: submitted_at(kernel.task()).to_string(),
    })
}

pub fn own_snapshot(kernel: &impl Kernel, name: &str) -> String {
    format!("{}{}", snapshot_prefix(name), kernel.task())
}

/// Counts failures; a change of state becomes an alert.
fn turn(kernel: &impl Kernel, name: &str, watch: &mut Watch, to: Standing, message: Option<String>) {
    let from = watch.health.state;
    watch.health.failures = if to == Standing::Ok { 0 } else { watch.health.failures.saturating_add(1) };
    watch.health.skipped = 0;
    watch.health.message = message;
    if from == to {
        return;
    }
    let at = submitted_at(kernel.task()).to_string();
    watch.health.turns += 1;
    watch.health.state = to;
    watch.health.since = at.clone();
    watch.health.since_task = kernel.task().to_string();
    let id = watch.alert_id(name, "watch.state", watch.health.turns, from.as_str(), to.as_str());
    let label = watch.definition.source.label();
    let summary = match &watch.health.message {
        None => format!("{label}: {}", to.as_str()),
        Some(message) => format!("{label}: {}: {message}", to.as_str()),
    };
    let data = json!({
        "kind": "watch.state",
        "id": id,
        "watch": name,
        "source": watch.definition.source,
        "task": kernel.task(),
        "at": at,
        "summary": summary,
        "from": from,
        "to": to,
    });
    push(
        watch,
        Alert {
            id,
            kind: "watch.state".into(),
            data,
            published: false,
            webhook: None,
            task: kernel.task().to_string(),
            number: None,
            replaces: None,
        },
    );
}

/// When the outbox is full, the oldest alert that waits only for its webhook is given up: its notification is out.
fn push(watch: &mut Watch, alert: Alert) {
    if watch.outbox.len() >= OUTBOX_MAX
        && let Some(oldest) = watch.outbox.iter().position(|alert| alert.published)
    {
        watch.outbox.remove(oldest);
        watch.webhooks_dropped += 1;
    }
    watch.outbox.push(alert);
}

/// One failure may be chance: the next check is made. After `n` of them only every 2^(n-1)-th.
fn checks_to_skip(failures: u32) -> u32 {
    match failures {
        0 => 0,
        n => 1_u32.checked_shl(n - 1).unwrap_or(BACK_OFF_MAX).clamp(1, BACK_OFF_MAX) - 1,
    }
}

fn report(name: &str, outcome: &Outcome, watch: Option<&Watch>, delivery: Option<deliver::Delivery>) -> Report {
    let word = match outcome {
        Outcome::Gone => "gone",
        Outcome::Skipped => "skipped",
        Outcome::Blocked => "blocked",
        Outcome::Superseded => "superseded",
        Outcome::Unchanged => "unchanged",
        Outcome::Baseline => "baseline",
        Outcome::Failing => watch.map_or("error", |watch| watch.health.state.as_str()),
        Outcome::Changed { .. } => "changed",
    };
    let mut value = json!({"name": name, "outcome": word});
    if let Outcome::Changed { number, difference } = outcome {
        let label = watch.map(|watch| watch.definition.source.label()).unwrap_or_default();
        value["number"] = json!(number);
        value["summary"] = json!(format!("{label}: {}", difference.summary));
        value["diff"] = json!(difference.diff);
    }
    if let Some(watch) = watch.filter(|watch| watch.health.state != Standing::Ok) {
        value["state"] = json!(watch.health);
    }
    let delivery = delivery.unwrap_or_default();
    if let Some(problem) = delivery.problem {
        value["undelivered"] = json!(problem);
    }
    Report { value, retry: delivery.retry }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_up_to_its_limit() {
        let skips: Vec<u32> = (0..9).map(checks_to_skip).collect();
        assert_eq!(skips, [0, 0, 1, 3, 7, 15, 31, 31, 31]);
        assert_eq!(checks_to_skip(u32::MAX), 31);
    }
}
