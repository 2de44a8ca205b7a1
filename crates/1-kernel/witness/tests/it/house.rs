//! A node: a store with its log, a witness, secrets and a dialer that may reach loopback.

use std::{path::Path, sync::Arc, time::Duration};

use agentos_audit::{AuditLog, Authority, Filter, LogIdentity, LogWriter, Upkeep, query, rotations};
use agentos_base::{Ambient, ambient::FakeClock, redact::Redactor};
use agentos_dialer::{Dialer, DialerOptions};
use agentos_proof::{Cosigner, Frontier, Hash, VerifierKey, checkpoint, proofs};
use agentos_scratch::Scratch;
use agentos_secrets::{Secrets, SecretsKey};
use agentos_store::{Database, Store, StoreOptions};
use agentos_types::{Actor, Timestamp, audit::AuditEvent, witness::SubmitCheckpoint};
use agentos_witness::{Publisher, PublisherParts, Witness, WitnessOptions};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use tempfile::TempDir;

use super::BACKEND;

const DAY: Duration = Duration::from_secs(86_400);

/// One installation.
pub struct Node {
    pub store: Store,
    pub log: AuditLog,
    pub ambient: Ambient,
    pub clock: Arc<FakeClock>,
    pub upkeep: Upkeep,
    pub witness: Witness,
    pub secrets: Secrets,
    name: String,
    pub place: Place,
}

/// Where it lies; survives the node.
pub struct Place {
    pub directory: TempDir,
    pub scratch: Scratch,
}

pub fn place() -> Place {
    Place { directory: tempfile::tempdir().unwrap(), scratch: BACKEND.scratch() }
}

impl Node {
    /// Whoever has the key of a name can be that node: the key depends on nothing else.
    pub async fn open(name: &str, place: Place) -> Self {
        let (ambient, clock) = Ambient::fake(7, Timestamp::from_millis(1_795_392_000_000));
        let identity = identity(name);
        let database = place.scratch.urls().map(|(url, admin)| Database::parse(url, Some(admin)).unwrap());
        let store = Store::open(StoreOptions {
            directory: place.directory.path().into(),
            database,
            queue_max: 256,
            readers: 2,
            sequencer: Some(Box::new(LogWriter::new(identity.clone(), ambient.clone()))),
            ambient: ambient.clone(),
        })
        .unwrap();
        let cosigner = Cosigner::new(name, &[9; 32]).unwrap();
        let key = SecretsKey::new([3; 32]);
        let log = AuditLog::new(identity, store.clone(), place.directory.path());
        Self {
            upkeep: Upkeep::new(log.clone(), ambient.clone()),
            log,
            witness: Witness::new(store.clone(), ambient.clone(), cosigner),
            secrets: Secrets::open(store.clone(), ambient.clone(), key, Redactor::default()).await.unwrap(),
            name: name.to_owned(),
            store,
            ambient,
            clock,
            place,
        }
    }

    pub async fn new(name: &str) -> Self {
        Self::open(name, place()).await
    }

    /// Stops it and starts it again on what lies there.
    pub async fn restart(self) -> Self {
        let Self { place, name, store, log, upkeep, witness, secrets, .. } = self;
        drop((store, log, upkeep, witness, secrets));
        Self::open(&name, place).await
    }

    pub fn path(&self) -> &Path {
        self.place.directory.path()
    }

    pub fn publisher(&self, options: WitnessOptions) -> Publisher {
        let dialer = DialerOptions {
            private_exceptions: options
                .webhooks
                .iter()
                .map(|hook| hook.url.host_port())
                .chain(options.nodes.iter().map(|node| node.target.trim_start_matches("node:").parse().unwrap()))
                .collect(),
            ..DialerOptions::default()
        };
        let parts = PublisherParts {
            store: self.store.clone(),
            ambient: self.ambient.clone(),
            identity: self.log.identity().clone(),
            dialer: Dialer::new(dialer).unwrap(),
            secrets: self.secrets.clone(),
        };
        Publisher::new(options, parts)
    }

    /// So many records, each with a commit of its own.
    pub async fn work(&self, action: &'static str, count: usize) {
        for _ in 0..count {
            let event = AuditEvent::new(self.ambient.event_id(), self.ambient.now(), Actor::System, action, "thing");
            self.store.record(event).await.unwrap();
        }
    }

    /// Records of this action.
    pub async fn recorded(&self, action: &'static str) -> usize {
        let log = self.name.clone();
        let filter = Filter { action: Some(action.into()), limit: 100, ..Filter::default() };
        self.store.read(move |conn| query(conn, &log, &filter)).await.unwrap().len()
    }

    /// The log goes on with another key.
    pub async fn rotate(&self, seed: u8) {
        self.upkeep.rotate_key(&Authority::system(), &[seed; 32]).await.unwrap();
    }

    /// A record on each of so many days.
    pub async fn days(&self, days: usize) {
        for _ in 0..days {
            self.work("test.act", 1).await;
            self.clock.advance(DAY);
        }
    }

    /// Takes away all days but the present one and the one before.
    pub async fn prune(&self) {
        let before = Timestamp(self.ambient.now().as_micros() - DAY.as_micros() as i64);
        assert!(self.upkeep.prune(before, false).await.unwrap().days > 0);
    }

    /// The newest checkpoint with a proof from an older size.
    pub async fn shown(&self, old_size: u64) -> SubmitCheckpoint {
        let note = self.log.checkpoint().await.unwrap();
        let leaves: Vec<Hash> = self
            .store
            .read(|conn| {
                conn.query("SELECT leaf_hash FROM audit_record ORDER BY seq", &[], |row| {
                    Ok(Hash::try_from(row.bytes(0)?.as_slice()).unwrap())
                })
            })
            .await
            .unwrap();
        let size = checkpoint::parse_unverified(&note).unwrap().size as usize;
        let proof = proofs::consistency_proof(&leaves[..size], old_size as usize).unwrap_or_default();
        let name = self.name.clone();
        let rotations = self.store.read(move |conn| rotations(conn, &name)).await.unwrap();
        SubmitCheckpoint { note, old_size, proof: proof.iter().map(|hash| BASE64.encode(hash)).collect(), rotations }
    }
}

pub fn identity(name: &str) -> LogIdentity {
    LogIdentity::new(name, &[7; 32]).unwrap()
}

/// The public key of a node's log, its first one.
pub fn key_of(name: &str) -> VerifierKey {
    (*identity(name).verifier_key()).clone()
}

/// No target; a test adds its own.
pub fn no_targets() -> WitnessOptions {
    WitnessOptions {
        file: None,
        file_bytes_max: 1 << 20,
        webhooks: Vec::new(),
        nodes: Vec::new(),
        interval: Duration::from_secs(60),
    }
}

pub fn size_of(note: &str) -> u64 {
    checkpoint::parse_unverified(note).unwrap().size
}

/// The tree of so many records of somebody else.
pub fn other_tree(size: u64) -> Frontier {
    (0..size).map(|number| [number as u8; 32]).collect()
}
