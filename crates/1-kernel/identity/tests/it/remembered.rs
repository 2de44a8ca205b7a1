//! What is remembered of tokens never outlives them.

use std::{pin::pin, sync::mpsc, time::Duration};

use agentos_identity::{NewToken, REMEMBERED_FOR, Rotation, Token, TokenRow, Tokens};
use agentos_store::Store;
use agentos_types::{Actor, Role, TokenId};
use futures_util::FutureExt;
use tokio::{sync::oneshot, task::JoinHandle, time::advance};

use super::house::{house, open_store};

pub async fn made(tokens: &Tokens) -> (Token, TokenRow) {
    tokens.create(&Actor::System, NewToken::of_role("a", Role::Operator)).await.unwrap()
}

pub async fn works(tokens: &Tokens, token: &Token) -> bool {
    tokens.authenticate(token.expose()).await.unwrap().is_some()
}

/// Holds the only reader of the store until the sender goes.
async fn hold_reader(store: &Store) -> (mpsc::Sender<()>, JoinHandle<()>) {
    let (until, gone) = mpsc::channel::<()>();
    let (begun, has_begun) = oneshot::channel();
    let store = store.clone();
    let held = tokio::spawn(async move {
        let query = move |_: &agentos_store::Conn<'_>| {
            begun.send(()).unwrap();
            let _ = gone.recv();
            Ok(())
        };
        store.read(query).await.unwrap();
    });
    has_begun.await.unwrap();
    (until, held)
}

/// As somebody would who knows the database and not this program: nothing is announced.
pub async fn revoke_behind_its_back(store: &Store, id: &TokenId) {
    let id = id.clone();
    let revoke = move |tx: &mut agentos_store::Tx<'_>| {
        tx.execute("UPDATE token SET revoked_at = 1 WHERE id = $1", &[(&id).into()])
    };
    store.write(revoke).await.unwrap();
}

#[tokio::test]
async fn a_known_token_needs_no_reader_and_one_that_was_revoked_is_looked_up_by_the_next_request() {
    let house = house();
    let (store, ambient, _, _) = open_store(&house);
    let tokens = Tokens::new(store.clone(), ambient);
    let (token, row) = made(&tokens).await;
    assert!(works(&tokens, &token).await);
    let (until, held) = hold_reader(&store).await;
    assert_eq!(tokens.authenticate(token.expose()).now_or_never(), Some(Ok(Some(row.clone()))), "from memory");
    tokens.revoke(&Actor::System, &row.id).await.unwrap();
    let mut asked = pin!(tokens.authenticate(token.expose()));
    assert!(asked.as_mut().now_or_never().is_none(), "memory has no word in it any more");
    drop(until);
    assert_eq!(asked.await, Ok(None));
    held.await.unwrap();
}

#[tokio::test]
async fn a_rotation_without_overlap_ends_what_is_remembered() {
    let house = house();
    let (store, ambient, _, _) = open_store(&house);
    let tokens = Tokens::new(store, ambient);
    let (token, row) = made(&tokens).await;
    assert!(works(&tokens, &token).await);
    let at_once = Rotation { overlap: Duration::ZERO, life: None };
    let (successor, _) = tokens.rotate(&Actor::System, &row.id, at_once).await.unwrap();
    assert!(!works(&tokens, &token).await && works(&tokens, &successor).await);
}

#[tokio::test]
async fn what_is_remembered_ends_with_its_time_whatever_the_clock_said_when_it_was_read() {
    let house = house();
    let (store, ambient, clock, _) = open_store(&house);
    let tokens = Tokens::new(store.clone(), ambient);
    let (token, row) = made(&tokens).await;
    assert!(works(&tokens, &token).await);
    let (until, held) = hold_reader(&store).await;
    clock.set(row.expires_at.unwrap());
    assert_eq!(tokens.authenticate(token.expose()).now_or_never(), Some(Ok(None)));
    drop(until);
    held.await.unwrap();
}

#[tokio::test]
async fn a_revocation_holds_though_who_asked_for_it_went_away_before_its_end() {
    let house = house();
    let (store, ambient, _, _) = open_store(&house);
    let tokens = Tokens::new(store.clone(), ambient);
    let (token, row) = made(&tokens).await;
    assert!(works(&tokens, &token).await);
    assert!(tokens.revoke(&Actor::System, &row.id).now_or_never().is_none(), "it is on its way to the writer");
    // Whatever was on its way before this is done when this is.
    store.write(|_| Ok(())).await.unwrap();
    assert!(!works(&tokens, &token).await);
}

/// Another node whose hint was lost, or a hand in the database.
#[tokio::test(start_paused = true)]
async fn what_nobody_announced_is_known_within_a_second() {
    let house = house();
    let (store, ambient, _, _) = open_store(&house);
    let tokens = Tokens::new(store.clone(), ambient);
    let (token, row) = made(&tokens).await;
    assert!(works(&tokens, &token).await);
    revoke_behind_its_back(&store, &row.id).await;
    advance(REMEMBERED_FOR).await;
    assert!(!works(&tokens, &token).await);
}
