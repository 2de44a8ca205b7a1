//! Tokens that were just looked up, so that not every request reads the store.
//!
//! What a look has told holds for a second at most, and ends before that when any token changes: the store announces a change
//! to its subscribers before whoever asked for it is answered, and what was announced is heard here before anything is taken
//! from memory. So a revoked token is refused from the next request on by the node that revoked it, by others as soon as their
//! hint arrives, and by all within the second. A token that is not known is never remembered: each guess is looked up, and counted.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentos_types::{Result, notify::Notice};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::{
    sync::broadcast::{Receiver, error::TryRecvError},
    time::Instant,
};

use crate::TokenRow;

/// How long an answer of the store may serve further requests. Longer would let a token live on at a node that has lost its
/// ear for the others; shorter would save nothing at a few requests a second, and nothing more at thousands.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(1);
/// Tokens that are remembered at once. More ask within one second on no node; those beyond it are looked up.
const TOKENS_MAX: usize = 1_024;

/// Of the token, as the store has it.
pub(crate) type Hash = [u8; 32];
pub(crate) type Looked = Result<Option<Arc<TokenRow>>>;
type Look = Shared<BoxFuture<'static, Looked>>;

pub(crate) struct Remembered(Mutex<State>);

struct State {
    heard: Receiver<Notice>,
    tokens: HashMap<Hash, Entry>,
    /// Of the next look.
    number: u64,
    swept_at: Instant,
}

struct Entry {
    number: u64,
    began_at: Instant,
    known: Known,
}

enum Known {
    Row(Arc<TokenRow>),
    /// Those who wait for a look hold it; when all have gone, so is it.
    Looking(WeakShared<BoxFuture<'static, Looked>>),
}

/// What memory has to say.
enum Seen {
    Row(Arc<TokenRow>),
    Look(u64, Look),
}

impl Remembered {
    /// `heard` must have been subscribed to before the first look.
    pub fn new(heard: Receiver<Notice>) -> Self {
        Self(Mutex::new(State { heard, tokens: HashMap::new(), number: 0, swept_at: Instant::now() }))
    }

    /// The row behind the hash, by memory, by the look of another request that is under way, or by `look`.
    pub async fn find(&self, hash: Hash, look: impl FnOnce() -> BoxFuture<'static, Looked>) -> Looked {
        let (number, look) = match self.lock().see(hash, look) {
            Seen::Row(row) => return Ok(Some(row)),
            Seen::Look(number, look) => (number, look),
        };
        let looked = look.await;
        self.lock().keep(hash, number, &looked);
        looked
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Every change of it is complete before anything could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn see(&mut self, hash: Hash, look: impl FnOnce() -> BoxFuture<'static, Looked>) -> Seen {
        self.hear();
        let now = Instant::now();
        if let Some(entry) = self.tokens.get(&hash).filter(|entry| entry.is_fresh(now)) {
            match &entry.known {
                Known::Row(row) => return Seen::Row(row.clone()),
                // It began after the last change that was heard of.
                Known::Looking(look) => {
                    if let Some(look) = look.upgrade() {
                        return Seen::Look(entry.number, look);
                    }
                }
            }
        }
        self.number += 1;
        let look = look().shared();
        if self.has_room_for(&hash, now)
            && let Some(looking) = look.downgrade()
        {
            let entry = Entry { number: self.number, began_at: now, known: Known::Looking(looking) };
            self.tokens.insert(hash, entry);
        }
        Seen::Look(self.number, look)
    }

    /// Unless something changed since the look began, which has taken its entry away.
    fn keep(&mut self, hash: Hash, number: u64, looked: &Looked) {
        let Some(entry) = self.tokens.get_mut(&hash).filter(|entry| entry.number == number) else { return };
        match looked {
            Ok(Some(row)) => entry.known = Known::Row(row.clone()),
            Ok(None) | Err(_) => drop(self.tokens.remove(&hash)),
        }
    }

    /// Forgets everything if a token may have changed. As many notices wait as the store keeps; who falls behind is told.
    fn hear(&mut self) {
        loop {
            match self.heard.try_recv() {
                Ok(Notice::Tokens | Notice::Missed) | Err(TryRecvError::Lagged(_)) => self.tokens.clear(),
                Ok(_) => {}
                Err(TryRecvError::Empty) => return,
                // The store is gone; its next reader is told so.
                Err(TryRecvError::Closed) => return self.tokens.clear(),
            }
        }
    }

    fn has_room_for(&mut self, hash: &Hash, now: Instant) -> bool {
        let is_full = self.tokens.len() >= TOKENS_MAX && !self.tokens.contains_key(hash);
        if is_full && now.duration_since(self.swept_at) >= REMEMBERED_FOR {
            self.swept_at = now;
            self.tokens.retain(|_, entry| entry.is_fresh(now));
        }
        !is_full || self.tokens.len() < TOKENS_MAX
    }
}

impl Entry {
    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.began_at) < REMEMBERED_FOR
    }
}

/// Rows say who holds what; a log needs none of it.
impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remembered")
    }
}

#[cfg(test)]
mod tests;
