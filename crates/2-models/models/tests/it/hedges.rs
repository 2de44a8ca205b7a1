//! A second provider beside a slow one: who wins, what the other one costs, and when nobody is asked twice.

use std::{sync::Arc, time::Duration};

use agentos_models::{Operation, Reply};
use agentos_router::{Kind, Target};
use agentos_types::budget::BudgetUnit::NanoUsd;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    hard::until,
    house::{House, answer, header, hello, streamed, target, whole},
    provider::{Piece, Play, Provider},
    streams::{DONE, chunk, finish, pieces, usage},
};

/// Two targets, the first of which is slow after a millisecond.
async fn two(first: Play, second: Play) -> (House, Provider, Provider) {
    two_with(first, second, |_| {}).await
}

async fn two_with(first: Play, second: Play, change: impl Fn(&mut Target)) -> (House, Provider, Provider) {
    let (slow, other) = (Provider::start(vec![first]).await, Provider::start(vec![second]).await);
    let mut targets = [target(Kind::Openai, &slow), target(Kind::OpenaiCompatible, &other)];
    targets[0].hedge_after = Some(Duration::from_millis(1));
    targets[1].attempt = 2;
    targets.iter_mut().for_each(change);
    let house = House::new(targets.to_vec()).await;
    house.budget(NanoUsd, 10_000_000).await;
    (house, slow, other)
}

/// What holds after every call: nothing is held, and what the record says was booked.
async fn settled(house: &House) -> (i64, Value) {
    until(|| house.records().len() == 2).await;
    let ((used, reserved), outcome) = (house.stands().await, house.outcome().await);
    assert_eq!((json!(used), reserved), (outcome["nano_usd"].clone(), 0), "{outcome}");
    (used, outcome)
}

fn reports(house: &House) -> Vec<String> {
    house.reports.lock().unwrap().clone()
}

fn told(reply: &Reply) -> (u16, Option<&str>, Option<&str>, Option<&str>) {
    let header = |name| header(reply, name);
    (reply.status, header("x-agent-os-target"), header("x-agent-os-attempts"), header("x-agent-os-hedges"))
}

#[tokio::test]
async fn the_second_wins_and_the_first_is_stopped_at_once_and_counts_as_all_that_it_held() {
    let (house, slow, _other) = two(Play::Silence, Play::Whole(200, "", answer())).await;
    let reply = house.chat(hello(false)).await;
    assert_eq!(told(&reply), (200, Some("openai-compatible/m1"), Some("2"), Some("1")));
    assert_eq!(whole(reply), answer());
    slow.left().await;
    let (used, outcome) = settled(&house).await;
    assert_eq!((&outcome["hedges"], &outcome["attempts"]), (&json!(1), &json!(2)));
    assert_eq!((&outcome["target"], &outcome["estimated"]), (&json!("openai-compatible/m1"), &json!(true)));
    // One that answers as a whole may write to the end and bill it: its fifty tokens are in it, and more than a hundred bytes.
    assert!(used >= 110 + 50 * 20 + 100 * 10, "{used}");
    assert_eq!(reports(&house), ["nothing", "answered"]);
}

#[tokio::test]
async fn the_first_wins_after_all_and_the_second_is_stopped_at_once() {
    let gate = Arc::new(Notify::new());
    let late = Play::After(gate.clone(), Box::new(Play::Whole(200, "", answer())));
    let (house, _slow, other) = two(late, Play::Silence).await;
    let release = async {
        until(|| other.got().len() == 1).await;
        gate.notify_one();
    };
    let (reply, ()) = tokio::join!(house.chat(hello(false)), release);
    assert_eq!(told(&reply), (200, Some("openai/m1"), Some("2"), Some("1")));
    other.left().await;
    let (used, outcome) = settled(&house).await;
    assert_eq!((&outcome["hedges"], &outcome["target"]), (&json!(1), &json!("openai/m1")));
    assert!(used > 110, "the loser is billed too: {used}");
    assert_eq!(reports(&house), ["nothing", "answered"]);
}

#[tokio::test]
async fn a_stream_that_loses_costs_what_was_read_and_nothing_of_it_is_delivered() {
    let sent = [chunk("h").as_str(), &finish(), &usage(), DONE].concat();
    let (house, slow, _other) = two(Play::Events(vec![Piece::Stall]), Play::Events(pieces(&[&sent]))).await;
    let text = streamed(house.chat(hello(true)).await).await;
    assert!(text.starts_with(&chunk("h")) && text.ends_with(DONE), "{text}");
    slow.left().await;
    let (used, outcome) = settled(&house).await;
    assert_eq!((&outcome["tokens_output"], &outcome["estimated"]), (&json!(2), &json!(true)));
    let read = outcome["tokens_input"].as_i64().unwrap() - 7;
    assert!(read >= 64, "by our count: {read}");
    assert_eq!(used, 110 + read * 10);
}

