//! Killed at every call, in every way, with every kind of recovery: one event a change, none lost, and it converges.

use std::collections::BTreeSet;

use agentos_sdk::{Code, ErrorClass, Value, json};

use super::fake::{DEATHS, Death, World, failing};

pub const URL: &str = "https://shop.test/pricing";

/// A watch with a webhook that has seen page "A".
pub fn watched() -> World {
    let world = World::default();
    world.page(URL, "<p>A</p>");
    let added = world.run(1, add()).unwrap();
    assert_eq!(added["outcome"], "added");
    world
}

pub fn add() -> Value {
    json!({
        "action": "add", "name": "pricing", "url": URL, "every_s": 60,
        "webhook": {"url": "https://hooks.test/x", "secret": "hook"},
    })
}

pub fn check() -> Value {
    json!({"action": "check", "name": "pricing", "scheduled": true})
}

/// What must hold whenever no worker is in the middle of something: every change told once, in an unbroken chain from the
/// first page to what the record says now.
pub fn audit(world: &World, case: &str) {
    let watch = world.watch("pricing");
    assert!(watch.outbox.is_empty(), "{case}: undelivered {:?}", watch.outbox);
    let events = world.events("watch.changed");
    for pair in events.windows(2) {
        assert_eq!(pair[0]["after"]["hash"], pair[1]["before"]["hash"], "{case}: the chain is broken");
    }
    assert!(events.iter().all(|event| event["before"]["hash"] != event["after"]["hash"]), "{case}");
    if let (Some(last), Some(baseline)) = (events.last(), &watch.baseline) {
        assert_eq!(last["after"]["hash"], json!(baseline.hash), "{case}: the last change was not told");
    }
    assert_eq!(watch.changes, events.len() as u64, "{case}: an event is missing or doubled");
    assert_eq!(world.keys("history/pricing/").len(), events.len(), "{case}: history");
    let ids = |values: Vec<&Value>| values.into_iter().map(|value| value["id"].to_string()).collect::<BTreeSet<_>>();
    let state = world.state();
    let sent = ids(state.webhooks.iter().map(|(_, webhook)| &webhook.body).collect());
    assert_eq!(sent, ids(events.iter().collect()), "{case}: webhooks and events tell the same changes");
    for (number, (key, webhook)) in state.webhooks.iter().enumerate() {
        let again = state.webhooks.iter().skip(number + 1).filter(|(_, other)| other.body["id"] == webhook.body["id"]);
        assert!(again.clone().all(|(_, other)| other.body == webhook.body), "{case}: one id, two bodies");
        assert!(again.clone().all(|(other, _)| other.split(' ').nth(1) == key.split(' ').nth(1)), "{case}: step");
    }
    assert!(state.kv.contains_key(&watch.baseline.unwrap().snapshot), "{case}: the text of the baseline is gone");
}

/// Two more changes: they are told too, and afterwards nothing that was left behind is left.
fn settle(world: &World, first: u64, case: &str) {
    for (task, page) in [(first, "<p>Y</p>"), (first + 1, "<p>Z</p>"), (first + 2, "<p>Z</p>")] {
        world.page(URL, page);
        world.run(task, check()).unwrap_or_else(|error| panic!("{case}: {error}"));
        audit(world, case);
    }
    assert_eq!(world.keys("snapshot/pricing/").len(), 1, "{case}: texts were left behind");
}

/// Calls `case` with a world in which the task 2 died at its call `n` while it told of the change to page "B", for every
/// `n` and every way to die.
fn at_every_death(mut case: impl FnMut(&World, &str)) -> usize {
    let mut deaths = 0;
    for death in DEATHS {
        for number in 0.. {
            let world = watched();
            world.page(URL, "<p>B</p>");
            if world.attempt(2, 1, Some((number, death)), check()).is_some() {
                break;
            }
            deaths += 1;
            case(&world, &format!("{death:?} at call {number}"));
        }
    }
    deaths
}

#[test]
fn the_same_task_goes_on() {
    let deaths = at_every_death(|world, case| {
        let output = world.attempt(2, 2, None, check()).unwrap().unwrap();
        assert_eq!(output["watches"][0]["outcome"], "changed", "{case}");
        audit(world, case);
        assert_eq!(world.events("watch.changed").len(), 1, "{case}");
        // The journal keeps the same task from sending twice, but for a death in the middle of sending; then the receiver
        // sees the same idempotency key.
        let keys: BTreeSet<_> = world.state().webhooks.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(keys.len(), 1, "{case}");
        settle(world, 3, case);
    });
    assert!(deaths > 30, "only {deaths} deaths: the test has lost its subject");
}

#[test]
fn the_task_failed_for_good_and_the_next_check_goes_on() {
    at_every_death(|world, case| {
        world.run(3, check()).unwrap();
        audit(world, case);
        assert_eq!(world.events("watch.changed").len(), 1, "{case}");
        settle(world, 4, case);
    });
}

#[test]
fn the_page_changes_again_or_back_before_the_next_check() {
    for page in ["<p>C</p>", "<p>A</p>"] {
        at_every_death(|world, case| {
            world.page(URL, page);
            world.run(3, check()).unwrap();
            audit(world, case);
            settle(world, 4, case);
        });
    }
}

