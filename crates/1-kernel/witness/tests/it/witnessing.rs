//! The witness's side: what it accepts, what it refuses, and what it keeps of a refusal.

use agentos_proof::{SigningKey, checkpoint};
use agentos_types::{
    Actor, Code,
    witness::{AddWitnessedLog, SubmitCheckpoint},
};

use super::house::{Node, key_of, other_tree, size_of};

async fn register(witness: &Node, name: &str) {
    let public_key = key_of("node-1").to_string();
    let body = AddWitnessedLog { name: name.parse().unwrap(), public_key };
    witness.witness.add(&Actor::System, body).await.unwrap();
}

async fn code(witness: &Node, body: SubmitCheckpoint) -> Code {
    witness.witness.submit(&Actor::System, body).await.unwrap_err().code
}

#[tokio::test]
async fn a_growing_log_is_cosigned_and_held() {
    let (log, witness) = (Node::new("node-1").await, Node::new("node-2").await);
    register(&witness, "first").await;
    let mut before = 0;
    for records in [1, 2, 5, 1, 8] {
        log.work("test.act", records).await;
        let shown = log.shown(before).await;
        let held = witness.witness.submit(&Actor::System, shown.clone()).await.unwrap();
        before += records as u64;
        assert_eq!((held.size, held.log.as_str()), (before, "node-1"));
        assert!(held.note.starts_with(shown.note.split("\n\n").next().unwrap()));
        witness.witness.key().seen_at(&held.note).unwrap();
        let origin = checkpoint::origin("node-1");
        checkpoint::parse_and_verify(&held.note, &key_of("node-1"), &origin).unwrap();
        // An answer may be lost: the same again is the same.
        assert_eq!(witness.witness.submit(&Actor::System, shown).await.unwrap(), held);
        assert_eq!(witness.witness.held(&"node-1".parse().unwrap()).await.unwrap(), held);
    }
    let detail = witness.witness.get(&"first".parse().unwrap()).await.unwrap();
    let sizes: Vec<u64> = detail.checkpoints.iter().map(|held| held.size).collect();
    assert_eq!((sizes, detail.log.refusals), (vec![1, 3, 8, 9, 17], 0));
    assert_eq!(witness.recorded("witness.checkpoint").await, 0, "what is held is its own record");
    // And it is still held after a restart.
    let witness = witness.restart().await;
    assert_eq!(witness.witness.held(&"node-1".parse().unwrap()).await.unwrap().size, 17);
}

#[tokio::test]
async fn a_witness_refuses_a_fork_and_keeps_the_proof_of_it() {
    let (log, thief, witness) = (Node::new("node-1").await, Node::new("node-1").await, Node::new("node-2").await);
    register(&witness, "first").await;
    log.work("test.true", 6).await;
    witness.witness.submit(&Actor::System, log.shown(0).await).await.unwrap();
    // The stolen key signs another history: of the same length, then of a greater one.
    thief.work("test.forged", 6).await;
    assert_eq!(code(&witness, thief.shown(6).await).await, Code::LOG_FORKED);
    thief.work("test.forged", 3).await;
    assert_eq!(code(&witness, thief.shown(6).await).await, Code::LOG_FORKED);
    let first = witness.witness.get(&"first".parse().unwrap()).await.unwrap();
    assert_eq!((first.log.refused_code, first.log.refusals, first.checkpoints.len()), (Some(Code::LOG_FORKED), 2, 1));
    let evidence = first.log.refused_note.unwrap();
    assert_eq!(size_of(&evidence), 6, "the first contradiction is the evidence");
    checkpoint::parse_and_verify(&evidence, &key_of("node-1"), "agent-os/node-1").unwrap();
    assert_eq!(witness.recorded("witness.checkpoint").await, 1, "repetitions do not fill the log");
    // The true log is held as before, and the alarm stays until somebody has looked.
    log.work("test.true", 1).await;
    assert_eq!(witness.witness.submit(&Actor::System, log.shown(6).await).await.unwrap().size, 7);
    assert!(witness.witness.list().await.unwrap()[0].refused_code.is_some());
    register(&witness, "first").await;
    let settled = &witness.witness.list().await.unwrap()[0];
    assert_eq!((settled.refused_code, settled.size), (None, Some(7)));
}

