//! Who may hold a connection: places shared out so that neither an address nor a token can take them all.
//!
//! A connection is a stranger's until a request on it presents a valid token, and again after one that does not. Strangers
//! can be displaced and holders of tokens cannot. A newcomer always finds a place while any stranger has one: above the
//! share of its address the oldest stranger of that address goes, and in a full house the oldest of the address that
//! holds most. So whoever only occupies displaces himself, and a client with a token needs a place for one request.
//!
//! Addresses behind one proxy share one share. That does no harm: only what has not authenticated counts against it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use agentos_types::{Code, Fault, Result, TokenId};
use tokio_util::sync::CancellationToken;

use crate::layers::buckets::Peer;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections in all.
    pub all: usize,
    /// Strangers of one address.
    pub strangers_per_address: usize,
}

impl Limits {
    /// A client that leaks connections must not keep the tokens of others out.
    fn per_token(self) -> usize {
        (self.all / 2).max(1)
    }
}

#[derive(Debug)]
pub(crate) struct Slots {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Connections are numbered by their age.
    next: u64,
    strangers: HashMap<Peer, BTreeMap<u64, CancellationToken>>,
    strangers_held: usize,
    known: HashMap<u64, Known>,
    by_token: HashMap<TokenId, usize>,
}

#[derive(Debug)]
struct Known {
    token: TokenId,
    end: CancellationToken,
}

/// The place of one connection, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    number: u64,
    peer: Peer,
    end: CancellationToken,
}

/// A place, and whether a stranger had to go for it.
#[derive(Debug)]
pub(crate) struct Taken {
    pub slot: Slot,
    pub has_displaced: bool,
}

