//! Who the log is: its id and its signing key, which signs nothing but checkpoints of this log and its own successor.

use std::sync::{Arc, PoisonError, RwLock};

use agentos_proof::{Hash, SigningKey, VerifierKey, checkpoint, rotation};
use agentos_types::{Code, Fault, Result};

/// Shared by writer and readers: when the key changes, it changes for all of them.
#[derive(Clone)]
pub struct LogIdentity {
    log: Arc<str>,
    keys: Arc<RwLock<Keys>>,
}

struct Keys {
    active: Pair,
    /// Becomes the active one with the commit that records it.
    staged: Option<Pair>,
}

#[derive(Clone)]
struct Pair {
    /// Wipes itself when the last copy is dropped.
    signing: Arc<SigningKey>,
    verifier: Arc<VerifierKey>,
}

impl Pair {
    fn new(log: &str, seed: &[u8; 32]) -> Result<Self> {
        let key = SigningKey::from_bytes(seed);
        let verifier = VerifierKey::new(checkpoint::origin(log), key.verifying_key())?;
        Ok(Self { signing: Arc::new(key), verifier: Arc::new(verifier) })
    }
}

impl LogIdentity {
    pub fn new(log: &str, seed: &[u8; 32]) -> Result<Self> {
        let keys = Keys { active: Pair::new(log, seed)?, staged: None };
        Ok(Self { log: log.into(), keys: Arc::new(RwLock::new(keys)) })
    }

    pub fn log(&self) -> &str {
        &self.log
    }

    /// Public half of the key that signs now, in C2SP vkey form by its `Display`.
    pub fn verifier_key(&self) -> Arc<VerifierKey> {
        self.read(|keys| keys.active.verifier.clone())
    }

    /// Makes a key ready to become the next one. A log that was found to have changed to it already goes on with it.
    pub fn stage(&self, seed: &[u8; 32]) -> Result<()> {
        let pair = Pair::new(&self.log, seed)?;
        self.write(|keys| keys.staged = Some(pair));
        Ok(())
    }

    /// Public half of the key that is to become the next one.
    pub fn staged_key(&self) -> Option<Arc<VerifierKey>> {
        self.read(|keys| keys.staged.as_ref().map(|pair| pair.verifier.clone()))
    }

    /// The key that the log's own table names as the newest must be one that we have.
    pub(crate) fn adopt(&self, newest: &VerifierKey) -> Result<()> {
        if *self.verifier_key() == *newest {
            return Ok(());
        }
        if self.staged_key().is_some_and(|staged| *staged == *newest) {
            self.switch();
            return Ok(());
        }
        Err(Fault::new(
            Code::AUDIT_KEY_UNUSABLE,
            format!("the log's key was changed to {newest}, and its private half is not here"),
        )
        .hint(
            "restore keys/audit.key, or keys/audit.key.next if it is there, from the newest copy of the data directory",
        ))
    }

    /// The staged key signs from now on; the old one is gone from memory with its last use.
    pub(crate) fn switch(&self) {
        self.write(|keys| {
            if let Some(next) = keys.staged.take() {
                keys.active = next;
            }
        });
    }

    pub(crate) fn sign(&self, size: u64, root: &Hash) -> String {
        let key = self.read(|keys| keys.active.signing.clone());
        checkpoint::sign(&key, &checkpoint::origin(&self.log), size, root)
    }

    /// The statement that the staged key follows the active one after `size`.
    pub(crate) fn sign_rotation(&self, size: u64) -> Result<String> {
        let (old, new) = self.read(|keys| (keys.active.clone(), keys.staged.clone()));
        let new = new.ok_or_else(|| Fault::new(Code::AUDIT_KEY_UNUSABLE, "no next key is staged"))?;
        rotation::sign(&checkpoint::origin(&self.log), &old.signing, &new.signing, size)
    }

    fn read<T>(&self, use_keys: impl FnOnce(&Keys) -> T) -> T {
        // Nothing panics while it holds the lock; a poisoned one would still hold whole keys.
        use_keys(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut Keys)) {
        change(&mut self.keys.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl std::fmt::Debug for LogIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogIdentity({})", self.log)
    }
}
