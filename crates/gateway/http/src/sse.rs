//! Server-sent events: a task's events and the audit log's tail.
//!
//! A stream is a cursor over durable rows that looks again when the kernel announces a change. It subscribes before its
//! first read and resumes by sequence number, so nothing is missed and nothing comes twice; a slow reader costs no
//! memory, because rows are read only as fast as they are taken.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use agentos_api::body::{AuditFilter, AuditRecord};
use agentos_types::{
    Result, Scope, TaskId,
    notify::Notice,
    task::{TaskEvent, TaskState},
};
use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, stream};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Interval, MissedTickBehavior},
};

use crate::{
    cursor,
    identity::Bearer,
    layers::guard::Caller,
    reach::{Reach, Right},
    shared::Shared,
};

/// Proxies cut connections that are silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Rows read at once.
pub(crate) const BATCH_MAX: usize = 100;

/// `Accept` asks for a stream.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accept.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/event-stream"))
}

/// Where a reconnecting client goes on.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let seq = value.to_str().ok().and_then(|text| text.parse().ok());
    checked_seq(Some(seq.ok_or_else(|| cursor::invalid("Last-Event-ID is not a sequence number"))?))
}

pub(crate) fn checked_seq(seq: Option<i64>) -> Result<Option<i64>> {
    match seq {
        Some(seq) if seq < 0 => Err(cursor::invalid("a sequence number is not negative")),
        seq => Ok(seq),
    }
}

/// The event that ended its task, as far as it is the last one: a redrive adds more after it.
pub(crate) fn is_final(event: &TaskEvent) -> bool {
    let state = event.data.get("state").and_then(|state| TaskState::parse(state.as_str()?));
    event.kind == "state" && state.is_some_and(TaskState::is_terminal)
}

/// Waits for announcements on behalf of one stream, and knows when the stream must end.
struct Follower {
    shared: Arc<Shared>,
    bearer: Bearer,
    needed: Right,
    /// How far the right went when the stream was opened; it must go as far at each check.
    reach: Reach,
    notices: Receiver<Notice>,
    recheck: Interval,
}

impl Follower {
    fn new(shared: Arc<Shared>, caller: Caller, needed: Right, notices: Receiver<Notice>) -> Self {
        let mut recheck = tokio::time::interval(shared.recheck_interval);
        recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
        recheck.reset();
        Self { shared, bearer: caller.bearer, needed, reach: caller.reach, notices, recheck }
    }

    /// Returns true when there may be something new, false when the stream must end: shutdown, or the token is no
    /// longer good. A receiver that lagged looks as well, since what it missed may have been for it.
    async fn wait(&mut self, concerns: impl Fn(&Notice) -> bool) -> bool {
        loop {
            tokio::select! {
                () = self.shared.shutdown.cancelled() => return false,
                _ = self.recheck.tick() => {
                    if !self.may_read().await {
                        return false;
                    }
                }
                notice = self.notices.recv() => match notice {
                    Ok(notice) if notice == Notice::Missed || concerns(&notice) => return true,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return true,
                    Err(RecvError::Closed) => return false,
                }
            }
        }
    }

    async fn may_read(&self) -> bool {
        match self.shared.identify(&self.bearer).await {
            Ok(Some(principal)) => Reach::of(&principal, self.needed).as_ref() == Some(&self.reach),
            Ok(None) => false,
            Err(fault) => {
                tracing::warn!(%fault, "a stream ends because its token could not be checked");
                false
            }
        }
    }
}

struct TaskFeed {
    follower: Follower,
    task: TaskId,
    after_seq: i64,
    batch: VecDeque<TaskEvent>,
    /// The last event sent was a final state.
    is_over: bool,
}

/// The task's events after `after_seq`. Answers 204 where there are none and will be none: a browser's `EventSource`
/// reconnects after anything else.
pub(crate) async fn task_stream(shared: Arc<Shared>, caller: Caller, task: TaskId, after_seq: i64) -> Result<Response> {
    let notices = shared.kernel.subscribe();
    let follower = Follower::new(Arc::clone(&shared), caller, Right::OrOwn(Scope::Read), notices);
    let is_over = follower.reach.task(&*shared.kernel, &task).await?.state.is_terminal();
    let batch: VecDeque<_> = shared.kernel.task_events(&task, after_seq, BATCH_MAX).await?.into();
    if is_over && batch.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let feed = TaskFeed { follower, task, after_seq, batch, is_over: false };
    Ok(respond(stream::unfold(feed, |mut feed| async move {
        let event = feed.next().await?;
        let sent = Event::default().id(event.seq.to_string()).event(&event.kind).json_data(&event).ok()?;
        Some((Ok(sent), feed))
    })))
}

impl TaskFeed {
    async fn next(&mut self) -> Option<TaskEvent> {
        loop {
            if let Some(event) = self.batch.pop_front() {
                self.after_seq = event.seq;
                self.is_over = is_final(&event);
                return Some(event);
            }
            let kernel = &self.follower.shared.kernel;
            match kernel.task_events(&self.task, self.after_seq, BATCH_MAX).await {
                Ok(events) => self.batch = events.into(),
                Err(fault) => {
                    tracing::warn!(%fault, task = %self.task, "a stream of events ends early");
                    return None;
                }
            }
            let task = &self.task;
            let is_ours = |notice: &Notice| matches!(notice, Notice::TaskEvents(changed) if changed == task);
            if self.batch.is_empty() && (self.is_over || !self.follower.wait(is_ours).await) {
                return None;
            }
        }
    }
}

struct AuditFeed {
    follower: Follower,
    /// `None` before the first record of an empty log.
    after_seq: Option<i64>,
    batch: VecDeque<AuditRecord>,
}

/// Records after `after_seq`, or from now on.
pub(crate) async fn audit_stream(shared: Arc<Shared>, caller: Caller, after_seq: Option<i64>) -> Result<Response> {
    let notices = shared.kernel.subscribe_audit();
    let follower = Follower::new(Arc::clone(&shared), caller, Right::Whole(Scope::Audit), notices);
    let after_seq = match after_seq {
        Some(seq) => Some(seq),
        None => {
            let newest = AuditFilter { limit: Some(1), ..AuditFilter::default() };
            shared.kernel.query_audit(newest).await?.items.first().map(|record| record.seq)
        }
    };
    let feed = AuditFeed { follower, after_seq, batch: VecDeque::new() };
    Ok(respond(stream::unfold(feed, |mut feed| async move {
        let record = feed.next().await?;
        let sent = Event::default().id(record.seq.to_string()).event("audit").json_data(&record).ok()?;
        Some((Ok(sent), feed))
    })))
}

impl AuditFeed {
    async fn next(&mut self) -> Option<AuditRecord> {
        loop {
            if let Some(record) = self.batch.pop_front() {
                self.after_seq = Some(record.seq);
                return Some(record);
            }
            let after = AuditFilter {
                cursor: self.after_seq,
                limit: Some(BATCH_MAX),
                ascending: true,
                ..AuditFilter::default()
            };
            match self.follower.shared.kernel.query_audit(after).await {
                Ok(page) => self.batch = page.items.into(),
                Err(fault) => {
                    tracing::warn!(%fault, "the audit stream ends early");
                    return None;
                }
            }
            if self.batch.is_empty() && !self.follower.wait(|notice| *notice == Notice::Audit).await {
                return None;
            }
        }
    }
}

fn respond(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
