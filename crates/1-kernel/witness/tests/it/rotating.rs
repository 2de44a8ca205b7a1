//! The life of a log that is witnessed: its key changes, and its oldest days are pruned.

use std::time::Duration;

use agentos_base::Background;
use agentos_dialer::CheckedUrl;
use agentos_proof::{KeyChain, SigningKey, checkpoint, rotation};
use agentos_types::{
    Actor, Code,
    witness::{AddWitnessedLog, SubmitCheckpoint},
};
use agentos_witness::{Webhook, WitnessOptions};

use super::{
    house::{Node, key_of, no_targets, other_tree},
    publishing::{PATIENCE, fast, until, with_node, witness_node},
};
use crate::receiver::Receiver;

const ORIGIN: &str = "agent-os/node-1";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

async fn register(witness: &Node) {
    let body = AddWitnessedLog { name: "first".parse().unwrap(), public_key: key_of("node-1").to_string() };
    witness.witness.add(&Actor::System, body).await.unwrap();
}

async fn size_held(witness: &Node) -> u64 {
    witness.witness.held(&"node-1".parse().unwrap()).await.unwrap().size
}

async fn code(witness: &Node, body: SubmitCheckpoint) -> Code {
    witness.witness.submit(&Actor::System, body).await.unwrap_err().code
}

#[tokio::test]
async fn a_key_that_the_old_one_has_signed_is_followed() {
    let (log, witness) = (Node::new("node-1").await, Node::new("node-2").await);
    register(&witness).await;
    let mut before = 0;
    // Without a change, over one, without one again, and over two at a time.
    for seeds in [&[][..], &[8], &[], &[9, 10]] {
        for seed in seeds {
            log.rotate(*seed).await;
        }
        log.work("test.act", 2).await;
        let held = witness.witness.submit(&Actor::System, log.shown(before).await).await.unwrap();
        before = held.size;
    }
    let detail = witness.witness.get(&"first".parse().unwrap()).await.unwrap();
    assert_eq!((detail.log.rotations.len(), detail.log.refusals), (3, 0));
    assert_eq!(detail.log.public_key, key_of("node-1").to_string(), "what the operator has said stands");
    assert_eq!(witness.recorded("witness.rotation").await, 2, "each step is told once");
    // What was held before a change still counts, under the key of its time.
    let keys = KeyChain::new(&key_of("node-1"), &detail.log.rotations).unwrap();
    assert_eq!(detail.checkpoints.len(), 4);
    detail.checkpoints.iter().for_each(|held| drop(keys.open(&held.note).unwrap()));
    // It needs no statement twice, also after a restart.
    let witness = witness.restart().await;
    log.work("test.act", 1).await;
    let shown = SubmitCheckpoint { rotations: Vec::new(), ..log.shown(before).await };
    assert_eq!(witness.witness.submit(&Actor::System, shown).await.unwrap().rotations, detail.log.rotations);
}

#[tokio::test]
async fn a_new_key_that_the_old_one_has_not_signed_is_refused() {
    let (log, witness) = (Node::new("node-1").await, Node::new("node-2").await);
    register(&witness).await;
    log.work("test.act", 3).await;
    witness.witness.submit(&Actor::System, log.shown(0).await).await.unwrap();
    log.rotate(8).await;
    log.work("test.act", 1).await;
    let good = log.shown(3).await;
    let of_stranger = rotation::sign(ORIGIN, &key(9), &key(8), 4).unwrap();
    let lines: Vec<&str> = good.rotations[0].lines().collect();
    let without_old = format!("{}\n{}\n", lines[..lines.len() - 2].join("\n"), lines[lines.len() - 1]);
    let of_other_log = rotation::sign("agent-os/node-3", &key(7), &key(8), 4).unwrap();
    for (rotations, why) in [
        (Vec::new(), "no statement"),
        (vec![of_stranger], "a stranger's statement"),
        (vec![without_old], "a statement that the new key alone has signed"),
        (vec![of_other_log], "the statement of another log"),
    ] {
        let forged = SubmitCheckpoint { rotations, ..good.clone() };
        assert_eq!(code(&witness, forged).await, Code::CHECKPOINT_INVALID, "{why}");
    }
    let listed = &witness.witness.list().await.unwrap()[0];
    assert_eq!(
        (listed.size, listed.refusals, listed.rotations.len()),
        (Some(3), 0, 0),
        "nobody is accused, nothing is lost"
    );
    // With the true statement it goes on.
    witness.witness.submit(&Actor::System, good).await.unwrap();
    let grown = size_held(&witness).await;
    // The retired key signs nothing any more, neither a longer log nor another successor.
    let root = other_tree(40).root();
    let late = checkpoint::sign(&key(7), ORIGIN, 40, &root);
    let late = SubmitCheckpoint { note: late, old_size: grown, proof: Vec::new(), rotations: Vec::new() };
    assert_eq!(code(&witness, late).await, Code::CHECKPOINT_INVALID);
    let second = SubmitCheckpoint {
        note: checkpoint::sign(&key(9), ORIGIN, 40, &root),
        old_size: grown,
        proof: Vec::new(),
        rotations: vec![rotation::sign(ORIGIN, &key(7), &key(9), 20).unwrap()],
    };
    assert_eq!(code(&witness, second).await, Code::CHECKPOINT_INVALID);
    assert_eq!(witness.witness.list().await.unwrap()[0].refusals, 0);
}

