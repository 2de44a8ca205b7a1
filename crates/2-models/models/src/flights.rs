//! Calls under way under an idempotency key: one asks, the others with the same key and body wait for what it comes to, so that
//! however many come at once a provider is asked once. A stream is joined by nobody: who comes second is told when to come again.
//!
//! Known to this node alone, and for as long as the call lasts. What it came to is in the store then ([`crate::kept`]).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentos_types::{Code, Fault, Result};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::kept::Answer;

/// Keys under way over all callers. Each is a call, of which connections bound the number long before.
const FLIGHTS_MAX: usize = 20_000;
/// Who waits for one call: more are no retries but a fault of their client.
const WAITING_PER_CALL_MAX: usize = 100;
/// Who waits for any. Each holds the body of its request.
const WAITING_MAX: usize = 1_000;
/// When who cannot wait may come again.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Flights {
    flights: Arc<Mutex<HashMap<Key, Flight>>>,
    waiting: Arc<Semaphore>,
}

/// Whose key, and its hash.
pub(crate) type Key = (String, String);

struct Flight {
    request: [u8; 32],
    is_stream: bool,
    landing: watch::Sender<Landing>,
}

/// What became of a call.
#[derive(Clone, Debug)]
pub(crate) enum Landing {
    Flying,
    Answered(Arc<Answer>),
    Failed(Arc<Told>),
    /// Whoever asked went away before the end.
    Gone,
}

/// A failure as the first one was told it.
#[derive(Debug)]
pub(crate) struct Told {
    pub status: u16,
    /// Of the content, and when to come again.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub fault: Option<Fault>,
    pub class: Option<&'static str>,
}

pub(crate) enum Entered {
    First(Slot),
    Behind(Waiter),
}

/// The right to ask first, and the duty to tell the others what came of it. Dropped, it lets the next one ask.
pub(crate) struct Slot {
    flights: Flights,
    key: Option<Key>,
}

/// A place behind the first.
pub(crate) struct Waiter {
    landing: watch::Receiver<Landing>,
    _place: OwnedSemaphorePermit,
}

impl Default for Flights {
    fn default() -> Self {
        Self { flights: Arc::default(), waiting: Arc::new(Semaphore::new(WAITING_MAX)) }
    }
}

impl Flights {
    pub fn enter(&self, key: Key, request: [u8; 32], is_stream: bool) -> Result<Entered> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(flight) = flights.get(&key) else {
            if flights.len() >= FLIGHTS_MAX {
                let text = format!("{FLIGHTS_MAX} requests with idempotency keys are under way");
                return Err(Fault::new(Code::RATE_LIMITED, text).retry_after(AGAIN));
            }
            let flight = Flight { request, is_stream, landing: watch::Sender::new(Landing::Flying) };
            flights.insert(key.clone(), flight);
            return Ok(Entered::First(Slot { flights: self.clone(), key: Some(key) }));
        };
        if flight.request != request {
            return Err(reused());
        }
        if flight.is_stream {
            return Err(in_flight("its answer is being streamed, which can be given again once it is whole"));
        }
        if flight.landing.receiver_count() >= WAITING_PER_CALL_MAX {
            return Err(in_flight(&format!("{WAITING_PER_CALL_MAX} others wait for it")));
        }
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return Err(in_flight(&format!("{WAITING_MAX} requests wait for others like it")));
        };
        Ok(Entered::Behind(Waiter { landing: flight.landing.subscribe(), _place: place }))
    }

    fn land(&self, key: &Key, landing: Landing) {
        let flight = self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        if let Some(flight) = flight {
            flight.landing.send_replace(landing);
        }
    }
}

impl Slot {
    /// Tells those who wait, and lets the key go.
    pub fn land(mut self, landing: Landing) {
        if let Some(key) = self.key.take() {
            self.flights.land(&key, landing);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.flights.land(&key, Landing::Gone);
        }
    }
}

impl Waiter {
    pub async fn landing(mut self) -> Landing {
        match self.landing.wait_for(|landing| !matches!(landing, Landing::Flying)).await {
            Ok(landing) => landing.clone(),
            Err(_) => Landing::Gone,
        }
    }
}

/// One key stands for one request.
pub(crate) fn reused() -> Fault {
    Fault::new(Code::MODEL_KEY_REUSED, "the idempotency key was used before with a different request")
        .hint("use a new key for a new request")
}

pub(crate) fn in_flight(why: &str) -> Fault {
    let text = format!("a request with this idempotency key is being answered: {why}");
    Fault::new(Code::MODEL_CALL_IN_FLIGHT, text).retry_after(AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("agent:a".into(), name.into())
    }

    fn first(flights: &Flights, name: &str, is_stream: bool) -> Slot {
        match flights.enter(key(name), [1; 32], is_stream).unwrap() {
            Entered::First(slot) => slot,
            Entered::Behind(_) => panic!("somebody asks already"),
        }
    }

    fn behind(flights: &Flights, name: &str) -> Waiter {
        match flights.enter(key(name), [1; 32], false).unwrap() {
            Entered::Behind(waiter) => waiter,
            Entered::First(_) => panic!("nobody asks"),
        }
    }

    #[tokio::test]
    async fn who_comes_second_gets_what_the_first_gets() {
        let flights = Flights::default();
        let slot = first(&flights, "k", false);
        let waiting = [behind(&flights, "k"), behind(&flights, "k")];
        assert_eq!(flights.enter(key("k"), [2; 32], false).err().unwrap().code, Code::MODEL_KEY_REUSED);
        assert!(matches!(flights.enter(("agent:b".into(), "k".into()), [2; 32], false), Ok(Entered::First(_))));
        let answer = Arc::new(Answer { body: Bytes::from_static(b"{}"), ..Answer::default() });
        slot.land(Landing::Answered(answer.clone()));
        for waiter in waiting {
            assert!(matches!(waiter.landing().await, Landing::Answered(found) if found == answer));
        }
        drop(first(&flights, "k", false));
    }

    #[tokio::test]
    async fn when_the_first_goes_away_the_next_one_asks() {
        let flights = Flights::default();
        let slot = first(&flights, "k", false);
        let waiter = behind(&flights, "k");
        drop(slot);
        assert!(matches!(waiter.landing().await, Landing::Gone));
        drop(first(&flights, "k", false));
    }

    #[test]
    fn a_stream_is_joined_by_nobody_and_no_call_by_too_many() {
        let flights = Flights::default();
        let _stream = first(&flights, "s", true);
        let refused = flights.enter(key("s"), [1; 32], true).err().unwrap();
        assert_eq!((refused.code, refused.retry_after), (Code::MODEL_CALL_IN_FLIGHT, Some(AGAIN)));
        let mut held = Vec::new();
        for call in 0..WAITING_MAX / WAITING_PER_CALL_MAX {
            let name = call.to_string();
            let slot = first(&flights, &name, false);
            let waiting: Vec<Waiter> = (0..WAITING_PER_CALL_MAX).map(|_| behind(&flights, &name)).collect();
            let refused = flights.enter(key(&name), [1; 32], false).err().unwrap();
            assert_eq!(refused.code, Code::MODEL_CALL_IN_FLIGHT);
            held.push((slot, waiting));
        }
        let _slot = first(&flights, "one more", false);
        assert!(flights.enter(key("one more"), [1; 32], false).is_err(), "all places are taken");
        held.clear();
        behind(&flights, "one more");
    }
}
