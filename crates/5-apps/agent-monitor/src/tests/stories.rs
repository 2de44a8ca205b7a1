//! What a user of the Monitor sees, action by action.

use std::collections::BTreeMap;

use agentos_sdk::{Code, ErrorClass, FileEntry, Timestamp, Value, json};

use super::{
    crash::{URL, add, audit, check, watched},
    fake::{World, failing},
};

fn first(output: &Value) -> &Value {
    &output["watches"][0]
}

#[test]
fn a_page_changes() {
    let world = World::default();
    world.page(URL, "<h1>Plans</h1><p>Free</p><p>Pro 20 €</p>");
    let mut input = add();
    input.as_object_mut().unwrap().remove("name");
    let added = world.run(1, input).unwrap();
    assert_eq!(added["watch"]["name"], "shop-test-pricing");
    assert_eq!(added["watch"]["state"]["state"], "ok");
    let schedule = world.state().schedules["watch-shop-test-pricing"].input.clone();
    assert_eq!(schedule, json!({"action": "check", "name": "shop-test-pricing", "scheduled": true}));

    let unchanged = world.run(2, schedule.clone()).unwrap();
    assert_eq!(first(&unchanged), &json!({"name": "shop-test-pricing", "outcome": "unchanged"}));
    assert!(world.state().events.is_empty(), "the baseline alerts nobody");

    world.page(URL, "<h1>Plans</h1><p>Free</p><p>Pro 25 €</p><p>Solo 5 €</p>");
    let changed = world.run(3, schedule.clone()).unwrap();
    let summary = "shop.test/pricing: 2 lines added, 1 removed: 'Pro 20 €' → 'Pro 25 €'";
    let diff = "@@ -1,3 +1,4 @@\n # Plans\n Free\n-Pro 20 €\n+Pro 25 €\n+Solo 5 €\n";
    let expected = json!({
        "name": "shop-test-pricing", "outcome": "changed", "number": 1, "summary": summary, "diff": diff,
    });
    assert_eq!(first(&changed), &expected);
    let event = world.events("watch.changed").remove(0);
    assert_eq!((&event["summary"], &event["diff"], &event["number"]), (&json!(summary), &json!(diff), &json!(1)));
    assert_eq!(event["at"], "2026-11-23T00:00:03.000Z");
    assert_eq!(world.state().webhooks[0].1.body, event, "the webhook tells the same");
    let history = world.run(4, json!({"action": "history", "name": "shop-test-pricing"})).unwrap();
    assert_eq!(history["changes"], json!([event]));
    let list = world.run(5, json!({"action": "list"})).unwrap();
    assert_eq!((&first(&list)["changes"], &first(&list)["undelivered"]), (&json!(1), &json!(0)));
}

#[test]
fn an_unchanged_page_costs_two_calls_and_writes_nothing() {
    let world = watched();
    let before = world.state().done.len();
    world.run(2, check()).unwrap();
    assert_eq!(world.state().done[before..], ["kv.get", "net.fetch"]);
}

#[test]
fn noise_is_no_change() {
    let world = World::default();
    world.page(URL, "<p>Hello</p><p>Visitors: 17</p><p>at 2026-11-23T00:00:00Z</p>");
    let mut input = add();
    input["ignore"] = json!(["Visitors:"]);
    input["noise"] = json!(["timestamps"]);
    world.run(1, input).unwrap();
    world.page(URL, "<p>Hello</p><p>Visitors: 18</p><p>at 2026-11-23T00:01:00Z</p>");
    assert_eq!(first(&world.run(2, check()).unwrap())["outcome"], "unchanged");
    world.page(URL, "<p>Bye</p><p>Visitors: 18</p><p>at 2026-11-23T00:02:00Z</p>");
    assert_eq!(first(&world.run(3, check()).unwrap())["diff"], "@@ -1,2 +1,2 @@\n-Hello\n+Bye\n at <time>\n");
}

