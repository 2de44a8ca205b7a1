//! Room for the bodies of all calls of models at once, wherever they come in. Whoever holds bytes has a share and gives it back
//! by dropping it; who finds no room is told so at once, since waiting would hold what it has already.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use agentos_types::{Code, Fault, Result};

/// How long is to be waited for room: a whole answer takes seconds.
const WAIT: Duration = Duration::from_secs(1);

/// Cheap to clone. Every clone is the same room.
#[derive(Clone, Debug)]
pub struct Room {
    held: Arc<AtomicUsize>,
    max: usize,
}

/// Bytes that one holds. Dropped, they are free again.
#[derive(Debug)]
#[must_use = "a share that is dropped holds nothing"]
pub struct Share {
    room: Room,
    bytes: usize,
}

impl Room {
    pub fn new(max: usize) -> Self {
        Self { held: Arc::default(), max }
    }

    /// In bytes.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Of nothing yet.
    pub fn share(&self) -> Share {
        Share { room: self.clone(), bytes: 0 }
    }

    /// For a body that has come already.
    pub fn hold(&self, bytes: usize) -> Result<Share> {
        let mut share = self.share();
        share.take(bytes)?;
        Ok(share)
    }
}

impl Share {
    /// Takes more, or nothing if there is not enough room.
    pub fn take(&mut self, more: usize) -> Result<()> {
        if self.grow(more) {
            return Ok(());
        }
        let max = self.room.max;
        let text =
            format!("the bodies of all calls of models together may have {max} bytes, and this one finds no room");
        Err(Fault::new(Code::MODEL_BODIES_FULL, text)
            .hint("come back when others are answered; raise models.held_bytes_max if it stays")
            .retry_after(WAIT)
            .fact("limit", max))
    }

    fn grow(&mut self, more: usize) -> bool {
        let max = self.room.max;
        let grown = |held: usize| held.checked_add(more).filter(|sum| *sum <= max);
        // A count alone: nothing else is published by it.
        let is_taken = self.room.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok();
        if is_taken {
            self.bytes += more;
        }
        is_taken
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_there_is_room_and_all_of_it_comes_back() {
        let room = Room::new(10);
        let (mut one, mut other) = (room.share(), room.share());
        assert!(one.grow(6) && other.grow(4));
        assert!(!one.grow(1), "it is full");
        assert!(!one.grow(usize::MAX), "and nothing overflows");
        assert_eq!(room.held(), 10);
        drop(other);
        assert!(one.grow(3));
        assert_eq!(room.held(), 9);
        drop(one);
        assert_eq!(room.held(), 0);
    }

    #[test]
    fn many_at_once_never_hold_more() {
        let room = Room::new(100);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let mut share = room.share();
                        let _ = share.grow(30) && share.grow(30);
                        assert!(room.held() <= 100);
                    }
                });
            }
        });
        assert_eq!(room.held(), 0);
    }
}
