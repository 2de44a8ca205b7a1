//! Tokens on a real store: what is refused, and that nothing usable lies on disk.

use std::time::Duration;

use agentos_identity::{NewToken, OVERLAP_MAX, Rotation, Tokens};
use agentos_types::{Actor, Code, Role, Scope, Timestamp};

use super::house::{house, open, open_store, open_with_log};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn a_token_works_until_it_expires_or_is_revoked() {
    let house = house();
    let (tokens, clock) = open(&house);
    let short = NewToken { life: Some(HOUR), ..NewToken::of_scopes("short", &[Scope::Read]) };
    let (short, _) = tokens.create(&Actor::System, short).await.unwrap();
    let long = NewToken::of_scopes("long", &[Scope::Read, Scope::Tasks]);
    let (long, row) = tokens.create(&Actor::System, long).await.unwrap();
    let seen = tokens.authenticate(long.expose()).await.unwrap().unwrap();
    assert_eq!((seen.name.as_str(), seen.scopes), ("long", vec![Scope::Tasks, Scope::Read]));
    clock.advance(HOUR);
    assert_eq!(tokens.authenticate(short.expose()).await.unwrap(), None, "expired");
    assert!(tokens.authenticate(long.expose()).await.unwrap().is_some());
    tokens.revoke(&Actor::System, &row.id).await.unwrap();
    assert_eq!(tokens.authenticate(long.expose()).await.unwrap(), None, "revoked");
    assert_eq!(tokens.list().await.unwrap().len(), 2);
}