#[test]
fn a_file_changes_and_its_probe_is_cheap() {
    let world = World::default();
    let old = Timestamp::from_millis(1_000);
    let put = |bytes: &[u8], at| world.state().files.insert("/srv/a.txt".into(), (bytes.to_vec(), at));
    put(b"one\ntwo\n", old);
    world.run(1, json!({"action": "add", "name": "a", "file": "/srv/a.txt", "every_s": 5})).unwrap();
    let check = || json!({"action": "check", "name": "a"});
    let before = world.state().done.len();
    assert_eq!(first(&world.run(2, check()).unwrap())["outcome"], "unchanged");
    assert_eq!(world.state().done[before..], ["kv.get", "file.read"]);

    put(b"one\n2\n", Timestamp::from_millis(2_000));
    let changed = world.run(3, check()).unwrap();
    assert_eq!(first(&changed)["summary"], "/srv/a.txt: 1 line added, 1 removed: 'two' → '2'");

    // Modified in the very second of the check: the time stamp proves nothing, so the content is read again.
    put(b"one\n3\n", Timestamp::from_millis(1_795_392_004_000));
    assert_eq!(first(&world.run(4, check()).unwrap())["outcome"], "changed");
    put(b"one\n4\n", Timestamp::from_millis(1_795_392_004_000));
    assert_eq!(first(&world.run(5, check()).unwrap())["outcome"], "changed");

    put(b"\x7fELF\0\x01", Timestamp::from_millis(6_000));
    let binary = world.run(6, check()).unwrap();
    assert!(first(&binary)["diff"].as_str().unwrap().contains("+binary content, 6 bytes, sha256 "), "{binary}");
    let large = vec![b'x'; 5 << 20];
    put(&large, Timestamp::from_millis(7_000));
    assert_eq!(first(&world.run(7, check()).unwrap())["outcome"], "changed");
    put(&[large.as_slice(), b"y"].concat(), Timestamp::from_millis(8_000));
    assert_eq!(first(&world.run(8, check()).unwrap())["outcome"], "changed", "the size tells beyond what is read");
}

#[test]
fn a_directory_changes() {
    let world = World::default();
    let entry = |name: &str, kind: &str, size, millis| FileEntry {
        name: name.into(),
        kind: kind.into(),
        size,
        modified_at: Timestamp::from_millis(millis),
    };
    let put = |entries: Vec<FileEntry>| world.state().directories.insert("/srv".into(), entries);
    put(vec![entry("a.txt", "file", 3, 0), entry("sub", "directory", 4096, 0)]);
    world.run(1, json!({"action": "add", "name": "srv", "directory": "/srv", "every_s": 5})).unwrap();
    put(vec![entry("a.txt", "file", 5, 1_000), entry("b\n.txt", "file", 1, 0), entry("sub", "directory", 8192, 0)]);
    let changed = world.run(2, json!({"action": "check"})).unwrap();
    let expected = "@@ -1,2 +1,3 @@\n-a.txt (3 bytes, modified 1970-01-01T00:00:00.000Z)\n\
                    +a.txt (5 bytes, modified 1970-01-01T00:00:01.000Z)\n\
                    +b\\n.txt (1 bytes, modified 1970-01-01T00:00:00.000Z)\n \
                    sub (directory, modified 1970-01-01T00:00:00.000Z)\n";
    assert_eq!(first(&changed)["diff"], expected);
}