#[tokio::test]
async fn a_change_of_the_key_hides_neither_a_fork_nor_a_cut() {
    let witness = Node::new("node-2").await;
    register(&witness).await;
    let (log, copy, old) = (Node::new("node-1").await, Node::new("node-1").await, Node::new("node-1").await);
    log.work("test.true", 6).await;
    witness.witness.submit(&Actor::System, log.shown(0).await).await.unwrap();
    // Whoever has the old key signs a successor of his own, and another history with it.
    copy.work("test.forged", 8).await;
    copy.rotate(9).await;
    copy.work("test.forged", 1).await;
    assert_eq!(code(&witness, copy.shown(6).await).await, Code::LOG_FORKED);
    assert!(witness.witness.list().await.unwrap()[0].rotations.is_empty(), "a key of another history is not followed");
    // A database from before the change is older, whatever key it has.
    log.rotate(8).await;
    log.work("test.true", 2).await;
    witness.witness.submit(&Actor::System, log.shown(6).await).await.unwrap();
    old.work("test.true", 2).await;
    assert_eq!(code(&witness, old.shown(0).await).await, Code::LOG_SHRUNK);
}

#[tokio::test]
async fn the_key_changes_between_two_handings_out() {
    let (witness, receiver, _) = witness_node().await;
    let log = Node::new("node-1").await;
    let file = Some(log.path().join("witness.notes"));
    let options = WitnessOptions { file: file.clone(), ..with_node(&receiver, &witness, &log).await };
    log.work("test.act", 3).await;
    let publisher = log.publisher(options.clone());
    let background = Background::default();
    publisher.spawn(&background);
    let all_hold = async |size: u64| {
        let look = async {
            while publisher.status().await.unwrap().iter().any(|target| target.size.is_none_or(|held| held < size)) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap();
    };
    all_hold(3).await;
    log.rotate(8).await;
    log.work("test.act", 1).await;
    let size = log.shown(0).await;
    all_hold(checkpoint::parse_unverified(&size.note).unwrap().size).await;
    assert!(background.stop(PATIENCE).await);
    let targets = publisher.status().await.unwrap();
    assert!(targets.iter().all(|target| target.refused.is_none() && target.failures_total == 0), "{targets:?}");
    assert_eq!(publisher.contradictions().await, []);
    // A database from before the change knows no new key; file and node tell it, signed by its own.
    let old = Node::new("node-1").await;
    old.work("test.act", 1).await;
    let options = WitnessOptions { file, ..with_node(&receiver, &witness, &old).await };
    let found = old.publisher(options).contradictions().await;
    assert_eq!(found.iter().map(|(_, fault)| fault.code).collect::<Vec<_>>(), [Code::LOG_SHRUNK, Code::LOG_SHRUNK]);
}

/// A change may be committed at any instant of a reading: no target takes that for damage. Many of them, each without a pause,
/// so that some reading meets each change.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_of_the_key_at_any_instant_of_a_turn_fail_nothing() {
    let log = Node::new("node-1").await;
    let receiver = Receiver::start(|_| Box::pin(async { (200, String::new()) })).await;
    log.secrets.set(&Actor::System, &"hook".parse().unwrap(), "some-key-value".to_owned().into()).await.unwrap();
    let hook = |number: u32| Webhook {
        target: format!("webhook:{number}"),
        url: CheckedUrl::parse(&format!("http://{}/", receiver.address)).unwrap(),
        secret: "hook".parse().unwrap(),
    };
    let restless = WitnessOptions {
        file: Some(log.path().join("witness.notes")),
        webhooks: (0..6).map(hook).collect(),
        interval: Duration::ZERO,
        ..no_targets()
    };
    log.work("test.act", 1).await;
    let publisher = log.publisher(restless);
    let background = Background::default();
    publisher.spawn(&background);
    for seed in 10..210 {
        log.rotate(seed).await;
    }
    // What an auditor asks for verifies as well.
    assert_eq!(log.log.verify().await.unwrap().finding, None);
    let size = checkpoint::parse_unverified(&log.log.checkpoint().await.unwrap()).unwrap().size;
    until(&publisher, "the newest key's", |target| target.size == Some(size)).await;
    assert!(background.stop(PATIENCE).await);
    for target in publisher.status().await.unwrap() {
        assert_eq!((target.failures_total, &target.problem), (0, &None), "{target:?}");
    }
    assert_eq!(publisher.contradictions().await, []);
}

