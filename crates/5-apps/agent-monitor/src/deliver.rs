//! Telling what was decided: the notification, the history, the webhook, and then the note in the record that it is done.
//!
//! Every part may be repeated: the notification has a dedupe key, the history has its number, the webhook carries the alert's id
//! in its body. An alert leaves the outbox only after all its parts are done.

use agentos_sdk::{CallError, Code, NotifyEvent, NotifyEventResult, NotifyWebhook, Syscall, TaskError, Value};

use crate::{
    failure, hash,
    kernel::{self, Kernel, ask},
    record::{self, Alert, HISTORY_MAX, Watch, history_key, snapshot_prefix},
};

/// Tries to note what was delivered while other tasks write to the same record.
const NOTE_ATTEMPTS: u32 = 3;

#[derive(Debug, Default)]
pub struct Delivery {
    /// What could not be delivered, and why.
    pub problem: Option<String>,
    /// Set when the kernel should give this task another attempt for it.
    pub retry: Option<TaskError>,
}

/// Delivers the outbox, oldest first.
pub async fn flush(kernel: &impl Kernel, name: &str, mut watch: Watch, version: i64) -> Result<Delivery, TaskError> {
    if watch.outbox.is_empty() {
        return Ok(Delivery::default());
    }
    let kept = watch.baseline.as_ref().map(|baseline| baseline.snapshot.clone());
    let mut outcome = Delivery::default();
    let mut webhooks_go = true;
    let mut passing = None;
    watch.webhook_problem = None;
    for alert in &mut watch.outbox {
        if !alert.published {
            if let Err(error) = publish(kernel, name, alert, kept.as_deref()).await {
                let message = format!("the notification of '{name}' could not be published: {}", failure::text(&error));
                outcome.problem = Some(message.clone());
                outcome.retry = Some(TaskError { message, ..error.into() });
                break;
            }
            alert.published = true;
        }
        // One that fails holds up those behind it, so that the receiver sees changes in their order.
        if !webhooks_go {
            continue;
        }
        if let Err(error) = send(kernel, name, alert).await {
            webhooks_go = false;
            let message = format!("the webhook of '{name}' was not delivered: {}", failure::text(&error));
            watch.webhook_problem = Some(failure::text(&error));
            outcome.problem = Some(message.clone());
            // The task that made an alert retries with the kernel's back-off; checks that find it later try once each.
            passing = failure::may_pass(error.class).then(|| TaskError { message, ..error.into() });
        }
    }
    let own = kernel.task().as_str();
    if watch.outbox.iter().any(|alert| alert.task == own && alert.webhook.is_some()) {
        outcome.retry = outcome.retry.or(passing);
    }
    note(kernel, name, watch, version).await?;
    Ok(outcome)
}

async fn publish(kernel: &impl Kernel, name: &str, alert: &Alert, kept: Option<&str>) -> Result<(), CallError> {
    let event = NotifyEvent { kind: alert.kind.clone(), data: alert.data.clone(), dedupe_key: Some(alert.id.clone()) };
    // `published: false` means that an earlier task had come this far, which is just as well.
    let _: NotifyEventResult = ask(kernel, step(name, "event", alert), Syscall::NotifyEvent(event)).await?;
    if let Some(number) = alert.number {
        let step = step(name, "history", alert);
        kernel::kv_put(kernel, &step, history_key(name, number), alert.data.clone(), None).await?;
        if let Some(oldest) = number.checked_sub(HISTORY_MAX) {
            kernel::kv_delete(kernel, format!("{step}/trim"), history_key(name, oldest)).await?;
        }
    }
    match &alert.replaces {
        Some(replaced) => drop_texts(kernel, name, replaced, kept).await,
        None => Ok(()),
    }
}

/// Task ids grow with time: what sorts up to the replaced text is it, or was left behind by a check that came to nothing.
async fn drop_texts(kernel: &impl Kernel, name: &str, replaced: &str, kept: Option<&str>) -> Result<(), CallError> {
    let step = format!("{name}/texts/{}", hash::short(replaced));
    let texts = kernel::kv_list(kernel, step.as_str(), snapshot_prefix(name), None).await?;
    for key in texts.keys.into_iter().filter(|key| key.as_str() <= replaced && kept != Some(key)) {
        kernel::kv_delete(kernel, format!("{step}/{}", hash::short(&key)), key).await?;
    }
    Ok(())
}

async fn send(kernel: &impl Kernel, name: &str, alert: &mut Alert) -> Result<(), CallError> {
    let Some(webhook) = &alert.webhook else { return Ok(()) };
    let call = NotifyWebhook { url: webhook.url.clone(), body: alert.data.clone(), secret: webhook.secret.clone() };
    let _: Value = ask(kernel, step(name, "webhook", alert), Syscall::NotifyWebhook(call)).await?;
    alert.webhook = None;
    Ok(())
}

fn step(name: &str, part: &str, alert: &Alert) -> String {
    format!("{name}/{part}/{}", hash::short(&alert.id))
}

/// Writes down what is done. If somebody else wrote meanwhile, only the marks are carried over to what is there now.
async fn note(kernel: &impl Kernel, name: &str, delivered: Watch, mut version: i64) -> Result<(), TaskError> {
    let mut watch = delivered.clone();
    for round in 0..NOTE_ATTEMPTS {
        watch.outbox.retain(|alert| !alert.published || alert.webhook.is_some());
        match record::store(kernel, &format!("{name}/delivered"), name, &watch, version).await {
            Ok(_) => return Ok(()),
            Err(error) if error.code == Code::KV_CONFLICT => {}
            Err(error) => return Err(error.into()),
        }
        let step = format!("{name}/delivered-get/{}/{round}", kernel.attempt());
        let Some((current, now)) = record::load(kernel, step, name).await? else {
            return forget(kernel, name, &delivered).await;
        };
        (watch, version) = (current, now);
        watch.webhook_problem = delivered.webhook_problem.clone();
        for alert in &mut watch.outbox {
            if let Some(done) = delivered.outbox.iter().find(|done| done.id == alert.id) {
                alert.published |= done.published;
                alert.webhook = alert.webhook.take().filter(|_| done.webhook.is_some());
            }
        }
    }
    // The next check finds the alerts still waiting and delivers them again under the same ids.
    Ok(())
}

/// The watch was removed while its alerts were delivered: its history went with it.
async fn forget(kernel: &impl Kernel, name: &str, delivered: &Watch) -> Result<(), TaskError> {
    for number in delivered.outbox.iter().filter_map(|alert| alert.number) {
        let key = history_key(name, number);
        kernel::kv_delete(kernel, format!("{name}/forget/{number}/{}", kernel.attempt()), key).await?;
    }
    Ok(())
}