#[test]
fn a_failing_source_has_a_state_and_is_tried_less_often() {
    let world = watched();
    world.page_fails(URL, failing(Code::CONNECT_FAILED, ErrorClass::Transient));
    let outcomes: Vec<String> =
        (2..22).map(|task| first(&world.run(task, check()).unwrap())["outcome"].as_str().unwrap().to_owned()).collect();
    let tried: Vec<usize> = (0..20).filter(|n| outcomes[*n] == "unreachable").collect();
    assert_eq!(tried, [0, 1, 3, 7, 15]);
    assert!(outcomes.iter().all(|outcome| outcome == "unreachable" || outcome == "skipped"));
    let health = world.watch("pricing").health;
    assert_eq!((health.failures, health.since.as_str()), (5, "2026-11-23T00:00:02.000Z"));
    assert_eq!(health.message.as_deref(), Some("AOS-1603: as the test wishes"));
    assert_eq!(world.events("watch.state").len(), 1);

    world.page_fails(URL, failing(Code::NOT_GRANTED, ErrorClass::Denied));
    let by_hand = world.run(30, json!({"action": "check", "name": "pricing"})).unwrap();
    assert_eq!(first(&by_hand)["outcome"], "denied", "a person's check is always made");
    world.page_with(URL, 503, BTreeMap::new(), "sorry");
    let by_hand = world.run(31, json!({"action": "check", "name": "pricing"})).unwrap();
    assert_eq!(first(&by_hand)["state"]["message"], "the server answered with HTTP status 503");
    world.page(URL, "<p>A</p>");
    assert_eq!(first(&world.run(32, json!({"action": "check"})).unwrap())["outcome"], "unchanged");
    let turns: Vec<_> = world.events("watch.state").iter().map(|event| event["to"].clone()).collect();
    assert_eq!(turns, ["unreachable", "denied", "error", "ok"]);
    audit(&world, "after the outage");
}

#[test]
fn a_source_that_was_never_read_becomes_the_baseline_later() {
    let world = World::default();
    world.page_fails(URL, failing(Code::NOT_GRANTED, ErrorClass::Denied));
    let added = world.run(1, add()).unwrap();
    assert_eq!(added["watch"]["state"]["state"], "denied");
    world.page(URL, "<p>A</p>");
    let again = world.run(2, add()).unwrap();
    assert_eq!((&again["outcome"], &again["check"]["outcome"]), (&json!("unchanged"), &json!("baseline")));
    assert!(world.events("watch.changed").is_empty());
    assert_eq!(world.events("watch.state").len(), 1);
}

#[test]
fn a_webhook_that_fails_is_tried_again_and_holds_up_nothing() {
    let world = watched();
    world.state().webhook_fails = Some(failing(Code::CONNECT_FAILED, ErrorClass::Transient));
    world.page(URL, "<p>B</p>");
    let error = world.run(2, check()).unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient);
    assert!(error.message.contains("webhook of 'pricing'"), "{error}");
    assert_eq!(world.events("watch.changed").len(), 1, "the event is out");
    world.attempt(2, 2, None, check()).unwrap().unwrap_err();
    world.page(URL, "<p>C</p>");
    world.run(3, check()).unwrap_err();
    assert_eq!(world.events("watch.changed").len(), 2);
    // A check that finds it undelivered tries once and is done.
    let output = world.run(4, check()).unwrap();
    assert!(first(&output)["undelivered"].as_str().unwrap().contains("AOS-1603"), "{output}");
    world.state().webhook_fails = None;
    world.run(5, check()).unwrap();
    audit(&world, "after the receiver is back");
    let numbers: Vec<_> = world.state().webhooks.iter().map(|(_, hook)| hook.body["number"].clone()).collect();
    assert_eq!(numbers, [1, 2], "in order, and each once");
    world.attempt(2, 3, None, check()).unwrap().unwrap();
    assert_eq!(world.state().webhooks.len(), 2, "a late attempt finds nothing left to send");
}

#[test]
fn a_dead_receiver_costs_old_webhooks_but_no_event() {
    let world = watched();
    world.state().webhook_fails = Some(failing(Code::NOT_GRANTED, ErrorClass::Denied));
    for number in 0..12 {
        world.page(URL, &format!("<p>{number}</p>"));
        world.run(2 + number, check()).unwrap();
    }
    let watch = world.watch("pricing");
    assert_eq!((watch.outbox.len(), watch.webhooks_dropped), (8, 4));
    assert_eq!(world.events("watch.changed").len(), 12);
    assert!(watch.webhook_problem.unwrap().starts_with("AOS-1401"));
}