impl Slots {
    pub fn new(limits: Limits) -> Arc<Self> {
        let limits = Limits { all: limits.all.max(1), strangers_per_address: limits.strangers_per_address.max(1) };
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// `None` when every place is held by a token.
    pub fn take(self: &Arc<Self>, peer: Peer) -> Option<Taken> {
        let mut state = self.state();
        let of_peer = state.strangers.get(&peer).map_or(0, BTreeMap::len);
        let is_full = state.strangers_held + state.known.len() >= self.limits.all;
        let has_displaced = if of_peer >= self.limits.strangers_per_address {
            state.displace_oldest_of(peer)
        } else if is_full {
            let greediest = state.greediest()?;
            state.displace_oldest_of(greediest)
        } else {
            false
        };
        let (number, end) = (state.next, CancellationToken::new());
        state.next += 1;
        state.enter(peer, number, end.clone());
        drop(state);
        Some(Taken { slot: Slot { slots: Arc::clone(self), number, peer, end }, has_displaced })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// A request on the connection presented a valid token. Refused when the token holds too many connections.
    pub fn know(&self, token: &TokenId) -> Result<()> {
        let mut state = self.slots.state();
        if state.known.get(&self.number).is_some_and(|known| known.token == *token) {
            return Ok(());
        }
        let most = self.slots.limits.per_token();
        if state.by_token.get(token).copied().unwrap_or(0) >= most {
            return Err(Fault::new(
                Code::TOO_MANY_CONNECTIONS,
                format!("the token holds {most} connections, which is half of gateway.connections_max"),
            )
            .hint("close connections that are not needed, or share them")
            .retry_after(std::time::Duration::from_secs(1)));
        }
        if let Some(end) = state.leave(self.peer, self.number) {
            *state.by_token.entry(token.clone()).or_insert(0) += 1;
            state.known.insert(self.number, Known { token: token.clone(), end });
        }
        Ok(())
    }

    /// A request on the connection needed a valid token and had none.
    pub fn forget(&self) {
        let mut state = self.slots.state();
        if state.known.contains_key(&self.number)
            && let Some(end) = state.leave(self.peer, self.number)
        {
            state.enter(self.peer, self.number, end);
        }
    }

    /// Waits until the place is needed for somebody else.
    pub async fn displaced(&self) {
        self.end.cancelled().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Displaced ones have left already.
        self.slots.state().leave(self.peer, self.number);
    }
}

impl State {
    fn enter(&mut self, peer: Peer, number: u64, end: CancellationToken) {
        self.strangers.entry(peer).or_default().insert(number, end);
        self.strangers_held += 1;
    }

    fn leave(&mut self, peer: Peer, number: u64) -> Option<CancellationToken> {
        if let Some(known) = self.known.remove(&number) {
            if let Some(held) = self.by_token.get_mut(&known.token) {
                *held = held.saturating_sub(1);
                if *held == 0 {
                    self.by_token.remove(&known.token);
                }
            }
            return Some(known.end);
        }
        let of_peer = self.strangers.get_mut(&peer)?;
        let end = of_peer.remove(&number)?;
        if of_peer.is_empty() {
            self.strangers.remove(&peer);
        }
        self.strangers_held -= 1;
        Some(end)
    }

    fn displace_oldest_of(&mut self, peer: Peer) -> bool {
        let oldest = self.strangers.get(&peer).and_then(|of_peer| of_peer.keys().next().copied());
        let Some(end) = oldest.and_then(|number| self.leave(peer, number)) else { return false };
        end.cancel();
        true
    }

    /// The address with most strangers; among equals the one whose oldest is oldest. As many addresses are looked at as
    /// there are strangers, and only while the house is full.
    fn greediest(&self) -> Option<Peer> {
        let rank = |of_peer: &BTreeMap<u64, CancellationToken>| {
            (of_peer.len(), std::cmp::Reverse(of_peer.keys().next().copied()))
        };
        self.strangers.iter().max_by_key(|(_, of_peer)| rank(of_peer)).map(|(peer, _)| *peer)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn peer(number: u8) -> Peer {
        Peer::from(IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)))
    }

    fn token(number: u8) -> TokenId {
        format!("tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D{number:02}").parse().unwrap()
    }

    fn slots(all: usize, strangers_per_address: usize) -> Arc<Slots> {
        Slots::new(Limits { all, strangers_per_address })
    }

    fn take(slots: &Arc<Slots>, number: u8) -> Slot {
        slots.take(peer(number)).expect("a place").slot
    }

    fn is_displaced(slot: &Slot) -> bool {
        slot.end.is_cancelled()
    }

    fn is_empty(slots: &Slots) -> bool {
        let state = slots.state();
        (state.strangers.len(), state.strangers_held, state.known.len(), state.by_token.len()) == (0, 0, 0, 0)
    }

    #[test]
    fn above_its_share_an_address_displaces_its_own_oldest() {
        let slots = slots(10, 2);
        let (neighbour, first, second, third) = (take(&slots, 2), take(&slots, 1), take(&slots, 1), take(&slots, 1));
        assert_eq!([&neighbour, &first, &second, &third].map(is_displaced), [false, true, false, false]);
        drop((neighbour, first, second, third));
        assert!(is_empty(&slots));
    }

    #[test]
    fn in_a_full_house_the_address_that_holds_most_makes_room() {
        let slots = slots(4, 10);
        let (single, greedy) = (take(&slots, 1), [2, 2, 2].map(|number| take(&slots, number)));
        let newcomer = slots.take(peer(3)).unwrap();
        assert!(newcomer.has_displaced && is_displaced(&greedy[0]));
        let next = take(&slots, 4);
        assert!(is_displaced(&greedy[1]) && !is_displaced(&greedy[2]));
        let last = take(&slots, 5);
        assert!(is_displaced(&single), "among equals the oldest");
        drop((single, greedy, newcomer, next, last));
        assert!(is_empty(&slots));
    }

    #[test]
    fn who_presented_a_token_is_not_displaced_and_who_lost_it_is() {
        let slots = slots(4, 2);
        let known = take(&slots, 1);
        known.know(&token(1)).unwrap();
        let strangers: Vec<Slot> = (0..20).map(|_| take(&slots, 1)).collect();
        assert_eq!(strangers.iter().filter(|slot| !is_displaced(slot)).count(), 2);
        assert!(!is_displaced(&known));
        known.forget();
        let _next = take(&slots, 1);
        assert!(is_displaced(&known), "it is the oldest");
        assert!(known.know(&token(1)).is_ok(), "its end is on the way");
        drop((known, strangers, _next));
        assert!(is_empty(&slots));
    }

    #[test]
    fn one_token_takes_half_and_only_tokens_can_fill_the_house() {
        let slots = slots(4, 4);
        let held: Vec<Slot> = (0..4).map(|_| take(&slots, 1)).collect();
        assert!(held[..2].iter().all(|slot| slot.know(&token(1)).is_ok() && slot.know(&token(1)).is_ok()));
        assert_eq!(held[2].know(&token(1)).unwrap_err().code, Code::TOO_MANY_CONNECTIONS);
        assert!(held[2..].iter().all(|slot| slot.know(&token(2)).is_ok()));
        assert!(slots.take(peer(2)).is_none(), "nobody is left to be displaced");
        held[0].know(&token(3)).unwrap();
        assert_eq!(slots.state().by_token.get(&token(1)), Some(&1), "one connection counts for one token");
        drop(held);
        assert!(is_empty(&slots));
    }

    /// Whatever happens in whatever order: never above the limits, and nothing left behind.
    #[test]
    fn limits_hold_through_any_story() {
        let limits = Limits { all: 8, strangers_per_address: 3 };
        let (slots, mut seed) = (Slots::new(limits), 7_u64);
        let mut held: Vec<Slot> = Vec::new();
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (what, who) = ((seed >> 33) % 8, u8::try_from((seed >> 40) % 5).unwrap());
            let at = usize::try_from(seed >> 45).unwrap() % held.len().max(1);
            match what {
                0..4 => held.extend(slots.take(peer(who)).map(|taken| taken.slot)),
                4 if !held.is_empty() => drop(held.swap_remove(at)),
                5 if !held.is_empty() => held[at].forget(),
                _ if !held.is_empty() => drop(held[at].know(&token(who))),
                _ => {}
            }
            held.retain(|slot| !is_displaced(slot));
            let state = slots.state();
            let strangers: usize = state.strangers.values().map(BTreeMap::len).sum();
            assert_eq!(strangers, state.strangers_held);
            assert_eq!(strangers + state.known.len(), held.len());
            assert!(held.len() <= limits.all);
            assert!(state.by_token.values().all(|count| *count <= limits.per_token()));
        }
        drop(held);
        assert!(is_empty(&slots));
    }
}
