//! Two checks of one watch at once: one stops before each of its calls, the other runs through, the first goes on.

use std::pin::pin;

use agentos_sdk::{Value, json};

use super::{
    crash::{URL, add, audit, check, watched},
    fake::{World, step},
};
use crate::handle;

/// Stops task 2 before each call in turn, lets `meanwhile` happen, and goes on. Returns the outcomes of task 2.
fn at_every_call(mut meanwhile: impl FnMut(&World), mut afterwards: impl FnMut(&World, &str)) -> Vec<String> {
    let mut outcomes = Vec::new();
    for number in 0.. {
        let case = format!("interrupted before call {number}");
        let world = watched();
        world.page(URL, "<p>B</p>");
        let mut worker = world.worker(2, 1);
        worker.pauses = Some(number);
        let mut first = pin!(handle(&worker, check()));
        if let Some(output) = step(first.as_mut()) {
            output.unwrap();
            break;
        }
        meanwhile(&world);
        let output: Value = step(first.as_mut()).expect("it pauses once").unwrap();
        outcomes.push(output["watches"][0]["outcome"].as_str().unwrap().to_owned());
        afterwards(&world, &case);
    }
    outcomes
}

#[test]
fn the_slower_check_is_superseded_and_nothing_is_told_twice() {
    for page in ["<p>B</p>", "<p>C</p>"] {
        let outcomes = at_every_call(
            |world| {
                world.page(URL, page);
                world.run(3, check()).unwrap();
            },
            |world, case| {
                world.run(4, check()).unwrap();
                audit(world, case);
                assert!(world.watch("pricing").changes <= 2, "{case}");
            },
        );
        assert!(outcomes.iter().any(|outcome| outcome == "superseded"), "{outcomes:?}");
        assert!(outcomes.iter().any(|outcome| outcome == "changed"), "{outcomes:?}");
    }
}

#[test]
fn removal_in_the_middle_of_a_check_leaves_nothing() {
    at_every_call(
        |world| {
            world.run(3, json!({"action": "remove", "name": "pricing"})).unwrap();
        },
        |world, case| assert!(world.keys("").is_empty(), "{case}: {:?} is left", world.keys("")),
    );
}

#[test]
fn a_new_definition_in_the_middle_of_a_check_loses_no_alert() {
    at_every_call(
        |world| {
            let decided = world.watch("pricing").changes;
            let mut other = add();
            other["every_s"] = json!(30);
            assert_eq!(world.run(3, other).unwrap()["outcome"], "replaced");
            assert_eq!(world.watch("pricing").changes, decided);
        },
        |world, case| {
            world.run(4, check()).unwrap();
            audit(world, case);
            assert_eq!(world.watch("pricing").definition.cadence, agentos_sdk::Cadence::Interval { every_s: 30 });
        },
    );
}