#[tokio::test]
async fn what_is_pruned_below_a_witness_can_neither_be_proven_nor_is_it_a_fork() {
    let (witness, receiver, _) = witness_node().await;
    let log = Node::new("node-1").await;
    let file = Some(log.path().join("witness.notes"));
    let options = WitnessOptions { nodes: with_node(&receiver, &witness, &log).await.nodes, ..no_targets() };
    // The first day has three records; the witness sees two of them and is away from then on.
    log.work("test.act", 2).await;
    let publisher = log.publisher(fast(options.clone()));
    let background = Background::default();
    publisher.spawn(&background);
    let seen = until(&publisher, "the first checkpoint", |target| target.size.is_some()).await;
    assert!(background.stop(PATIENCE).await);
    let early = log.publisher(fast(WitnessOptions { file: file.clone(), ..no_targets() }));
    let background = Background::default();
    early.spawn(&background);
    until(&early, "the file has it", |target| target.size.is_some()).await;
    assert!(background.stop(PATIENCE).await);
    log.days(5).await;
    log.prune().await;
    // At the start there is nothing left to compare with: no contradiction, and no refusal.
    let both = WitnessOptions { file, ..fast(options.clone()) };
    assert_eq!(log.publisher(both).contradictions().await, []);
    let publisher = log.publisher(fast(options.clone()));
    let background = Background::default();
    publisher.spawn(&background);
    let stuck = until(&publisher, "it says so", |target| target.failures > 1).await;
    assert!(stuck.refused.is_none() && stuck.size == seen.size, "{stuck:?}");
    assert!(stuck.problem.unwrap().starts_with("AOS-1927"), "cannot prove");
    let listed = &witness.witness.list().await.unwrap()[0];
    assert_eq!((listed.refused_code, listed.refusals, listed.size), (None, 0, seen.size));
    assert_eq!((log.recorded("audit.witness").await, witness.recorded("witness.checkpoint").await), (0, 0));
    // The witness's operator gives up what it holds, and it goes on from the newest.
    witness.witness.remove(&Actor::System, &"first".parse().unwrap()).await.unwrap();
    register(&witness).await;
    until(&publisher, "the newest", |target| target.size > seen.size && target.failures == 0).await;
    assert!(background.stop(PATIENCE).await);
    assert!(size_held(&witness).await > seen.size.unwrap());
}

#[tokio::test]
async fn a_pruned_log_proves_what_lies_in_its_kept_part() {
    let (witness, receiver, _) = witness_node().await;
    let log = Node::new("node-1").await;
    log.days(6).await;
    let options = with_node(&receiver, &witness, &log).await;
    let publisher = log.publisher(options.clone());
    let background = Background::default();
    publisher.spawn(&background);
    until(&publisher, "the log is held", |target| target.size.is_some()).await;
    log.prune().await;
    log.work("test.act", 1).await;
    let size = checkpoint::parse_unverified(&log.log.checkpoint().await.unwrap()).unwrap().size;
    until(&publisher, "it grows over the prune", |target| target.size >= Some(size)).await;
    assert!(background.stop(PATIENCE).await);
    // What this side has forgotten is made from what is kept of the beginnings of days.
    log.store.write(|tx| tx.execute("DELETE FROM witness_target", &[])).await.unwrap();
    log.work("test.act", 1).await;
    let publisher = log.publisher(options);
    let background = Background::default();
    publisher.spawn(&background);
    until(&publisher, "the checkpoint after it was asked", |target| target.size > Some(size)).await;
    assert!(background.stop(PATIENCE).await);
    assert_eq!(publisher.contradictions().await, []);
    assert_eq!(witness.witness.list().await.unwrap()[0].refused_code, None);
}
