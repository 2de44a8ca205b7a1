//! The bytes of one record: what is hashed, stored and exported.
//!
//! A body is compact JSON with sorted keys: `{"event":{…},"log":"…","prev":"<hex>","seq":0,"v":1}`. Its leaf hash is RFC
//! 6962's, SHA-256(0x00 || body). `prev` is the leaf hash of the record before, zeros for record 0, so that each record
//! also names its neighbour and a row cannot change place.

use std::borrow::Cow;

use agentos_types::{
    Actor, Code, Fault, Result, Timestamp,
    audit::{AuditEvent, Decision, Phase},
    fault::OrFault,
    hex,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::merkle::{Hash, leaf_hash};

/// Format version of the body.
pub const BODY_VERSION: u32 = 1;
/// Largest body. Events carry facts, never payloads; this only keeps a defect from filling the log.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// `prev` of record 0.
pub const NO_PREVIOUS: Hash = [0; 32];

/// One event at its place in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub log: String,
    /// Counts from 0 without gaps.
    pub seq: u64,
    /// Leaf hash of record `seq - 1`.
    pub prev: Hash,
    pub event: AuditEvent,
}

/// Fields in the order of their names: the derived serialisation is then the canonical one.
#[derive(Serialize)]
struct BodyOut<'a> {
    event: EventOut<'a>,
    log: &'a str,
    prev: String,
    seq: u64,
    v: u32,
}

#[derive(Serialize)]
struct EventOut<'a> {
    action: &'a str,
    /// A tagged enum serialises its tag first; as a `Value` its keys are sorted.
    actor: Value,
    at: Timestamp,
    correlation: Option<&'a str>,
    decision: Decision,
    facts: &'a Map<String, Value>,
    id: &'a str,
    phase: Phase,
    resource: &'a str,
    task: Option<&'a str>,
}

/// The body of a record and its leaf hash.
pub fn encode(log: &str, seq: u64, prev: &Hash, event: &AuditEvent) -> Result<(Vec<u8>, Hash)> {
    let event = EventOut {
        action: &event.action,
        actor: serde_json::to_value(&event.actor).map_err(Fault::internal)?,
        at: event.at,
        correlation: event.correlation.as_deref(),
        decision: event.decision,
        facts: &event.facts,
        id: event.id.as_str(),
        phase: event.phase,
        resource: &event.resource,
        task: event.task.as_ref().map(|task| task.as_str()),
    };
    let body = BodyOut { event, log, prev: hex::encode(prev), seq, v: BODY_VERSION };
    let bytes = serde_json::to_vec(&body).map_err(Fault::internal)?;
    if bytes.len() > BODY_BYTES_MAX {
        return Err(Fault::new(
            Code::PAYLOAD_TOO_LARGE,
            format!("an audit record of {} bytes is above the limit of {BODY_BYTES_MAX}", bytes.len()),
        )
        .hint("facts are for codes, counts and hashes; content does not belong into the audit log"));
    }
    let hash = leaf_hash(&bytes);
    Ok((bytes, hash))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyIn {
    event: AuditEvent,
    log: String,
    prev: String,
    seq: u64,
    v: u32,
}

/// The record of a body. Checks the form only; whether the body belongs to a log is the verifier's question.
pub fn decode(body: &[u8]) -> Result<Record> {
    let malformed = "an audit record's body is malformed";
    let body: BodyIn = serde_json::from_slice(body).or_fault(Code::AUDIT_TAMPERED, malformed)?;
    let prev = hex::decode(&body.prev).ok_or_else(|| Fault::new(Code::AUDIT_TAMPERED, malformed))?;
    if body.v != BODY_VERSION {
        return Err(unknown_version(body.seq, u64::from(body.v)));
    }
    Ok(Record { log: body.log, seq: body.seq, prev, event: body.event })
}

pub(crate) fn unknown_version(seq: u64, version: u64) -> Fault {
    Fault::new(
        Code::AUDIT_TAMPERED,
        format!("record {seq} has format version {version}, which this program cannot read"),
    )
    .hint("use the programs of the release that wrote the log")
}

/// What the database keeps beside the body so that it can be searched. The writer stores exactly these values, and the
/// verifier compares them with the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed<'a> {
    /// Microseconds since the epoch.
    pub at: i64,
    pub actor: Cow<'a, str>,
    pub action: Cow<'a, str>,
    pub resource: Cow<'a, str>,
    pub phase: &'a str,
    pub decision: &'a str,
    pub task: Option<Cow<'a, str>>,
    pub correlation: Option<Cow<'a, str>>,
}

impl<'a> Indexed<'a> {
    pub fn of(event: &'a AuditEvent) -> Self {
        Self {
            at: event.at.as_micros(),
            actor: event.actor.label().into(),
            action: event.action.as_str().into(),
            resource: event.resource.as_str().into(),
            phase: event.phase.as_str(),
            decision: event.decision.as_str(),
            task: event.task.as_ref().map(|task| task.as_str().into()),
            correlation: event.correlation.as_deref().map(Into::into),
        }
    }

