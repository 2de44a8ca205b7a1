//! Idempotency keys of clients: the same key with the same body gets the same answer for a day, with another body a refusal, and
//! while the first is under way neither. Held in memory: a restart of the server forgets them, and with them only the
//! comfort, since what an agent's task has asked for lies in its journal.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentos_types::{Code, Fault, Result, Timestamp};
use bytes::Bytes;

/// How long an answer is given again.
const KEPT: Duration = Duration::from_secs(86_400);
/// Keys that are remembered over all callers.
const KEYS_MAX: usize = 20_000;
/// Bytes of answers over all callers; above it the oldest go.
const BYTES_MAX: usize = 64 << 20;
/// A larger answer is not kept, so that a repetition asks again.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Longer than any that SDKs make.
const KEY_BYTES_MAX: usize = 255;
/// How long a repetition is told to wait for the first.
const WAIT: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
pub(crate) struct Idempotency(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    entries: HashMap<Key, Entry>,
    bytes: usize,
}

/// Who chose it, and what.
type Key = (String, String);

struct Entry {
    hash: [u8; 32],
    at: Timestamp,
    /// `None` while it is under way.
    answer: Option<Stored>,
}

/// An answer that is given again.
#[derive(Clone)]
pub(crate) struct Stored {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Bytes,
}

/// The right to answer a key first. Dropped without an answer it lets the next one try.
pub(crate) struct Slot {
    kept: Idempotency,
    key: Key,
}

impl Idempotency {
    /// The answer of before, or the right to bring it.
    pub fn enter(&self, owner: String, key: &str, hash: [u8; 32], now: Timestamp) -> Result<Result<Slot, Stored>> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let text = format!("an idempotency key has 1 to {KEY_BYTES_MAX} bytes");
            return Err(Fault::new(Code::MODEL_REQUEST_INVALID, text));
        }
        let key = (owner, key.to_owned());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.entries.get(&key).is_some_and(|entry| entry.answer.is_some() && now.since(entry.at) >= KEPT) {
            kept.remove(&key);
        }
        match kept.entries.get(&key) {
            Some(entry) if entry.hash != hash => {
                return Err(Fault::new(
                    Code::IDEMPOTENCY_CONFLICT,
                    "the idempotency key was used before with a different request",
                ));
            }
            Some(Entry { answer: Some(answer), .. }) => return Ok(Err(answer.clone())),
            Some(_) => {
                let text = "a request with this idempotency key is being answered";
                return Err(Fault::new(Code::MODEL_CALL_IN_FLIGHT, text).retry_after(WAIT));
            }
            None => {}
        }
        if kept.entries.len() >= KEYS_MAX && !kept.remove_oldest() {
            let text = format!("{KEYS_MAX} requests with idempotency keys are under way");
            return Err(Fault::new(Code::RATE_LIMITED, text).retry_after(WAIT));
        }
        kept.entries.insert(key.clone(), Entry { hash, at: now, answer: None });
        Ok(Ok(Slot { kept: self.clone(), key }))
    }
}

impl Kept {
    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.answer.map_or(0, |answer| answer.body.len());
        }
    }

    /// Of those that are answered. `false`: there is none.
    fn remove_oldest(&mut self) -> bool {
        let answered = self.entries.iter().filter(|(_, entry)| entry.answer.is_some());
        let oldest = answered.min_by_key(|(_, entry)| entry.at).map(|(key, _)| key.clone());
        oldest.as_ref().map(|key| self.remove(key)).is_some()
    }
}

impl Slot {
    pub fn done(self, status: u16, content_type: &'static str, body: Bytes) {
        if body.len() > ANSWER_BYTES_MAX {
            return;
        }
        let mut kept = self.kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.bytes + body.len() > BYTES_MAX {
            if !kept.remove_oldest() {
                return;
            }
        }
        let size = body.len();
        if let Some(entry) = kept.entries.get_mut(&self.key) {
            entry.answer = Some(Stored { status, content_type, body });
            kept.bytes += size;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut kept = self.kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.entries.get(&self.key).is_some_and(|entry| entry.answer.is_none()) {
            kept.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_body_one_answer_and_a_day() {
        let memory = Idempotency::default();
        let now = Timestamp::from_millis(1_000);
        let enter = |owner: &str, hash: u8, now| memory.enter(owner.to_owned(), "k", [hash; 32], now);
        let slot = enter("agent:a", 1, now).unwrap().ok().unwrap();
        assert_eq!(enter("agent:a", 1, now).err().unwrap().code, Code::MODEL_CALL_IN_FLIGHT);
        assert_eq!(enter("agent:a", 2, now).err().unwrap().code, Code::IDEMPOTENCY_CONFLICT);
        assert!(enter("agent:b", 2, now).unwrap().is_ok(), "callers do not share keys");
        slot.done(200, "application/json", Bytes::from_static(b"{}"));
        assert_eq!(enter("agent:a", 1, now).unwrap().err().unwrap().body, "{}");
        assert_eq!(enter("agent:a", 2, now).err().unwrap().code, Code::IDEMPOTENCY_CONFLICT);
        assert!(enter("agent:a", 2, now.after(KEPT)).unwrap().is_ok(), "a day later it is a new key");
        assert!(memory.enter("a".into(), "", [0; 32], now).is_err());
    }

    #[test]
    fn what_failed_may_be_tried_again_and_memory_is_bounded() {
        let memory = Idempotency::default();
        let enter = |key: &str, at| memory.enter("a".into(), key, [1; 32], Timestamp::from_millis(at)).unwrap();
        drop(enter("k", 1));
        assert!(enter("k", 1).is_ok());
        let body = Bytes::from(vec![0; ANSWER_BYTES_MAX]);
        let most = BYTES_MAX / ANSWER_BYTES_MAX;
        for index in 0..=most {
            let at = i64::try_from(index).unwrap();
            enter(&format!("big-{index}"), at).ok().unwrap().done(200, "application/json", body.clone());
        }
        assert!(memory.0.lock().unwrap().bytes <= BYTES_MAX);
        assert!(enter("big-0", 100).is_ok(), "the oldest made room");
        assert!(enter("big-1", 100).is_err());
    }
}
