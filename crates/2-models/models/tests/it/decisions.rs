//! How a target was chosen is kept with its call, and is chosen again by it.

use std::time::Duration;

use agentos_models::{KeptDecision, Operation, Reply, decision_of};
use agentos_monitor::ModelStart;
use agentos_router::{Act, Stop, replay};
use agentos_types::{RequestId, budget::BudgetUnit::NanoUsd};

use super::BACKEND;
use crate::{
    house::{House, answer, header, hello},
    provider::{Play, Provider},
};

fn document(first: &Provider, second: &Provider, more: &str) -> String {
    format!(
        "{more}\n[providers.one]\nkind = \"openai-compatible\"\nbase_url = \"http://{}/v1\"\n\
         [providers.two]\nkind = \"openai-compatible\"\nbase_url = \"http://{}/v1\"\n\
         [routes.fast]\ntargets = [{{ model = \"one/m\" }}, {{ model = \"two/m\" }}]\n",
        first.address, second.address
    )
}

async fn kept(house: &House, reply: &Reply) -> Option<KeptDecision> {
    let id: RequestId = header(reply, "x-agent-os-request-id").unwrap().parse().unwrap();
    // Whatever there is to be kept has been by then.
    house.background.stop(Duration::from_secs(60)).await;
    house.store.read(move |conn| decision_of(conn, &id)).await.unwrap()
}

#[tokio::test]
async fn each_choice_of_a_call_is_kept_and_made_again() {
    let first = Provider::start(vec![Play::Hangup, Play::Hangup, Play::Whole(200, "", answer())]).await;
    let second = Provider::start(vec![Play::Whole(200, "", answer())]).await;
    let house = House::routed(BACKEND, &document(&first, &second, "")).await;
    let reply = house.chat(hello(false)).await;
    assert_eq!((reply.status, header(&reply, "x-agent-os-target")), (200, Some("two/m")));
    let found = kept(&house, &reply).await.unwrap();
    assert_eq!((found.node.as_str(), found.record.model.as_str()), ("a", "fast"));
    let attempts: usize = header(&reply, "x-agent-os-attempts").unwrap().parse().unwrap();
    assert_eq!(found.record.steps.len(), attempts);
    replay(&found.record).unwrap();
    let text = found.record.to_string();
    assert!(text.contains("one/m failed:") && text.contains("two/m: chosen"), "{text}");
    let mut forged = found.record.clone();
    forged.steps[0].act = Act::Stop(Stop::Exhausted);
    assert_eq!(replay(&forged).unwrap_err().step, 0);

    let old = house.ambient.now();
    house.clock.advance(Duration::from_secs(1));
    let before = house.ambient.now();
    assert!(house.store.read(move |conn| agentos_models::count_old_decisions(conn, old)).await.unwrap() == 0);
    assert_eq!(house.store.write(move |tx| agentos_models::prune_old_decisions(tx, before, 10)).await.unwrap(), 1);
    assert!(kept(&house, &reply).await.is_none());
}

#[tokio::test]
async fn a_call_that_nobody_answered_tells_why_and_one_that_asked_nobody_has_none() {
    let first = Provider::always(Play::Whole(400, "", "{\"error\":{\"message\":\"no\"}}".into())).await;
    let second = Provider::start(Vec::new()).await;
    let house = House::routed(BACKEND, &document(&first, &second, "")).await;
    let reply = house.chat(hello(false)).await;
    assert_eq!(reply.status, 400);
    let found = kept(&house, &reply).await.unwrap();
    assert_eq!(found.record.steps.last().unwrap().act, Act::Stop(Stop::Final));
    replay(&found.record).unwrap();
    // Nobody knows what these cost.
    house.budget(NanoUsd, 1_000).await;
    let refused = house.chat(hello(false)).await;
    assert_eq!(refused.status, 402);
    let found = kept(&house, &refused).await.unwrap();
    assert_eq!(found.record.steps[0].act, Act::Stop(Stop::NotCapable));
    assert!(found.record.to_string().contains("one/m: not possible: a budget applies"), "{}", found.record);
    let unknown = house.ask(Operation::Chat, "{\"model\":\"nobody\",\"messages\":[]}").await;
    assert_eq!(unknown.status, 404);
    assert!(kept(&house, &unknown).await.is_none());
}

#[tokio::test]
async fn places_go_on_after_a_restart_and_each_node_has_its_own() {
    let provider = Provider::always(Play::Whole(200, "", answer())).await;
    let house = House::routed(BACKEND, &document(&provider, &provider, "")).await;
    let engines = [house.engine.clone(), house.other_engine("a"), house.other_engine("b")];
    for engine in &engines {
        let call = house.call(Operation::Chat, &hello(false).to_string());
        let ModelStart::Go(pass) = house.monitor.model(&house.party, None, call).await.unwrap() else { panic!() };
        assert_eq!(engine.run(pass).await.status, 200);
        house.background.stop(Duration::from_secs(60)).await;
        house.clock.advance(Duration::from_secs(1));
    }
    let places = house.store.read(|conn| {
        conn.query("SELECT node, slot FROM model_decision ORDER BY node, slot", &[], |row| {
            Ok((row.text(0)?, row.integer(1)?))
        })
    });
    assert_eq!(places.await.unwrap(), [("a".into(), 0), ("a".into(), 1), ("b".into(), 0)]);
}

#[tokio::test]
async fn an_operator_who_wants_none_has_none() {
    let provider = Provider::always(Play::Whole(200, "", answer())).await;
    let house = House::routed(BACKEND, &document(&provider, &provider, "decisions = \"drop\"")).await;
    let reply = house.chat(hello(false)).await;
    assert_eq!(reply.status, 200);
    assert!(kept(&house, &reply).await.is_none());
}
