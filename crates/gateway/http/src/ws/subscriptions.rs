//! What a session is subscribed to. A subscription is a cursor over durable rows with a mark that says "look again";
//! announcements only set marks, so however many come, at most one read per subscription is due.

use std::collections::{BTreeMap, BTreeSet};

use agentos_api::Problem;
use agentos_types::{AgentName, Code, Fault, Result, Scope, TaskId, notify::Notice};
use serde_json::json;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::{identity::Caller, shared::Shared, sse::BATCH_MAX, ws::messages::Topic};

/// Subscriptions of one session.
const SUBSCRIPTIONS_MAX: usize = 32;

enum Subscription {
    Task { id: TaskId, after_seq: i64, is_due: bool },
    Agents { due: Due },
}

/// Which agents are to be pushed again.
enum Due {
    All,
    Some(BTreeSet<AgentName>),
}

impl Subscription {
    fn is_due(&self) -> bool {
        match self {
            Subscription::Task { is_due, .. } => *is_due,
            Subscription::Agents { due: Due::All } => true,
            Subscription::Agents { due: Due::Some(names) } => !names.is_empty(),
        }
    }

    /// `None` stands for announcements that were missed.
    fn mark(&mut self, notice: Option<&Notice>) {
        match (self, notice) {
            (Subscription::Task { is_due, .. }, None) => *is_due = true,
            (Subscription::Task { id, is_due, .. }, Some(Notice::TaskEvents(changed))) if id == changed => {
                *is_due = true;
            }
            (Subscription::Agents { due }, None) => *due = Due::All,
            (Subscription::Agents { due: Due::Some(names) }, Some(Notice::Agent(name))) => {
                names.insert(name.clone());
            }
            _ => {}
        }
    }
}

#[derive(Default)]
pub(crate) struct Subscriptions {
    open: BTreeMap<u64, Subscription>,
    last_number: u64,
    /// The subscription that was served last; the next due one after it is served next.
    served_last: u64,
    /// Only while something is open: a session without subscriptions is not woken by announcements.
    notices: Option<Receiver<Notice>>,
}

impl Subscriptions {
    /// Starts following the topic and returns the subscription's number. What is there already is due at once.
    pub async fn open(&mut self, shared: &Shared, caller: &Caller, topic: Topic) -> Result<u64> {
        if self.open.len() >= SUBSCRIPTIONS_MAX {
            let message = format!("a session has at most {SUBSCRIPTIONS_MAX} subscriptions");
            return Err(Fault::new(Code::WS_PROTOCOL, message).hint("unsubscribe from one, or open another session"));
        }
        // Listening before the first read, so that nothing falls between the two.
        let notices = self.notices.take().unwrap_or_else(|| shared.kernel.subscribe());
        let subscription = match topic {
            Topic::Task { id, after_seq } => caller
                .reach
                .task(&*shared.kernel, &id)
                .await
                .map(|task| Subscription::Task { id: task.id, after_seq, is_due: true }),
            Topic::Agents => {
                let allowed = shared.require_whole(caller, Scope::Read).await;
                allowed.map(|()| Subscription::Agents { due: Due::All })
            }
        };
        self.notices = Some(notices);
        let subscription = subscription.inspect_err(|_| self.stop_listening_if_idle())?;
        self.last_number += 1;
        self.open.insert(self.last_number, subscription);
        Ok(self.last_number)
    }

    pub fn close(&mut self, number: u64) -> Result<()> {
        let closed = self.open.remove(&number).map(drop);
        self.stop_listening_if_idle();
        closed.ok_or_else(|| Fault::new(Code::WS_PROTOCOL, format!("no subscription has the number {number}")))
    }

    fn stop_listening_if_idle(&mut self) {
        if self.open.is_empty() {
            self.notices = None;
        }
    }

    pub fn has_due(&self) -> bool {
        self.open.values().any(Subscription::is_due)
    }

    /// Waits for the next announcement and sets marks. Never returns while nothing is open.
    pub async fn changed(&mut self) {
        let Some(notices) = &mut self.notices else { return std::future::pending().await };
        let notice = match notices.recv().await {
            Ok(Notice::Missed) | Err(RecvError::Lagged(_)) => None,
            Ok(notice) => Some(notice),
            // The kernel is gone; the shutdown ends the session.
            Err(RecvError::Closed) => return std::future::pending().await,
        };
        self.open.values_mut().for_each(|subscription| subscription.mark(notice.as_ref()));
    }

    /// One batch of pushes of one due subscription, in turn.
    pub async fn due_batch(&mut self, shared: &Shared) -> Vec<String> {
        let later = self.open.range(self.served_last.saturating_add(1)..);
        let mut in_turn = later.chain(self.open.iter());
        let Some(number) = in_turn.find(|(_, subscription)| subscription.is_due()).map(|(number, _)| *number) else {
            return Vec::new();
        };
        self.served_last = number;
        let Some(subscription) = self.open.get_mut(&number) else { return Vec::new() };
        match batch(shared, number, subscription).await {
            Ok(pushes) => pushes,
            Err(fault) => {
                tracing::warn!(%fault, "a subscription ends early");
                self.open.remove(&number);
                self.stop_listening_if_idle();
                let problem = Problem::new(&fault, None);
                vec![json!({ "type": "ended", "subscription": number, "problem": problem }).to_string()]
            }
        }
    }
}

async fn batch(shared: &Shared, number: u64, subscription: &mut Subscription) -> Result<Vec<String>> {
    match subscription {
        Subscription::Task { id, after_seq, is_due } => {
            let events = shared.kernel.task_events(id, *after_seq, BATCH_MAX).await?;
            // Of large ones fewer come at once: only an empty page is the last.
            *is_due = !events.is_empty();
            *after_seq = events.last().map_or(*after_seq, |event| event.seq);
            let push = |event| json!({ "type": "event", "subscription": number, "event": event }).to_string();
            Ok(events.into_iter().map(push).collect())
        }
        Subscription::Agents { due } => {
            let agents = match std::mem::replace(due, Due::Some(BTreeSet::new())) {
                Due::All => shared.kernel.list_agents().await?,
                Due::Some(names) => some_agents(shared, names).await?,
            };
            let push = |agent| json!({ "type": "agent", "subscription": number, "agent": agent }).to_string();
            Ok(agents.into_iter().map(push).collect())
        }
    }
}

async fn some_agents(shared: &Shared, names: BTreeSet<AgentName>) -> Result<Vec<agentos_types::agent::Agent>> {
    let mut agents = Vec::with_capacity(names.len());
    for name in names {
        match shared.kernel.get_agent(&name).await {
            Ok(agent) => agents.push(agent),
            // Gone since the announcement.
            Err(fault) if fault.code == Code::AGENT_NOT_FOUND => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(agents)
}