/// An expiry is an instant of the calendar: it means what the clock says, whichever way that was set.
#[tokio::test]
async fn a_clock_that_is_set_moves_no_expiry() {
    let house = house();
    let (tokens, clock) = open(&house);
    let new = NewToken { life: Some(HOUR), ..NewToken::of_scopes("short", &[Scope::Read]) };
    let (token, row) = tokens.create(&Actor::System, new).await.unwrap();
    let end = row.expires_at.unwrap();
    for (now, works) in [(end.after(2 * HOUR), false), (end.before(2 * HOUR), true), (end, false)] {
        clock.set(now);
        assert_eq!(tokens.authenticate(token.expose()).await.unwrap().is_some(), works, "{now}");
    }
    tokens.revoke(&Actor::System, &row.id).await.unwrap();
    clock.set(end.before(2 * HOUR));
    assert_eq!(tokens.authenticate(token.expose()).await.unwrap(), None, "what was revoked stays so");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let house = house();
    let (tokens, _) = open(&house);
    let agents = |count: usize| (0..count).map(|number| format!("a{number}").parse().unwrap()).collect::<Vec<_>>();
    let caller = NewToken::of_role("a", Role::AgentCaller);
    let models = NewToken::of_role("a", Role::ModelCaller);
    for new in [
        NewToken::of_scopes("", &[Scope::Read]),
        NewToken::of_scopes("a\n", &[Scope::Read]),
        NewToken::of_scopes("a", &[]),
        NewToken { life: Some(400 * DAY), ..NewToken::of_role("a", Role::Viewer) },
        NewToken { life: Some(Duration::ZERO), ..NewToken::of_role("a", Role::Viewer) },
        caller.clone(),
        NewToken { agents: agents(101), ..caller.clone() },
        NewToken { agents: agents(1), ..NewToken::of_role("a", Role::Admin) },
        NewToken { models: vec!["fast".into()], ..NewToken::of_role("a", Role::Admin) },
        NewToken { models: vec!["a b".into()], ..models.clone() },
        NewToken { models: vec![String::new()], ..models.clone() },
        NewToken { models: vec!["m".into(); 101], ..models.clone() },
    ] {
        let refused = tokens.create(&Actor::System, new.clone()).await.unwrap_err();
        assert_eq!(refused.code, Code::BODY_INVALID, "{new:?}");
    }
    assert_eq!(NewToken::asked("a", Some(Role::Viewer), &[Scope::Read]).unwrap_err().code, Code::BODY_INVALID);
    let (token, row) = tokens.create(&Actor::System, NewToken { agents: agents(100), ..caller }).await.unwrap();
    assert_eq!(tokens.authenticate(token.expose()).await.unwrap(), Some(row), "what is stored is what was asked for");
    let two = NewToken { models: vec!["fast".into(), "openai/*".into()], ..models };
    let (token, row) = tokens.create(&Actor::System, two).await.unwrap();
    assert_eq!(tokens.authenticate(token.expose()).await.unwrap(), Some(row.clone()));
    let (_, successor) = tokens.rotate(&Actor::System, &row.id, Rotation::default()).await.unwrap();
    assert_eq!((row.models.len(), successor.models), (2, row.models), "a successor is bound as its predecessor was");
    for guess in ["", "aos_", "aos_AAAA_000000", "' OR 1=1 --"] {
        assert_eq!(tokens.authenticate(guess).await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_token_itself_is_stored_nowhere() {
    let house = house();
    let (tokens, _) = open(&house);
    let (token, _) = tokens.create(&Actor::System, NewToken::of_role("a", Role::Admin)).await.unwrap();
    drop(tokens);
    let needle = token.expose().as_bytes();
    let lies = house.bytes_at_rest().windows(needle.len()).any(|window| window == needle);
    assert!(!lies, "the token lies on disk");
}

#[tokio::test]
async fn a_role_gives_its_scopes_and_is_remembered() {
    let house = house();
    let (tokens, _) = open(&house);
    for role in Role::ALL {
        let agents = if role == Role::AgentCaller { vec!["echo".parse().unwrap()] } else { Vec::new() };
        let new = NewToken { agents, ..NewToken::asked("a", Some(role), &[]).unwrap() };
        let (token, row) = tokens.create(&Actor::System, new).await.unwrap();
        let seen = tokens.authenticate(token.expose()).await.unwrap().unwrap();
        assert_eq!((seen.role, &seen.scopes[..]), (Some(role), role.scopes()));
        assert_eq!((&seen, &seen.family), (&row, &row.id), "a new token begins its own line");
    }
}

#[tokio::test]
async fn a_rotated_token_works_within_the_overlap_and_not_after() {
    let house = house();
    let (tokens, clock, log) = open_with_log(&house);
    let (old, row) = tokens.create(&Actor::System, NewToken::of_role("ci", Role::Operator)).await.unwrap();
    clock.advance(DAY);
    let (new, successor) = tokens.rotate(&Actor::System, &row.id, Rotation::default()).await.unwrap();
    assert_eq!((&successor.name, successor.role, &successor.scopes), (&row.name, row.role, &row.scopes));
    assert_eq!((&successor.family, successor.id == row.id), (&row.id, false));
    let life = |row: &agentos_identity::TokenRow| row.expires_at.unwrap().since(row.created_at);
    assert_eq!(life(&successor), life(&row), "the successor lives as long as the old one would have");
    let works = async |text: &str| tokens.authenticate(text).await.unwrap().is_some();
    assert!(works(old.expose()).await && works(new.expose()).await);
    clock.advance(HOUR - Duration::from_micros(1));
    assert!(works(old.expose()).await, "the last moment of the overlap");
    clock.advance(Duration::from_micros(1));
    assert!(!works(old.expose()).await, "the overlap is over");
    assert!(works(new.expose()).await);
    let recorded = log.0.lock().unwrap().clone();
    assert_eq!(recorded.last(), Some(&("token.rotate".to_owned(), row.id.to_string())));
}

#[tokio::test]
async fn an_overlap_never_lengthens_a_life_and_may_be_nothing() {
    let house = house();
    let (tokens, clock) = open(&house);
    let new = NewToken { life: Some(HOUR), ..NewToken::of_role("a", Role::Viewer) };
    let (old, row) = tokens.create(&Actor::System, new).await.unwrap();
    clock.advance(HOUR / 2);
    let rotation = Rotation { overlap: DAY, life: Some(2 * DAY) };
    let (successor, next) = tokens.rotate(&Actor::System, &row.id, rotation).await.unwrap();
    clock.advance(HOUR / 2);
    assert_eq!(tokens.authenticate(old.expose()).await.unwrap(), None, "its own end came first");
    assert!(tokens.authenticate(successor.expose()).await.unwrap().is_some());
    let at_once = Rotation { overlap: Duration::ZERO, life: None };
    let (last, _) = tokens.rotate(&Actor::System, &next.id, at_once).await.unwrap();
    assert_eq!(tokens.authenticate(successor.expose()).await.unwrap(), None, "replaced at once");
    let seen = tokens.authenticate(last.expose()).await.unwrap().unwrap();
    assert_eq!((&seen.family, seen.expires_at.unwrap().since(seen.created_at)), (&row.id, 2 * DAY));
}

#[tokio::test]
async fn only_the_living_end_of_a_line_is_rotated() {
    let house = house();
    let (tokens, clock) = open(&house);
    let refused = async |id: &agentos_types::TokenId, rotation: Rotation| {
        tokens.rotate(&Actor::System, id, rotation).await.unwrap_err().code
    };
    let (_, first) = tokens.create(&Actor::System, NewToken::of_role("a", Role::Viewer)).await.unwrap();
    let too_long = Rotation { overlap: OVERLAP_MAX + Duration::from_secs(1), life: None };
    assert_eq!(refused(&first.id, too_long).await, Code::BODY_INVALID);
    assert_eq!(refused(&first.id, Rotation { life: Some(400 * DAY), ..Rotation::default() }).await, Code::BODY_INVALID);
    clock.advance(DAY);
    let (_, second) = tokens.rotate(&Actor::System, &first.id, Rotation::default()).await.unwrap();
    assert_eq!(refused(&first.id, Rotation::default()).await, Code::TOKEN_ENDED, "it has a living successor");
    // The successor was lost before anybody used it.
    tokens.revoke(&Actor::System, &second.id).await.unwrap();
    assert_eq!(refused(&second.id, Rotation::default()).await, Code::TOKEN_ENDED, "revoked");
    assert!(tokens.rotate(&Actor::System, &first.id, Rotation::default()).await.is_ok());
    clock.advance(HOUR);
    assert_eq!(refused(&first.id, Rotation::default()).await, Code::TOKEN_ENDED, "expired");
    let unknown = "tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E".parse().unwrap();
    assert_eq!(refused(&unknown, Rotation::default()).await, Code::TOKEN_NOT_FOUND);
}

#[tokio::test]
async fn ended_tokens_go_when_their_time_is_over_and_others_stay() {
    let house = house();
    let (store, ambient, clock, _) = open_store(&house);
    let actor = Actor::System;
    let tokens = Tokens::new(store.clone(), ambient);
    let short = NewToken { life: Some(HOUR), ..NewToken::of_role("short", Role::Viewer) };
    tokens.create(&actor, short).await.unwrap();
    let (_, revoked) = tokens.create(&actor, NewToken::of_role("revoked", Role::Viewer)).await.unwrap();
    tokens.revoke(&actor, &revoked.id).await.unwrap();
    let year = NewToken { life: Some(366 * DAY), ..NewToken::of_role("kept", Role::Admin) };
    let (_, old) = tokens.create(&actor, year).await.unwrap();
    let (kept, successor) = tokens.rotate(&actor, &old.id, Rotation::default()).await.unwrap();
    let prune = async |before: Timestamp, rows_max: i64| {
        let count = store.read(move |conn| agentos_identity::count_ended(conn, before)).await.unwrap();
        let taken = store.write(move |tx| agentos_identity::prune_ended(tx, before, rows_max)).await.unwrap();
        (count, taken)
    };
    let start = Timestamp::from_millis(5);
    assert_eq!(prune(start, 10).await, (0, 0), "none had ended");
    clock.advance(DAY);
    assert_eq!(prune(start.after(DAY), 2).await, (3, 2), "no more at once than asked for");
    assert_eq!(prune(start.after(DAY), 2).await, (1, 1));
    assert_eq!(tokens.list().await.unwrap(), [successor], "the line goes on without its first token");
    assert!(tokens.authenticate(kept.expose()).await.unwrap().is_some());
}
