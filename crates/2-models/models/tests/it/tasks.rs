//! Calls of an agent at work on a task: steps of it, asked once over all of its attempts.

use std::{sync::Arc, time::Duration};

use agentos_authority::{Caller, GrantSet, Party};
use agentos_models::{Operation, Reply};
use agentos_router::Kind;
use agentos_store::Arg;
use agentos_tasks::NewTask;
use agentos_types::{Actor, Category, Grant, TaskId};
use serde_json::{Value, json};

use super::{
    house::{House, answer, header, hello, streamed, target, whole},
    provider::{Piece, Play, Provider},
    streams::chunk,
};

struct Agent {
    party: Party,
    task: TaskId,
}

/// An agent with one task in its hands.
async fn agent(house: &House) -> Agent {
    house
        .store
        .write(|tx| {
            tx.execute(
                "INSERT INTO agent (name, version, manifest_sha256, signed_by, state, desired, deployed_at, state_since)
                 VALUES ($1, '1.0.0', '00', 'key', 'running', 'running', 0, 0)",
                &[Arg::Text("a")],
            )
        })
        .await
        .unwrap();
    let new = NewTask::new("a".parse().unwrap(), json!({}));
    house.tasks.submit(&Actor::System, new).await.unwrap();
    let grant = Grant { category: Category::Model, actions: vec!["call".into()], resources: vec!["fast".into()] };
    let party = Party::Agent(Caller {
        agent: "a".parse().unwrap(),
        instance: house.ambient.instance_id(),
        grants: Arc::new(GrantSet::compile(&[grant]).unwrap()),
        calls_per_minute: 100,
    });
    Agent { party, task: take(house).await }
}

async fn take(house: &House) -> TaskId {
    house.tasks.claim(&"a".parse().unwrap(), 1).await.unwrap().remove(0).lease.task
}

async fn ask(house: &House, agent: &Agent, body: &Value) -> Reply {
    let call = house.call(Operation::Chat, &body.to_string());
    house.run_as(&agent.party, Some(&agent.task), call).await
}

/// The server died and came back: the task is at work again.
async fn crash(house: &House) {
    house.tasks.recover().await.unwrap();
    // Past whatever is waited before another attempt.
    house.clock.advance(Duration::from_secs(3_600));
    take(house).await;
}

#[tokio::test]
async fn an_answer_of_the_journal_is_never_asked_for_again() {
    let other = answer().replace("\"hi\"", "\"ho\"");
    let plays = vec![Play::Whole(200, "", answer()), Play::Whole(200, "", other.clone())];
    let provider = Provider::start(plays).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let agent = agent(&house).await;
    assert_eq!(whole(ask(&house, &agent, &hello(false)).await), answer());
    assert_eq!(
        whole(ask(&house, &agent, &hello(false)).await),
        other,
        "the same question is asked twice in one attempt"
    );
    crash(&house).await;
    let again = ask(&house, &agent, &hello(false)).await;
    assert_eq!((again.status, header(&again, "x-agent-os-replayed")), (200, Some("journal")));
    assert_eq!(whole(again), answer());
    assert_eq!(whole(ask(&house, &agent, &hello(false)).await), other);
    assert_eq!(provider.got().len(), 2);
    let steps = house.tasks.steps(&agent.task).await.unwrap();
    let keys: Vec<&str> = steps.iter().map(|step| step.key.as_str()).collect();
    assert!(keys[0].starts_with("model-") && keys[0].ends_with("-1") && keys[1].ends_with("-2"), "{keys:?}");
    assert_eq!(keys[0].len(), "model-".len() + 16 + "-1".len());
}

#[tokio::test]
async fn a_stream_of_the_journal_is_given_again_whole_and_a_broken_one_is_asked_for_again() {
    let sent = [chunk("hi").as_str(), "data: [DONE]\n\n"].concat();
    let broken = Play::Events(vec![Piece::Bytes(chunk("h")), Piece::Cut]);
    let provider = Provider::start(vec![broken, Play::Events(vec![Piece::Bytes(sent.clone())])]).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let agent = agent(&house).await;
    assert!(streamed(ask(&house, &agent, &hello(true)).await).await.contains("\"error\""));
    crash(&house).await;
    assert!(streamed(ask(&house, &agent, &hello(true)).await).await.ends_with("data: [DONE]\n\n"));
    crash(&house).await;
    let again = ask(&house, &agent, &hello(true)).await;
    assert_eq!(header(&again, "content-type"), Some("text/event-stream"));
    assert_eq!(whole(again), sent);
    assert_eq!(provider.got().len(), 2);
}

#[tokio::test]
async fn an_answer_too_large_to_keep_is_not_asked_for_twice_and_the_agent_is_told() {
    let mut large: Value = serde_json::from_str(&answer()).unwrap();
    large["choices"][0]["message"]["content"] = json!("x".repeat(1_200_000));
    let provider = Provider::start(vec![Play::Whole(200, "", large.to_string())]).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let agent = agent(&house).await;
    assert_eq!(ask(&house, &agent, &hello(false)).await.status, 200);
    crash(&house).await;
    let again = ask(&house, &agent, &hello(false)).await;
    assert_eq!(again.status, 409);
    assert!(whole(again).contains("AOS-2034"));
    assert_eq!(provider.got().len(), 1);
}

#[tokio::test]
async fn a_call_without_an_answer_is_a_step_that_failed_and_may_be_asked_again() {
    let plays = vec![Play::Whole(500, "", "{}".into()), Play::Whole(200, "", answer())];
    let provider = Provider::start(plays).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let agent = agent(&house).await;
    assert_eq!(ask(&house, &agent, &hello(false)).await.status, 502);
    assert_eq!(house.tasks.steps(&agent.task).await.unwrap()[0].status, "failed");
    crash(&house).await;
    assert_eq!(ask(&house, &agent, &hello(false)).await.status, 200);
}

#[tokio::test]
async fn who_has_no_grant_and_whose_task_is_gone_reaches_no_provider() {
    let provider = Provider::start(Vec::new()).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let agent = agent(&house).await;
    let mut other = hello(false);
    other["model"] = json!("slow");
    assert_eq!(ask(&house, &agent, &other).await.status, 403);
    house.tasks.recover().await.unwrap();
    let gone = ask(&house, &agent, &hello(false)).await;
    assert!(gone.status >= 400, "{}", gone.status);
    assert!(provider.got().is_empty());
}
