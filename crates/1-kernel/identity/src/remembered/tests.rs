//! Memory alone: when it looks, what it forgets, and how much it holds. What it means for tokens is tested on real stores.

use std::sync::atomic::{AtomicUsize, Ordering};

use agentos_types::{Code, Fault, Timestamp, TokenId};
use futures_util::future::join_all;
use tokio::sync::{Notify, broadcast};

use super::*;

fn row(number: u128) -> Arc<TokenRow> {
    let id = TokenId::generate(Timestamp(1), number);
    Arc::new(TokenRow {
        family: id.clone(),
        id,
        name: format!("token {number}"),
        role: None,
        scopes: Vec::new(),
        agents: Vec::new(),
        models: Vec::new(),
        created_by: "system".into(),
        created_at: Timestamp(1),
        expires_at: None,
        revoked_at: None,
    })
}

/// A store of which each look is counted.
struct Place {
    remembered: Remembered,
    notices: broadcast::Sender<Notice>,
    looks: Arc<AtomicUsize>,
}

impl Place {
    fn new() -> Self {
        let (notices, heard) = broadcast::channel(8);
        Self { remembered: Remembered::new(heard), notices, looks: Arc::default() }
    }

    async fn find(&self, hash: u8, answer: Looked) -> Looked {
        let looks = self.looks.clone();
        let look = || {
            looks.fetch_add(1, Ordering::SeqCst);
            async move { answer }.boxed()
        };
        self.remembered.find([hash; 32], look).await
    }

    fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }

    fn held(&self) -> usize {
        self.remembered.lock().tokens.len()
    }
}

#[tokio::test(start_paused = true)]
async fn one_look_serves_a_second_and_no_longer() {
    let place = Place::new();
    for _ in 0..100 {
        assert_eq!(place.find(1, Ok(Some(row(1)))).await, Ok(Some(row(1))));
        tokio::time::advance(REMEMBERED_FOR / 100).await;
    }
    assert_eq!(place.looks(), 1);
    assert_eq!(place.find(1, Ok(None)).await, Ok(None), "the second is over, and the store has the word");
    assert_eq!(place.looks(), 2);
}

#[tokio::test]
async fn what_is_unknown_or_failed_is_looked_up_each_time_and_takes_no_place() {
    let place = Place::new();
    for _ in 0..3 {
        assert_eq!(place.find(1, Ok(None)).await, Ok(None));
        let failed = Fault::new(Code::STORE_UNAVAILABLE, "away");
        assert_eq!(place.find(2, Err(failed.clone())).await, Err(failed));
    }
    assert_eq!((place.looks(), place.held()), (6, 0));
}

#[tokio::test]
async fn a_change_and_whatever_may_have_been_one_is_heard_before_memory_speaks() {
    let place = Place::new();
    let known = async |place: &Place| place.find(1, Ok(Some(row(1)))).await.unwrap();
    known(&place).await;
    for notice in [Notice::Audit, Notice::Budgets, Notice::Models] {
        place.notices.send(notice).unwrap();
    }
    known(&place).await;
    assert_eq!(place.looks(), 1, "others are no concern of tokens");
    for (notices, expected) in [(vec![Notice::Tokens], 2), (vec![Notice::Missed], 3), (vec![Notice::Audit; 20], 4)] {
        notices.into_iter().for_each(|notice| drop(place.notices.send(notice)));
        known(&place).await;
        assert_eq!(place.looks(), expected);
    }
    let Place { remembered, looks, notices } = place;
    drop(notices);
    let place = Place { remembered, looks, notices: broadcast::channel(1).0 };
    known(&place).await;
    assert_eq!(place.looks(), 5, "without a store nothing is remembered");
}

/// A look that waits at a gate.
async fn gated(place: &Place, gate: &Arc<Notify>, answer: Looked) -> Looked {
    let (looks, gate) = (place.looks.clone(), gate.clone());
    let look = || {
        looks.fetch_add(1, Ordering::SeqCst);
        async move {
            gate.notified().await;
            answer
        }
        .boxed()
    };
    place.remembered.find([1; 32], look).await
}

#[tokio::test]
async fn all_who_ask_at_once_wait_for_one_look() {
    let (place, gate) = (Place::new(), Arc::new(Notify::new()));
    let asking = join_all((0..64).map(|_| gated(&place, &gate, Ok(Some(row(1))))));
    let (answers, ()) = tokio::join!(asking, async { gate.notify_one() });
    assert!(answers.iter().all(|answer| *answer == Ok(Some(row(1)))));
    assert_eq!(place.looks(), 1);
}

#[tokio::test]
async fn a_look_that_began_before_a_change_serves_nobody_who_asks_after_it() {
    let (place, gate) = (Place::new(), Arc::new(Notify::new()));
    let mut early = Box::pin(gated(&place, &gate, Ok(Some(row(1)))));
    assert!(early.as_mut().now_or_never().is_none());
    place.notices.send(Notice::Tokens).unwrap();
    assert_eq!(place.find(1, Ok(None)).await, Ok(None), "it looks by itself");
    gate.notify_one();
    assert_eq!(early.await, Ok(Some(row(1))), "who asked before may have the answer of before");
    assert_eq!((place.find(1, Ok(None)).await, place.looks()), (Ok(None), 3), "and it was not remembered");
}

#[tokio::test]
async fn a_look_whose_askers_have_gone_is_begun_anew() {
    let (place, gate) = (Place::new(), Arc::new(Notify::new()));
    {
        let mut gone = Box::pin(gated(&place, &gate, Ok(Some(row(1)))));
        assert!(gone.as_mut().now_or_never().is_none());
    }
    assert_eq!(place.find(1, Ok(Some(row(2)))).await, Ok(Some(row(2))));
    assert_eq!(place.looks(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_tokens_takes_no_more_than_its_room_and_old_ones_make_some() {
    let place = Place::new();
    let ask = async |number: usize| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        let look = || async move { Ok(Some(row(number as u128))) }.boxed();
        place.remembered.find(hash, look).await.unwrap().unwrap()
    };
    for number in 0..3 * TOKENS_MAX {
        assert_eq!(ask(number).await, row(number as u128));
        assert!(place.held() <= TOKENS_MAX);
    }
    tokio::time::advance(REMEMBERED_FOR).await;
    ask(9 * TOKENS_MAX).await;
    assert_eq!(place.held(), 1, "what is old has gone");
}
