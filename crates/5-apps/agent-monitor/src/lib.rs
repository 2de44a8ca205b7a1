//! The Monitor: a default agent that watches URLs, files and directories and says in words what changed.
//!
//! It is an ordinary worker: everything that it does is a system call through [`kernel::Kernel`]. It has no clock, no files
//! and no memory of its own, and it may be killed between any two calls. What it promises nevertheless:
//!
//! **Every change is alerted exactly once.** A check *decides* with one conditional write of the watch's record: the new
//! baseline and the alert about it, in an outbox, become durable together. Only then it *delivers*, and only after
//! delivery another write takes the alert out of the outbox. A crash can fall
//!
//! - before the decision: nothing happened; the next look compares with the same baseline and finds the same change. A text
//!   that was stored already is named by no record and is deleted later.
//! - between decision and notification, or notification and history: the alert waits in the record. A new attempt of the task, or the
//!   next check, publishes it under the same id, which is the notification's dedupe key; the kernel publishes a key once. History
//!   entries are written under their number, so that a repetition writes the same.
//! - between webhook and the note that it was sent: an attempt of the same task gets the recorded answer. If that task
//!   failed for good, the next check sends it once more, with the same `id` in its body: webhooks arrive at least once.
//! - after the note: all is done.
//!
//! **Two checks of one watch never decide twice.** Both name the version that they read; the kernel accepts one write. The
//! other check ends as `superseded`, removes its text and leaves the alert to the faster one.
//!
//! **A replay never acts on the past.** A new attempt of a task gets the recorded results of its first steps, which may be
//! old by then. They serve only to come to the same conditional write; before it delivers, a later attempt reads the record
//! anew. Steps that write carry a hash of what they write in their key.
//!
//! **What cannot be delivered blocks nothing else.** A webhook that fails is kept for the next checks (eight a watch) while
//! events go on. If events themselves are refused, checks stop moving the baseline, and the difference grows until it can
//! be told. "Now" is the time at which the task was submitted, read off its id.

mod actions;
mod check;
mod deliver;
mod diff;
mod failure;
mod hash;
mod html;
pub mod kernel;
mod record;
mod request;
mod source;
mod text;

#[cfg(test)]
mod tests;

use agentos_sdk::{TaskError, Value, json};

use crate::{
    kernel::Kernel,
    request::{Check, Request},
};

/// Carries out one task.
pub async fn handle(kernel: &impl Kernel, input: Value) -> Result<Value, TaskError> {
    match Request::parse(input)? {
        Request::Add(add) => actions::add(kernel, *add).await,
        Request::List => actions::list(kernel).await,
        Request::Remove(remove) => actions::remove(kernel, &remove.name).await,
        Request::History(history) => actions::history(kernel, &history).await,
        Request::Check(check) => run_checks(kernel, check).await,
    }
}

/// One watch, or all of them one after the other. A delivery to be repeated fails the task only after all were looked at.
async fn run_checks(kernel: &impl Kernel, request: Check) -> Result<Value, TaskError> {
    let names = match &request.name {
        Some(name) => vec![name.clone()],
        None => record::names(kernel, "names").await?,
    };
    let mut checked = Vec::new();
    let mut retry = None;
    for name in names {
        let report = check::one(kernel, &name, request.scheduled).await?;
        // A schedule may fire once more while its watch is being removed; a person has mistyped.
        if report.value["outcome"] == "gone" && request.name.is_some() && !request.scheduled {
            return Err(actions::unknown(&name));
        }
        checked.push(report.value);
        retry = retry.or(report.retry);
    }
    match retry {
        None => Ok(json!({"watches": checked})),
        Some(error) => Err(error),
    }
}