#[tokio::test]
async fn a_witness_refuses_a_log_that_has_become_shorter() {
    let (log, restored, witness) = (Node::new("node-1").await, Node::new("node-1").await, Node::new("node-2").await);
    register(&witness, "first").await;
    log.work("test.act", 9).await;
    restored.work("test.act", 4).await;
    witness.witness.submit(&Actor::System, log.shown(0).await).await.unwrap();
    for old_size in [0, 4, 9] {
        assert_eq!(code(&witness, restored.shown(old_size).await).await, Code::LOG_SHRUNK);
    }
    assert_eq!(witness.witness.held(&"node-1".parse().unwrap()).await.unwrap().size, 9);
    assert_eq!(witness.recorded("witness.checkpoint").await, 1);
}

#[tokio::test]
async fn what_nobody_signed_is_refused_and_accuses_nobody() {
    let (log, witness) = (Node::new("node-1").await, Node::new("node-2").await);
    log.work("test.act", 3).await;
    assert_eq!(code(&witness, log.shown(0).await).await, Code::WITNESS_LOG_NOT_FOUND);
    register(&witness, "first").await;
    witness.witness.submit(&Actor::System, log.shown(0).await).await.unwrap();
    let tree = other_tree(5);
    let forged = checkpoint::sign(&SigningKey::from_bytes(&[1; 32]), "agent-os/node-1", 5, &tree.root());
    let forged = SubmitCheckpoint { note: forged, old_size: 3, proof: Vec::new(), rotations: Vec::new() };
    assert_eq!(code(&witness, forged).await, Code::CHECKPOINT_INVALID);
    log.work("test.act", 1).await;
    assert_eq!(code(&witness, log.shown(2).await).await, Code::CHECKPOINT_STALE);
    let listed = &witness.witness.list().await.unwrap()[0];
    assert_eq!((listed.refused_code, listed.refusals, listed.size), (None, 0, Some(3)));
}

#[tokio::test]
async fn two_checkpoints_at_once_are_judged_one_after_the_other() {
    let (log, witness) = (Node::new("node-1").await, Node::new("node-2").await);
    let thief = Node::new("node-1").await;
    register(&witness, "first").await;
    log.work("test.true", 4).await;
    thief.work("test.forged", 4).await;
    let (shown, forged) = (log.shown(0).await, thief.shown(0).await);
    let (one, other) =
        tokio::join!(witness.witness.submit(&Actor::System, shown), witness.witness.submit(&Actor::System, forged));
    assert!(one.is_ok() != other.is_ok(), "exactly one of two histories is held");
}

#[tokio::test]
async fn registration_is_one_name_for_one_log() {
    let witness = Node::new("node-2").await;
    register(&witness, "first").await;
    let add = |name: &str, public_key: String| {
        let body = AddWitnessedLog { name: name.parse().unwrap(), public_key };
        let witness = witness.witness.clone();
        async move { witness.add(&Actor::System, body).await.map_err(|fault| fault.code) }
    };
    let invalid = Err(Code::WITNESS_LOG_INVALID);
    let other = key_of("node-3").to_string();
    assert_eq!(add("second", key_of("node-1").to_string()).await.map(drop), invalid);
    assert_eq!(add("first", other.clone()).await.map(drop), invalid);
    for key in ["", "garbage", &witness.witness.key().to_string()] {
        assert_eq!(add("second", key.to_owned()).await.map(drop), invalid, "{key}");
    }
    add("second", other).await.unwrap();
    witness.witness.remove(&Actor::System, &"first".parse().unwrap()).await.unwrap();
    let gone = witness.witness.remove(&Actor::System, &"first".parse().unwrap()).await.unwrap_err();
    assert_eq!(gone.code, Code::WITNESS_LOG_NOT_FOUND);
    assert_eq!((witness.recorded("witness.add").await, witness.recorded("witness.remove").await), (2, 1));
}