    /// Name of the first column in which the two differ.
    pub fn difference(&self, other: &Indexed<'_>) -> Option<&'static str> {
        let columns = [
            ("at", self.at == other.at),
            ("actor", self.actor == other.actor),
            ("action", self.action == other.action),
            ("resource", self.resource == other.resource),
            ("phase", self.phase == other.phase),
            ("decision", self.decision == other.decision),
            ("task", self.task == other.task),
            ("correlation", self.correlation == other.correlation),
        ];
        columns.into_iter().find(|(_, equal)| !equal).map(|(name, _)| name)
    }
}

/// The part of a body that the verifier compares with the row, borrowed from it. Facts and ids are skipped, not built.
#[derive(Deserialize)]
pub(crate) struct BodyView<'a> {
    #[serde(borrow)]
    pub event: EventView<'a>,
    #[serde(borrow)]
    pub log: Cow<'a, str>,
    #[serde(borrow)]
    pub prev: Cow<'a, str>,
    pub seq: u64,
    pub v: u64,
}

#[derive(Deserialize)]
pub(crate) struct EventView<'a> {
    #[serde(borrow)]
    pub action: Cow<'a, str>,
    actor: Actor,
    pub at: Timestamp,
    #[serde(borrow)]
    correlation: Option<Cow<'a, str>>,
    decision: Decision,
    pub phase: Phase,
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow)]
    task: Option<Cow<'a, str>>,
}

impl<'a> BodyView<'a> {
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

impl EventView<'_> {
    pub fn indexed(&self) -> Indexed<'_> {
        Indexed {
            at: self.at.as_micros(),
            actor: self.actor.label().into(),
            action: self.action.as_ref().into(),
            resource: self.resource.as_ref().into(),
            phase: self.phase.as_str(),
            decision: self.decision.as_str(),
            task: self.task.as_deref().map(Into::into),
            correlation: self.correlation.as_deref().map(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use agentos_types::{EventId, TaskId, json};
    use serde_json::json;

    use super::*;

    fn event() -> AuditEvent {
        let at = Timestamp::from_millis(1_795_392_000_000);
        let actor =
            Actor::Token { token: "tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E".parse().unwrap(), name: "Ännchen \"A\"".into() };
        AuditEvent::new(EventId::generate(at, 7), at, actor, "net.fetch", "https://example.com/ä")
            .phase(Phase::Intent, Decision::Allowed)
            .task(Some(TaskId::generate(at, 8)))
            .fact("z", json!({"b": [1, {"y": null, "x": "\u{1}"}], "a": true}))
            .fact("a", 1)
    }

    #[test]
    fn the_body_is_the_canonical_json_of_the_record() {
        let (body, hash) = encode("node-1", 3, &[0xab; 32], &event()).unwrap();
        let value = json!({"v": 1, "log": "node-1", "seq": 3, "prev": "ab".repeat(32), "event": event()});
        assert_eq!(body, json::canonical(&value));
        assert_eq!(hash, leaf_hash(&body));
        let record = decode(&body).unwrap();
        assert_eq!(record, Record { log: "node-1".into(), seq: 3, prev: [0xab; 32], event: event() });
    }

    #[test]
    fn the_view_and_the_event_agree_on_the_indexed_columns() {
        let (body, _) = encode("node-1", 3, &NO_PREVIOUS, &event()).unwrap();
        let view = BodyView::parse(&body).unwrap();
        let event = event();
        assert_eq!(view.event.indexed(), Indexed::of(&event));
        assert_eq!((view.seq, view.log.as_ref(), view.v), (3, "node-1", 1));
        assert!(matches!(view.log, Cow::Borrowed(_)));
    }

    #[test]
    fn column_words_are_the_words_of_the_body() {
        for phase in [Phase::Intent, Phase::Outcome, Phase::Fact] {
            assert_eq!(json!(phase), phase.as_str());
        }
        for decision in Decision::ALL {
            assert_eq!(json!(decision), decision.as_str());
        }
    }

    #[test]
    fn malformed_oversized_and_future_bodies_are_refused() {
        let (body, _) = encode("node-1", 0, &NO_PREVIOUS, &event()).unwrap();
        let text = String::from_utf8(body).unwrap();
        for bad in [
            text.replace("\"v\":1", "\"v\":2"),
            text.replace("\"prev\":\"00", "\"prev\":\"0"),
            text.replace("\"v\":1", "\"v\":1,\"x\":1"),
            String::new(),
        ] {
            assert_eq!(decode(bad.as_bytes()).unwrap_err().code, Code::AUDIT_TAMPERED, "{bad}");
        }
        let large = event().fact("large", "x".repeat(BODY_BYTES_MAX));
        assert_eq!(encode("node-1", 0, &NO_PREVIOUS, &large).unwrap_err().code, Code::PAYLOAD_TOO_LARGE);
    }
}
