//! Events are published once per dedupe key; schedules wake nobody but the agent that made them.

use agentos_types::task::TaskEvent;
use serde_json::json;

use crate::{house::House, server::Server};

fn published(events: &[TaskEvent]) -> usize {
    events.iter().filter(|event| event.kind == "notify").count()
}

#[tokio::test]
async fn an_event_with_a_dedupe_key_is_published_once_across_tasks() {
    let server = Server::saying("").await;
    let house = House::open(&server).await;
    let grants = [["notify", "event", "event:watch.*"]];
    let first = house.worker("a", &grants).await;
    let event = |key: Option<&str>| json!({"kind": "watch.changed", "data": {"n": 1}, "dedupe_key": key});
    let yes = json!({"published": true});
    let no = json!({"published": false});
    assert_eq!(house.call(&first, "one", "notify.event", event(Some("v1"))).await.unwrap(), yes);
    assert_eq!(house.call(&first, "two", "notify.event", event(Some("v1"))).await.unwrap(), no);
    // A replay says what was said, and publishes nothing.
    let next = house.crash(&first).await;
    assert_eq!(house.call(&next, "one", "notify.event", event(Some("v1"))).await.unwrap(), yes);
    let other = house.claim(&first.caller).await;
    assert_eq!(house.call(&other, "one", "notify.event", event(Some("v1"))).await.unwrap(), no);
    assert_eq!(house.call(&other, "two", "notify.event", event(Some("v2"))).await.unwrap(), yes);
    assert_eq!(house.call(&other, "three", "notify.event", event(None)).await.unwrap(), yes);
    assert_eq!(house.call(&other, "four", "notify.event", event(None)).await.unwrap(), yes);
    // Another agent's keys are its own.
    let stranger = house.worker("b", &grants).await;
    assert_eq!(house.call(&stranger, "one", "notify.event", event(Some("v1"))).await.unwrap(), yes);

    assert_eq!(published(&house.events(&first).await), 1);
    assert_eq!(published(&house.events(&other).await), 3);
    assert_eq!(house.number("SELECT count(*) FROM notification WHERE agent = 'a'").await, 4);
    house.verified().await;
}

#[tokio::test]
async fn a_schedule_wakes_its_maker_and_nobody_else() {
    let server = Server::saying("").await;
    let house = House::open(&server).await;
    let grants = [["schedule", "read", "self"], ["schedule", "write", "self"]];
    let (one, two) = (house.worker("one", &grants).await, house.worker("two", &grants).await);
    let put = |every_s: u64| json!({"name": "look", "cadence": {"kind": "interval", "every_s": every_s}, "input": {"n": every_s}});
    house.call(&one, "put", "schedule.put", put(60)).await.unwrap();
    house.call(&two, "put", "schedule.put", put(90)).await.unwrap();
    let listed = house.call(&one, "list", "schedule.list", json!({})).await.unwrap();
    assert_eq!(listed["schedules"].as_array().unwrap().len(), 1);
    assert_eq!(listed["schedules"][0]["cadence"]["every_s"], 60);
    // No argument names another target.
    let aimed = json!({"name": "x", "agent": "two", "cadence": {"kind": "interval", "every_s": 60}, "input": {}});
    let outcome = house.call(&one, "aimed", "schedule.put", aimed).await;
    house.refused(outcome, agentos_types::Code::SYSCALL_INVALID);

    house.clock.advance(std::time::Duration::from_secs(61));
    house.tasks.fire_due().await.unwrap();
    let woken = house.take(&one.caller).await;
    let task = house.tasks.get(&woken.lease.task).await.unwrap();
    assert_eq!((task.agent.as_str(), task.input), ("one", json!({"n": 60})));
    assert!(house.tasks.claim(&two.caller.agent, 1).await.unwrap().is_empty());

    assert_eq!(
        house.call(&two, "delete", "schedule.delete", json!({"name": "look"})).await.unwrap(),
        json!({"existed": true})
    );
    let listed = house.call(&one, "list again", "schedule.list", json!({})).await.unwrap();
    assert_eq!(listed["schedules"].as_array().unwrap().len(), 1, "the other agent's schedule of the same name stays");
    house.verified().await;
}
