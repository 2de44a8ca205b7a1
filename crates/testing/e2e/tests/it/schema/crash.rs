//! A change of the schema that the process does not live through: what is there afterwards is the old schema, whole, and the next
//! start or command finishes what this one began.

use agentos_failpoint::Point;
use agentos_kit::{Page, TestOs, eventually, until};
use serde_json::{Value, json};

use super::{answers, assert_holds, config, installed, stored};
use crate::failpoints::field::{ARMED, VARIABLE};

/// What `migrate status` says: the schema, and each migration with its state. The lock of a dead program's database is free once
/// its end of the connection is noticed.
async fn status(os: &TestOs) -> Value {
    eventually("the schema", || async {
        let output = os.cli(&["--output", "json", "migrate", "status"]).await;
        serde_json::from_str(&output.stdout).map_err(|_| output.stderr)
    })
    .await
}

fn at(point: Point, hit: usize) -> String {
    format!("{}:{hit}", point.name())
}

/// The server dies on its way up, which never gets ready.
async fn dies_at_the_start(os: &mut TestOs, point: Point, hit: usize) {
    os.serve_with(ARMED);
    let told = os.log().len();
    assert!(!os.try_up(&[(VARIABLE, &at(point, hit))]).await, "{}: it got ready", at(point, hit));
    until("its end", || async { os.log()[told..].contains("the process ends here") }).await;
    until("its process to go", || {
        let has_ended = os.has_ended();
        async move { has_ended }
    })
    .await;
    let last = format!("failpoint {}: the process ends here", point.name());
    assert!(os.log()[told..].contains(&last), "{}", &os.log()[told..]);
    os.serve_with("agent-os");
}

async fn holds_and_goes_on(os: &mut TestOs, expected: &Value) {
    os.up().await;
    assert_holds("", expected, &answers(os).await);
    assert_eq!(os.cli_json(&["audit", "verify"]).await["valid"], true);
    assert_eq!(os.down().await, 0);
    let after = status(os).await;
    assert_eq!(after["schema"], after["known"], "{after}");
}

async fn dies_in_every_part_of_it(kind: &str) {
    let page = Page::serve("hello").await;
    let (_scratch, mut os) = installed(kind);
    std::fs::write(os.home().join("agent-os.toml"), config(&page)).unwrap();
    let expected = serde_json::from_slice(&std::fs::read(stored(kind).join("expected.json")).unwrap()).unwrap();
    let first = status(&os).await;
    let lines = first["migrations"].as_array().unwrap();
    let steps = lines.iter().filter(|line| line["state"] == "pending").count();
    assert!(steps > 1 && first["schema"] == 1, "{first}");

    let [applied, reverted, complete] =
        [Point::StoreMigrationApplied, Point::StoreMigrationReverted, Point::StoreMigrationComplete];
    for (point, hit) in [(applied, 1), (applied, steps), (complete, 1)] {
        dies_at_the_start(&mut os, point, hit).await;
        assert_eq!(status(&os).await, first, "{}: something of it stayed", at(point, hit));
    }
    holds_and_goes_on(&mut os, &expected).await;

    let whole = status(&os).await;
    for (point, hit) in [(reverted, 1), (reverted, steps), (complete, 1)] {
        os.serve_with(ARMED);
        let cut = os.run(&["migrate", "down", "--to", "1"], &[(VARIABLE, &at(point, hit))]).await;
        assert!(cut.code == -1 && cut.stderr.contains(point.name()), "{}: {} {}", point.name(), cut.code, cut.stderr);
        os.serve_with("agent-os");
        assert_eq!(status(&os).await, whole, "{}: something is gone", at(point, hit));
    }
    let down = os.cli_ok(&["migrate", "down", "--to", "1"]).await;
    assert_eq!(status(&os).await["schema"], json!(1), "{down}");
    holds_and_goes_on(&mut os, &expected).await;
}

#[tokio::test]
async fn a_migration_that_is_killed_leaves_the_old_schema_and_the_next_start_finishes_on_sqlite() {
    dies_in_every_part_of_it("sqlite").await;
}

#[tokio::test]
async fn a_migration_that_is_killed_leaves_the_old_schema_and_the_next_start_finishes_on_postgres() {
    dies_in_every_part_of_it("postgres").await;
}