#[tokio::test]
async fn one_of_two_fails_and_the_other_answers() {
    let failed = || Play::Whole(500, "", "oops".into());
    // The second fails while the first is slow.
    let gate = Arc::new(Notify::new());
    let late = Play::After(gate.clone(), Box::new(Play::Whole(200, "", answer())));
    let (house, ..) = two(late, failed()).await;
    let release = async {
        until(|| reports(&house) == ["server"]).await;
        gate.notify_one();
    };
    let (reply, ()) = tokio::join!(house.chat(hello(false)), release);
    assert_eq!(told(&reply), (200, Some("openai/m1"), Some("2"), Some("1")));
    assert_eq!((settled(&house).await.0, reports(&house)), (110, vec!["server".into(), "answered".to_owned()]));
    // The first fails while the second is under way.
    let (early, late) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let second = Play::After(late.clone(), Box::new(Play::Whole(200, "", answer())));
    let (house, _slow, other) = two(Play::After(early.clone(), Box::new(failed())), second).await;
    let release = async {
        until(|| other.got().len() == 1).await;
        early.notify_one();
        until(|| reports(&house) == ["server"]).await;
        late.notify_one();
    };
    let (reply, ()) = tokio::join!(house.chat(hello(false)), release);
    assert_eq!(told(&reply), (200, Some("openai-compatible/m1"), Some("2"), Some("1")));
    assert_eq!(settled(&house).await.0, 110);
}

#[tokio::test]
async fn both_fail_and_the_client_is_told_once() {
    let gate = Arc::new(Notify::new());
    let (house, _slow, other) = two(
        Play::After(gate.clone(), Box::new(Play::Whole(500, "", "one".into()))),
        Play::Whole(503, "", "two".into()),
    )
    .await;
    let release = async {
        until(|| other.got().len() == 1).await;
        gate.notify_one();
    };
    let (reply, ()) = tokio::join!(house.chat(hello(false)), release);
    assert_eq!((reply.status, header(&reply, "x-agent-os-attempts")), (502, Some("2")));
    let (used, outcome) = settled(&house).await;
    assert_eq!((used, &outcome["end"], &outcome["class"]), (0, &json!("failed"), &json!("server")));
}

#[tokio::test]
async fn a_budget_that_has_no_room_for_two_still_pays_for_one() {
    let gate = Arc::new(Notify::new());
    let late = Play::After(gate.clone(), Box::new(Play::Whole(200, "", answer())));
    let (house, _slow, other) = two(late, Play::Silence).await;
    house.budget(NanoUsd, 4_000).await;
    let release = async {
        until(|| reports(&house) == ["nothing"]).await;
        gate.notify_one();
    };
    let (reply, ()) = tokio::join!(house.chat(hello(false)), release);
    assert_eq!(reply.status, 200);
    assert!(other.got().is_empty(), "what does not fit is not sent");
    assert_eq!(settled(&house).await.0, 110);
}

#[tokio::test]
async fn a_connection_that_never_came_about_costs_nothing() {
    // It accepts nobody: the queue of the listener takes the connection, and TLS is never answered.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let (house, ..) = two_with(Play::Silence, Play::Whole(200, "", answer()), |target| {
        if target.hedge_after.is_some() {
            target.base_url = format!("https://{address}/v1");
        }
    })
    .await;
    assert_eq!(house.chat(hello(false)).await.status, 200);
    let (used, outcome) = settled(&house).await;
    assert_eq!((used, &outcome["estimated"]), (110, &json!(false)));
}

#[tokio::test]
async fn what_does_more_than_cost_is_never_asked_twice() {
    let stored = json!({"model": "fast", "input": "x", "max_output_tokens": 50});
    let mut searching = hello(false);
    searching["web_search_options"] = json!({});
    let mut kept = hello(false);
    kept["store"] = json!(true);
    for (operation, body) in [(Operation::Responses, stored), (Operation::Chat, searching), (Operation::Chat, kept)] {
        let (house, slow, other) = two_with(Play::Silence, Play::Silence, |target| {
            target.protocol = operation.protocol();
            target.waits.whole = Duration::from_millis(100);
            target.hedge_after = target.hedge_after.map(|_| Duration::ZERO);
        })
        .await;
        let reply = house.ask(operation, &body.to_string()).await;
        assert_eq!((reply.status, header(&reply, "x-agent-os-hedges")), (504, None), "{body}");
        // One after the other, by the failure of the first.
        assert_eq!((slow.got().len(), other.got().len()), (1, 1));
        assert_eq!(reports(&house), ["timeout", "timeout"], "{body}");
    }
}

#[tokio::test]
async fn by_any_seed_one_answer_is_given_and_all_is_settled() {
    let sent = [chunk("h").as_str(), &finish(), &usage(), DONE].concat();
    let good = |is_stream: bool| match is_stream {
        true => Play::Events(pieces(&[&sent])),
        false => Play::Whole(200, "", answer()),
    };
    for seed in 0..24_u32 {
        let is_stream = seed % 2 == 1;
        let play = |draw: u32| match draw % 4 {
            0 => good(is_stream),
            1 => Play::Whole(503, "", "no".into()),
            2 => Play::Hangup,
            _ => Play::Silence,
        };
        let (first, second) = (seed / 2 % 4, (seed / 2).wrapping_mul(7) / 4 % 4);
        let (house, ..) = two_with(play(first), play(second), |target| {
            target.waits.whole = Duration::from_millis(300);
            target.waits.first_byte = Duration::from_millis(300);
        })
        .await;
        let reply = house.chat(hello(is_stream)).await;
        let shown = format!("seed {seed}: {first} {second}");
        assert_eq!(reply.status == 200, first == 0 || second == 0, "{shown}");
        if reply.status == 200 {
            let is_right = match is_stream {
                true => streamed(reply).await.matches(&chunk("h")).count() == 1,
                false => whole(reply) == answer(),
            };
            assert!(is_right, "{shown}");
        }
        let (_, outcome) = settled(&house).await;
        assert!(outcome["attempts"].as_u64().unwrap() <= 2, "{shown}: {outcome}");
    }
}
