//! The actions beside `check`: add, list, remove, history.

use agentos_sdk::{
    Code, ScheduleDelete, ScheduleDeleteResult, SchedulePut, SchedulePutResult, Syscall, TaskError, Value, json,
};

use crate::{
    check::{self, keep, own_snapshot},
    failure::refuse,
    hash,
    kernel::{self, Kernel, ask, submitted_at},
    record::{
        self, Definition, HISTORY_MAX, Health, Standing, WATCHES_MAX, Watch, history_prefix, snapshot_prefix, watch_key,
    },
    request::{Add, History, distinct_name},
    source::{self, Look},
};

/// Tries to write a record that other tasks write to as well.
const ADD_ATTEMPTS: u32 = 3;
/// Pages of keys that a removal goes through. A watch has a few dozen keys; one page holds 500.
const PURGE_PAGES_MAX: u32 = 4;

/// Adds a watch, or gives one a new definition. The first look is the baseline and alerts nobody.
pub async fn add(kernel: &impl Kernel, add: Add) -> Result<Value, TaskError> {
    let Add { mut name, derived, definition } = add;
    let mut found = record::load(kernel, format!("{name}/get"), &name).await?;
    if derived && found.as_ref().is_some_and(|(watch, _)| watch.definition.source != definition.source) {
        name = distinct_name(&name, &definition.source);
        found = record::load(kernel, format!("{name}/get"), &name).await?;
    }
    match &found {
        Some((watch, _)) if watch.definition == definition => return as_it_was(kernel, &name, watch).await,
        Some(_) => {}
        None => {
            let names = record::names(kernel, "names").await?;
            if names.len() >= WATCHES_MAX {
                return Err(refuse(format!("there are {} watches; at most {WATCHES_MAX} are possible", names.len())));
            }
        }
    }
    // Look first: an error of the kernel then leaves nothing behind. The schedule comes before the record, because the
    // kernel may refuse it; until the record is there, its checks find no watch and do nothing.
    let look = source::look(kernel, &format!("{name}/source"), &definition, None).await?;
    let mut watch = new_watch(kernel, &name, &definition, look).await?;
    let next_at = put_schedule(kernel, &name, &definition).await?;
    for round in 1..=ADD_ATTEMPTS {
        let version = found.as_ref().map_or(0, |(_, version)| *version);
        carry_over(&mut watch, found.as_ref().map(|(old, _)| old));
        match record::store(kernel, &format!("{name}/add"), &name, &watch, version).await {
            Ok(_) => break,
            Err(error) if error.code == Code::KV_CONFLICT && round < ADD_ATTEMPTS => {
                found = record::load(kernel, format!("{name}/get/{}/{round}", kernel.attempt()), &name).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if found.is_some() {
        purge(kernel, &name, snapshot_prefix(&name), Some(&own_snapshot(kernel, &name))).await?;
    }
    let outcome = if found.is_some() { "replaced" } else { "added" };
    Ok(json!({"outcome": outcome, "watch": watch.view(&name), "next_at": next_at}))
}

/// The same definition again changes nothing; a source that could not be read so far is tried at once.
async fn as_it_was(kernel: &impl Kernel, name: &str, watch: &Watch) -> Result<Value, TaskError> {
    let next_at = put_schedule(kernel, name, &watch.definition).await?;
    let mut answer = json!({"outcome": "unchanged", "watch": watch.view(name), "next_at": next_at});
    if watch.health.state != Standing::Ok {
        let report = check::one(kernel, name, false).await?;
        answer["check"] = report.value;
    }
    Ok(answer)
}

async fn new_watch(kernel: &impl Kernel, name: &str, definition: &Definition, look: Look) -> Result<Watch, TaskError> {
    let at = submitted_at(kernel.task()).to_string();
    let (baseline, state, message) = match look {
        Look::Content(snapshot) => (Some(keep(kernel, name, snapshot).await?), Standing::Ok, None),
        Look::Failing(standing, message) => (None, standing, Some(message)),
        Look::Same => (None, Standing::Ok, None),
    };
    let failures = u32::from(state != Standing::Ok);
    Ok(Watch {
        id: kernel.task().to_string(),
        definition: definition.clone(),
        created_at: at.clone(),
        health: Health {
            state,
            since: at,
            since_task: kernel.task().to_string(),
            failures,
            skipped: 0,
            message,
            turns: 0,
        },
        baseline,
        changes: 0,
        outbox: Vec::new(),
        webhook_problem: None,
        webhooks_dropped: 0,
    })
}

/// A new definition keeps the identity, the numbers, and what is still to be told.
fn carry_over(watch: &mut Watch, old: Option<&Watch>) {
    let Some(old) = old else { return };
    watch.id.clone_from(&old.id);
    watch.created_at.clone_from(&old.created_at);
    watch.changes = old.changes;
    watch.health.turns = old.health.turns;
    watch.outbox.clone_from(&old.outbox);
    watch.webhooks_dropped = old.webhooks_dropped;
}

async fn put_schedule(kernel: &impl Kernel, name: &str, definition: &Definition) -> Result<String, TaskError> {
    let call = Syscall::SchedulePut(SchedulePut {
        name: schedule_name(name),
        cadence: definition.cadence.clone(),
        input: json!({"action": "check", "name": name, "scheduled": true}),
    });
    let put: SchedulePutResult = ask(kernel, format!("{name}/schedule"), call).await?;
    Ok(put.next_at.to_string())
}

/// Removes the watch, its texts, its history and its schedule. What was not delivered yet is dropped with it.
pub async fn remove(kernel: &impl Kernel, name: &str) -> Result<Value, TaskError> {
    let found = record::load(kernel, format!("{name}/get"), name).await;
    let call = Syscall::ScheduleDelete(ScheduleDelete { name: schedule_name(name) });
    let schedule: ScheduleDeleteResult = ask(kernel, format!("{name}/unschedule"), call).await?;
    kernel::kv_delete(kernel, format!("{name}/remove"), watch_key(name)).await?;
    purge(kernel, name, snapshot_prefix(name), None).await?;
    purge(kernel, name, history_prefix(name), None).await?;
    // A record that cannot be read is one more reason to remove it.
    let removed = schedule.existed || !matches!(found, Ok(None));
    Ok(json!({"outcome": if removed { "removed" } else { "absent" }, "name": name}))
}

/// Deletes all values below a prefix but one.
async fn purge(kernel: &impl Kernel, name: &str, prefix: String, kept: Option<&str>) -> Result<(), TaskError> {
    let mut after = None;
    for page in 0..PURGE_PAGES_MAX {
        let step = format!("{name}/purge/{}/{page}", hash::short(&prefix));
        let listed = kernel::kv_list(kernel, step.as_str(), prefix.clone(), after).await?;
        for key in listed.keys.iter().filter(|key| kept != Some(key)) {
            kernel::kv_delete(kernel, format!("{step}/{}", hash::short(key)), key.clone()).await?;
        }
        after = listed.keys.last().cloned();
        if !listed.truncated {
            break;
        }
    }
    Ok(())
}

pub async fn list(kernel: &impl Kernel) -> Result<Value, TaskError> {
    let mut watches = Vec::new();
    for name in record::names(kernel, "names").await? {
        let found = kernel::kv_get(kernel, format!("{name}/get"), watch_key(&name)).await?;
        let Some(value) = found.value else { continue };
        watches.push(match serde_json::from_value::<Watch>(value) {
            Ok(watch) => watch.view(&name),
            Err(source) => json!({"name": name, "problem": format!("the stored watch cannot be read: {source}")}),
        });
    }
    Ok(json!({"watches": watches}))
}

/// The newest changes first.
pub async fn history(kernel: &impl Kernel, request: &History) -> Result<Value, TaskError> {
    let name = request.name.as_str();
    if record::load(kernel, format!("{name}/get"), name).await?.is_none() {
        return Err(unknown(name));
    }
    let limit = usize::try_from(request.limit.unwrap_or(HISTORY_MAX).min(HISTORY_MAX)).unwrap_or_default();
    let listed = kernel::kv_list(kernel, format!("{name}/history"), history_prefix(name), None).await?;
    let mut changes = Vec::new();
    for key in listed.keys.iter().rev().take(limit) {
        let found = kernel::kv_get(kernel, format!("{name}/history/{}", hash::short(key)), key.clone()).await?;
        changes.extend(found.value);
    }
    Ok(json!({"name": name, "changes": changes}))
}

pub fn unknown(name: &str) -> TaskError {
    let name: String = name.chars().take(80).collect();
    refuse(format!("there is no watch '{}'; 'list' shows all", name.escape_debug()))
}

fn schedule_name(name: &str) -> String {
    format!("watch-{name}")
}