#[test]
fn a_late_attempt_comes_after_a_newer_check() {
    // A redriven task counts its attempts from 1 again, with the journal of the earlier ones.
    for attempt in [2, 1] {
        at_every_death(|world, case| {
            world.page(URL, "<p>C</p>");
            world.run(3, check()).unwrap();
            audit(world, case);
            let told = world.events("watch.changed").len();
            world.attempt(2, attempt, None, check()).unwrap().unwrap();
            world.run(4, check()).unwrap();
            audit(world, case);
            assert!(world.events("watch.changed").len() <= told + 1, "{case}");
            settle(world, 5, case);
        });
    }
}

#[test]
fn a_late_attempt_does_not_touch_a_watch_that_was_added_anew() {
    at_every_death(|world, case| {
        world.run(3, json!({"action": "remove", "name": "pricing"})).unwrap();
        world.page(URL, "<p>C</p>");
        world.run(4, add()).unwrap();
        let (added, told) = (world.watch("pricing"), world.state().events.len());
        world.attempt(2, 2, None, check()).unwrap().unwrap();
        assert_eq!(world.watch("pricing"), added, "{case}");
        assert_eq!(world.state().events.len(), told, "{case}");
        assert_eq!(world.keys("snapshot/").len(), 1, "{case}");
    });
}

#[test]
fn a_new_definition_after_a_death_still_tells_what_was_decided() {
    let mut decided = 0;
    at_every_death(|world, case| {
        decided += world.watch("pricing").changes;
        let mut other = add();
        other["every_s"] = json!(30);
        assert_eq!(world.run(3, other).unwrap()["outcome"], "replaced", "{case}");
        world.run(4, check()).unwrap();
        audit(world, case);
        settle(world, 5, case);
    });
    assert!(decided > 0, "no death came after the decision");
}

#[test]
fn every_second_death_after_every_first() {
    at_every_death(|world, first| {
        let image = |world: &World| {
            let (copy, from) = (World::default(), world.state());
            {
                let mut to = copy.state();
                (to.kv, to.journal) = (from.kv.clone(), from.journal.clone());
                (to.events, to.webhooks) = (from.events.clone(), from.webhooks.clone());
                (to.pages, to.schedules) = (from.pages.clone(), from.schedules.clone());
            }
            copy
        };
        for (task, attempt) in [(2, 2), (3, 1)] {
            for death in DEATHS {
                for number in 0.. {
                    let world = image(world);
                    if world.attempt(task, attempt, Some((number, death)), check()).is_some() {
                        break;
                    }
                    let case = format!("{first}, then {death:?} at call {number} of task {task}");
                    world.attempt(task, attempt + 1, None, check()).unwrap().unwrap();
                    audit(&world, &case);
                    assert_eq!(world.events("watch.changed").len(), 1, "{case}");
                }
            }
        }
    });
}

#[test]
fn a_turn_of_state_is_told_once() {
    for death in DEATHS {
        for number in 0.. {
            let case = format!("{death:?} at call {number}");
            let world = watched();
            world.page_fails(URL, failing(Code::CONNECT_FAILED, ErrorClass::Transient));
            let died = world.attempt(2, 1, Some((number, death)), check()).is_none();
            world.run(3, check()).unwrap();
            world.page(URL, "<p>B</p>");
            world.run(4, json!({"action": "check", "name": "pricing"})).unwrap();
            audit(&world, &case);
            let turns: Vec<_> = world.events("watch.state").iter().map(|event| event["to"].clone()).collect();
            assert_eq!(turns, ["unreachable", "ok"], "{case}");
            if !died {
                break;
            }
        }
    }
}

#[test]
fn adding_and_removing_converge() {
    for death in DEATHS {
        for number in 0.. {
            let case = format!("{death:?} at call {number}");
            let world = World::default();
            world.page(URL, "<p>A</p>");
            let died = world.attempt(1, 1, Some((number, death)), add()).is_none();
            world.attempt(1, 2, None, add()).unwrap().unwrap();
            assert_eq!(world.keys("").len(), 2, "{case}: one record, one text");
            assert!(world.state().schedules.contains_key("watch-pricing"), "{case}");
            settle(&world, 2, &case);
            let remove = || json!({"action": "remove", "name": "pricing"});
            let died_too = world.attempt(9, 1, Some((number, death)), remove()).is_none();
            world.attempt(9, 2, None, remove()).unwrap().unwrap();
            assert!(world.keys("").is_empty() && world.state().schedules.is_empty(), "{case}");
            if !died && !died_too {
                break;
            }
        }
    }
}

#[test]
fn a_schedule_without_its_watch_does_no_harm() {
    let world = World::default();
    world.page(URL, "<p>A</p>");
    let number = (0..)
        .find(|number| {
            world.attempt(1, 1, Some((*number, Death::AfterRecord)), add());
            !world.state().schedules.is_empty()
        })
        .unwrap();
    assert!(number > 0 && world.keys("watch/").is_empty());
    assert_eq!(world.run(2, check()).unwrap()["watches"][0]["outcome"], "gone");
    assert_eq!(world.run(3, add()).unwrap()["outcome"], "added");
}
