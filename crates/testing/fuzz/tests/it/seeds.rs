//! Seeds that only a key can make. They are committed; this makes them again and compares.

use std::fs;

use agentos_fuzz::{TARGETS, seeds as fixed};
use agentos_proof::{Frontier, KeyChain, SigningKey, checkpoint, leaf, merkle, source::segment};
use agentos_protocol::{WorkerFrame, wire};
use agentos_trust::{SigningKeyFile, dsse};
use agentos_types::{
    Actor, EventId, Timestamp,
    audit::{AuditEvent, Decision, Phase},
};
use serde_json::json;

use crate::corpus;

type Seed = (&'static str, &'static str, Vec<u8>);

fn event(number: u64) -> AuditEvent {
    serde_json::from_value(json!({
        "id": format!("evt_01J9ZQ3V4W5X6Y7Z8A9B0C1D{number:02}"),
        "at": 1_803_859_200_000_000_u64 + number,
        "actor": Actor::System,
        "action": "agent.deploy",
        "resource": "agent:echo",
        "phase": Phase::Fact,
        "decision": Decision::Allowed,
        "correlation": null,
        "task": null,
        "facts": {"n": number, "text": "é"},
    }))
    .unwrap()
}

fn log() -> Vec<Seed> {
    let key = fixed::log_key();
    let signing = SigningKey::from_bytes(&fixed::LOG_SEED);
    let origin = checkpoint::origin(fixed::LOG);
    let mut frontier = Frontier::new();
    let mut prev = [0; 32];
    let mut records = Vec::new();
    for seq in 0..fixed::LOG_SIZE {
        let (body, hash) = leaf::encode(fixed::LOG, seq, &prev, &event(seq)).unwrap();
        frontier.append(hash);
        prev = hash;
        records.push(segment::SegmentRecord { seq, body, leaf: hash });
    }
    let note = checkpoint::sign(&signing, &origin, fixed::LOG_SIZE, &frontier.root());
    let mut exported = Vec::new();
    segment::export(
        &mut exported,
        &KeyChain::single(key.clone()),
        &Frontier::new(),
        records.iter().cloned().map(Ok),
        std::iter::once(Ok(note.clone())),
    )
    .unwrap();
    let stored = [vec![0], frontier.to_bytes()].concat();
    assert_eq!(merkle::leaf_hash(&records[0].body), records[0].leaf);
    vec![
        ("checkpoint", "signed", note.into_bytes()),
        ("checkpoint", "verifier-key", key.to_string().into_bytes()),
        ("record", "body", records[2].body.clone()),
        ("record", "frontier", stored),
        ("segment", "signed", exported),
    ]
}

fn frames() -> Vec<Seed> {
    let hello = WorkerFrame::Hello { protocol: 1, sdk: "fuzz".into() };
    let pong = WorkerFrame::Pong { n: 7 };
    let both = [vec![5], wire::encode(&hello).unwrap(), wire::encode(&pong).unwrap()].concat();
    let call = json!({
        "type": "call", "id": 1, "task": "task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E", "step": "s", "syscall": "kv.get",
        "args": {"key": "a", "n": 0.1, "deep": [[{}]]},
    });
    vec![("frames", "hello-pong", both), ("frames", "call", [vec![200], wire::encode(&call).unwrap()].concat())]
}

fn envelope() -> Vec<Seed> {
    let key = SigningKeyFile::generate(&fixed::ENVELOPE_SEED);
    let signed = dsse::sign(fixed::PAYLOAD_TYPE, fixed::SIGNED, &key).unwrap();
    let foreign = dsse::sign(fixed::PAYLOAD_TYPE, b"{}", &SigningKeyFile::generate(&[8; 32])).unwrap();
    vec![("envelope", "signed", signed), ("envelope", "foreign", foreign)]
}

#[test]
fn seeds_that_need_a_key_are_committed_as_they_are_made() {
    let write = std::env::var_os("AGENTOS_FUZZ_WRITE").is_some();
    for (target, name, bytes) in [log(), frames(), envelope()].concat() {
        let path = corpus(target).join(name);
        if write {
            fs::create_dir_all(corpus(target)).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let stored = fs::read(&path).unwrap_or_default();
        assert!(stored == bytes, "{} is stale: run this test with AGENTOS_FUZZ_WRITE=1", path.display());
        let run = TARGETS.iter().find(|known| known.name == target).unwrap().run;
        run(&bytes);
    }
}

/// Otherwise the targets would only ever see refusals.
#[test]
fn the_signed_seeds_verify() {
    let read = |target: &str| fs::read(corpus(target).join("signed")).unwrap();
    let key = SigningKeyFile::generate(&fixed::ENVELOPE_SEED);
    let public = key.public();
    let unverified = dsse::Unverified::parse(&read("envelope"), fixed::PAYLOAD_TYPE).unwrap();
    let verified = unverified.verify(|keyid| (keyid == key.keyid()).then_some(&public)).unwrap().unwrap();
    assert_eq!(verified.payload, fixed::SIGNED);
    let note = String::from_utf8(read("checkpoint")).unwrap();
    let found = checkpoint::parse_and_verify(&note, &fixed::log_key(), &checkpoint::origin(fixed::LOG)).unwrap();
    assert_eq!(found.size, fixed::LOG_SIZE);
    let report = segment::verify_file(&corpus("segment").join("signed"), &fixed::log_key()).unwrap();
    assert_eq!((report.records, report.checkpoints), (fixed::LOG_SIZE, 1));
    assert!(report.first_at >= Some(Timestamp::ZERO));
    let _: EventId = event(0).id;
}
