//! Every stored payload is an envelope, so that encryption and erasure can reach journal, events and caches later
//! without a change of schema. Today the only cipher is identity.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Fault, Result};

/// `key_id` 0 means: the bytes are plain JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub key_id: i64,
    pub bytes: Vec<u8>,
}

impl Envelope {
    pub const IDENTITY_KEY: i64 = 0;

    pub fn seal<T: Serialize>(value: &T) -> Result<Self> {
        let bytes = serde_json::to_vec(value).map_err(Fault::internal)?;
        Ok(Self { key_id: Self::IDENTITY_KEY, bytes })
    }

    /// Fails on an unknown key id: bytes that cannot be read are never shown as if they were the payload.
    pub fn open<T: DeserializeOwned>(&self) -> Result<T> {
        if self.key_id != Self::IDENTITY_KEY {
            return Err(Fault::internal(format!("payload sealed with unknown key {}", self.key_id)));
        }
        serde_json::from_slice(&self.bytes).map_err(Fault::internal)
    }

    pub fn open_value(&self) -> Result<Value> {
        self.open()
    }
}