#[test]
fn refused_events_stop_the_baseline_until_they_can_be_told() {
    let world = watched();
    world.state().event_fails = Some(failing(Code::NOT_GRANTED, ErrorClass::Denied));
    for number in 0..12 {
        world.page(URL, &format!("<p>{number}</p>"));
        assert_eq!(world.run(2 + number, check()).unwrap_err().class, ErrorClass::Denied);
    }
    assert!(world.state().events.is_empty());
    world.state().event_fails = None;
    world.run(20, check()).unwrap();
    world.run(21, check()).unwrap();
    audit(&world, "after the grant was added");
    assert_eq!(world.events("watch.changed").last().unwrap()["diff"], "@@ -1 +1 @@\n-6\n+11\n");
}

#[test]
fn an_error_of_the_kernel_is_not_an_error_of_the_source() {
    let world = watched();
    world.page_fails(URL, failing(Code::STORE_BUSY, ErrorClass::Transient));
    assert_eq!(world.run(2, check()).unwrap_err().class, ErrorClass::Transient);
    assert_eq!(world.watch("pricing").health.failures, 0);
}

#[test]
fn names_limits_and_history() {
    let world = watched();
    assert_eq!(world.run(2, add()).unwrap()["outcome"], "unchanged");
    let mut other = add();
    other["url"] = json!("https://shop.test/pricing?plan=pro");
    other.as_object_mut().unwrap().remove("name");
    world.page("https://shop.test/pricing?plan=pro", "x");
    world.page("https://shop.test/pricing/", "x");
    assert_eq!(world.run(3, other.clone()).unwrap()["watch"]["name"], "shop-test-pricing");
    other["url"] = json!("https://shop.test/pricing/");
    let name = world.run(4, other).unwrap()["watch"]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("shop-test-pricing-") && name.len() == 24, "{name}");

    for number in 0..30 {
        world.page(URL, &format!("<p>{number}</p>"));
        world.run(5 + number, check()).unwrap();
    }
    assert_eq!(world.keys("history/pricing/").len(), 20);
    let history = world.run(50, json!({"action": "history", "name": "pricing", "limit": 2})).unwrap();
    let numbers: Vec<_> = history["changes"].as_array().unwrap().iter().map(|entry| entry["number"].clone()).collect();
    assert_eq!(numbers, [30, 29]);

    for action in ["check", "history"] {
        let error = world.run(51, json!({"action": action, "name": "nothing"})).unwrap_err();
        assert!(error.message.contains("no watch 'nothing'"), "{error}");
    }
    let absent = world.run(52, json!({"action": "remove", "name": "nothing"})).unwrap();
    assert_eq!(absent["outcome"], "absent");
    for number in 0..200 {
        world.state().kv.insert(format!("watch/x{number}"), (json!({}), 1));
    }
    let error = world.run(53, json!({"action": "add", "name": "one-more", "url": URL, "every_s": 5})).unwrap_err();
    assert!(error.message.contains("at most 200"), "{error}");
    let list = world.run(54, json!({"action": "list"})).unwrap();
    assert!(list["watches"].as_array().unwrap().iter().any(|watch| watch["problem"].is_string()));
}

#[test]
fn a_watch_that_was_removed_and_added_again_tells_the_same_change_again() {
    let world = watched();
    world.page(URL, "<p>B</p>");
    world.run(2, check()).unwrap();
    world.run(3, json!({"action": "remove", "name": "pricing"})).unwrap();
    world.page(URL, "<p>A</p>");
    world.run(4, add()).unwrap();
    world.page(URL, "<p>B</p>");
    world.run(5, check()).unwrap();
    assert_eq!(world.events("watch.changed").len(), 2);
}
