//! Keys of providers: revealed here, for the request that they are put into, and nowhere else.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use agentos_secrets::{SecretString, Secrets};
use agentos_types::{Result, SecretName};
use async_trait::async_trait;
use tokio::time::Instant;

/// How long a revealed key serves further requests, if this process changes none in the meantime. Longer would leave one in use
/// that another node has revoked; shorter would open the store for each call.
const KEPT: Duration = Duration::from_secs(1);
/// Keys that are held at once. An installation has a handful.
const KEYS_MAX: usize = 256;

#[async_trait]
pub trait Keys: Send + Sync {
    async fn reveal(&self, name: &SecretName) -> Result<SecretString>;
}

/// Those of the installation.
pub struct SealedKeys {
    secrets: Secrets,
    revealed: Mutex<HashMap<SecretName, Kept>>,
}

struct Kept {
    key: SecretString,
    at: Instant,
    /// Changes of secrets that this process had made before it was revealed.
    changes: u64,
}

impl SealedKeys {
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, revealed: Mutex::default() }
    }

    fn kept(&self, name: &SecretName) -> Option<SecretString> {
        let mut revealed = self.revealed.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.secrets.changes();
        revealed.retain(|_, kept| kept.at.elapsed() < KEPT && kept.changes == changes);
        revealed.get(name).map(|kept| kept.key.clone())
    }
}

#[async_trait]
impl Keys for SealedKeys {
    async fn reveal(&self, name: &SecretName) -> Result<SecretString> {
        if let Some(key) = self.kept(name) {
            return Ok(key);
        }
        let changes = self.secrets.changes();
        let key = self.secrets.reveal(name).await?;
        let mut revealed = self.revealed.lock().unwrap_or_else(PoisonError::into_inner);
        if revealed.len() < KEYS_MAX {
            revealed.insert(name.clone(), Kept { key: key.clone(), at: Instant::now(), changes });
        }
        Ok(key)
    }
}
