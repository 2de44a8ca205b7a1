//! Replies to calls for which nobody was asked: an answer of before, or the failure of another call with the same key. They are
//! recorded as calls are, and say what they are.

use std::sync::Arc;

use agentos_monitor::{ModelEnd, ModelOutcome, ModelRecord};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    Body, Engine, ModelCall, Reply,
    engine::{Ended, recorded, withheld},
    flights::Told,
    kept::Answer,
    recall::{Keeper, Known},
    reply::reply_of,
};

pub(crate) const CACHE_HEADER: &str = "x-agent-os-cache";
const REPLAYED_HEADER: &str = "x-agent-os-replayed";
const BY_KEY: &str = "idempotency-key";

impl Engine {
    pub(crate) async fn known(&self, call: &ModelCall, record: ModelRecord, known: Known) -> Reply {
        match known {
            Known::Given { answer, end, keeper } => self.given(call, record, (answer, end), keeper).await,
            Known::Told(told) => as_told(call, record, &told).await,
            Known::Refused(fault) => self.failed(call, record, Ended::Fault(fault), Keeper::default()).await,
            Known::Withheld(fault) => reply_of(call.operation, &call.request_id, &fault),
        }
    }

    async fn given(
        &self,
        call: &ModelCall,
        record: ModelRecord,
        (answer, end): (Arc<Answer>, ModelEnd),
        keeper: Keeper,
    ) -> Reply {
        let mut outcome = ModelOutcome::new(end, answer.status);
        outcome.target = answer.target.clone();
        outcome.answer = record.is_step().then(|| recorded(&outcome, &answer.content_type, Some(&answer.body)));
        let facts = outcome.clone();
        let now = self.inner.ambient.now();
        keeper.keep(&answer, &record, &mut outcome, now);
        if let Err(fault) = record.close(outcome).await {
            return withheld(call, fault, keeper);
        }
        keeper.answered(answer.clone());
        let body = match answer.content_type == "text/event-stream" {
            true => at_once(answer.body.clone()),
            false => Body::Whole(answer.body.clone()),
        };
        let is_stream = matches!(body, Body::Stream(_));
        let mut reply = Reply::new(answer.status, &answer.content_type, body);
        reply.headers.extend(answer.headers.iter().cloned());
        reply.facts(&call.request_id, &facts);
        if is_stream {
            // Known already, unlike that of other streams.
            reply.costs(&facts);
        }
        if end == ModelEnd::Cached {
            reply.header(CACHE_HEADER, "hit");
            reply.header("age", now.since(answer.at).as_secs());
        } else {
            reply.header(REPLAYED_HEADER, BY_KEY);
        }
        reply
    }
}

/// A stream of one piece.
fn at_once(events: Bytes) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    // There is room for it.
    let _ = sender.try_send(events);
    Body::Stream(receiver)
}

async fn as_told(call: &ModelCall, record: ModelRecord, told: &Told) -> Reply {
    let mut outcome = ModelOutcome::new(ModelEnd::Failed, told.status);
    (outcome.fault, outcome.class) = (told.fault.clone(), told.class);
    let facts = outcome.clone();
    if let Err(fault) = record.close(outcome).await {
        return reply_of(call.operation, &call.request_id, &fault);
    }
    let (status, headers, body) = (told.status, told.headers.clone(), Body::Whole(told.body.clone()));
    let mut reply = Reply { status, headers, body };
    reply.facts(&call.request_id, &facts);
    reply.header(REPLAYED_HEADER, BY_KEY);
    reply
}
