//! Commands through the door: what is granted, what the operator bounds, what is run, what a crash leaves.

use std::time::Duration;

use agentos_types::{
    Code,
    audit::{Decision, Phase},
};
use serde_json::json;

use crate::{house::House, server::Server};

const GRANTS: [[&str; 3]; 4] =
    [["shell", "exec", "git log *"], ["shell", "exec", "head *"], ["shell", "exec", "rm *"], ["code", "run", "*"]];

#[tokio::test]
async fn what_is_run_is_what_was_asked_word_by_word() {
    let server = Server::saying("").await;
    let house = House::open(&server).await;
    let worker = house.worker("a", &GRANTS).await;
    let hostile = "a'b; $(id)";
    let single = json!({"pipeline": [["git", "log", hostile]], "stdin": "in", "timeout_ms": 5_000, "max_bytes": 10});
    let answer = house.call(&worker, "single", "shell.exec", single).await.unwrap();
    assert_eq!(answer["end"], json!({"reason": "exited", "status": 0}));
    assert_eq!(answer["stdout"], json!({"text": "done", "encoding": "utf-8", "bytes": 4, "truncated": false}));
    house
        .call(&worker, "piped", "shell.exec", json!({"pipeline": [["git", "log", hostile], ["head", "-n", "1"]]}))
        .await
        .unwrap();
    let code = json!({"language": "javascript", "code": "1", "arguments": ["x y"]});
    house.call(&worker, "code", "code.run", code).await.unwrap();
    let jobs = house.jobs.0.lock().unwrap().clone();
    let [single, piped, code] = jobs.as_slice() else { panic!("{jobs:?}") };
    assert_eq!(single.command, ["git", "log", hostile]);
    assert_eq!(
        (single.stdin.as_slice(), single.timeout, single.output_bytes),
        (&b"in"[..], Duration::from_secs(5), 10)
    );
    assert_eq!(piped.command.last().unwrap(), r"/usr/bin/env -- git log 'a'\''b; $(id)' | /usr/bin/env -- head -n 1");
    assert_eq!((piped.timeout, piped.output_bytes), (Duration::from_secs(30), 64 << 10));
    assert_eq!(code.command, ["node", "/app/code.mjs", "x y"]);
    assert_eq!(code.file, Some(("/app/code.mjs".into(), "1".into())));
    assert!(jobs.iter().all(|job| job.agent == worker.caller.agent));
    let records = house.records_of(&worker, "piped").await;
    assert_eq!(records[0].resource, r"git log 'a'\''b; $(id)' | head -n 1", "the log shows what ran");
    house.verified().await;
}

#[tokio::test]
async fn the_operators_bound_holds_against_every_manifest() {
    let server = Server::saying("").await;
    let house = House::open_bounded(&server, &["git *", "python3 *"]).await;
    let worker = house.worker("a", &GRANTS).await;
    for (step, syscall, args, allowed) in [
        ("git", "shell.exec", json!({"pipeline": [["git", "log"]]}), true),
        ("rm", "shell.exec", json!({"pipeline": [["rm", "-rf", "."]]}), false),
        ("piped", "shell.exec", json!({"pipeline": [["git", "log"], ["head", "-n", "1"]]}), false),
        ("python", "code.run", json!({"language": "python", "code": "1"}), true),
        ("node", "code.run", json!({"language": "javascript", "code": "1"}), false),
        // A bound grants nothing.
        ("push", "shell.exec", json!({"pipeline": [["git", "push"]]}), false),
    ] {
        let outcome = house.call(&worker, step, syscall, args).await;
        if allowed {
            outcome.unwrap();
            continue;
        }
        let error = house.refused(outcome, Code::NOT_GRANTED);
        assert_eq!(error.message.contains("ALLOWED_COMMANDS"), step != "push", "{step}: {}", error.message);
        let records = house.records_of(&worker, step).await;
        assert_eq!(
            (records.len(), records[0].phase, records[0].decision),
            (1, Phase::Fact, Decision::Denied),
            "{step}"
        );
    }
    assert_eq!(house.jobs.0.lock().unwrap().len(), 2);
    house.verified().await;
}

#[tokio::test]
async fn a_command_that_a_crash_cut_short_is_repeated_only_if_that_was_declared() {
    let server = Server::saying("").await;
    let house = House::open(&server).await;
    let worker = house.worker("a", &GRANTS).await;
    house.audit.refuse(|event| event.phase == Phase::Outcome);
    let once = json!({"pipeline": [["rm", "-rf", "."]]});
    let often = json!({"pipeline": [["git", "log"]], "repeatable": true});
    for (step, args) in [("once", &once), ("often", &often)] {
        house.refused(house.call(&worker, step, "shell.exec", args.clone()).await, Code::AUDIT_UNAVAILABLE);
    }
    house.audit.open();
    let next = house.take_over(&worker).await;
    house.call(&next, "often", "shell.exec", often).await.unwrap();
    house.refused(house.call(&next, "once", "shell.exec", once).await, Code::STEP_IN_DOUBT);
    let ran = house.jobs.0.lock().unwrap().iter().filter(|job| job.command[0] == "rm").count();
    assert_eq!(ran, 1);
}

#[tokio::test]
async fn what_exceeds_a_limit_is_refused_before_anything_runs() {
    let server = Server::saying("").await;
    let house = House::open(&server).await;
    let worker = house.worker("a", &GRANTS).await;
    let git = [["git", "log"]];
    for (index, (syscall, args, named)) in [
        ("shell.exec", json!({"pipeline": git, "timeout_ms": 600_001}), "timeout_ms is 600001"),
        ("shell.exec", json!({"pipeline": git, "timeout_ms": 0}), "timeout_ms is 0"),
        ("shell.exec", json!({"pipeline": git, "max_bytes": 1 << 20}), "max_bytes is 1048576"),
        ("shell.exec", json!({"pipeline": git, "stdin": "x".repeat((1 << 20) + 1)}), "stdin has 1048577 bytes"),
        ("shell.exec", json!({"pipeline": []}), "1 to 16 programs"),
        ("shell.exec", json!({"pipeline": [["./run"]]}), "bare name"),
        ("shell.exec", json!({"pipeline": "git log"}), "arguments of shell.exec"),
        ("code.run", json!({"language": "perl", "code": ""}), "arguments of code.run"),
        ("code.run", json!({"language": "bash", "code": "\n".repeat(32 << 10)}), "code has 65539 bytes"),
        ("code.run", json!({"language": "bash", "code": "", "arguments": ["a\u{0}"]}), "NUL"),
    ]
    .into_iter()
    .enumerate()
    {
        let outcome = house.call(&worker, &format!("limit {index}"), syscall, args).await;
        let error = house.refused(outcome, Code::SYSCALL_INVALID);
        assert!(error.message.contains(named), "{} lacks {named}", error.message);
        let records = house.records_of(&worker, &format!("limit {index}")).await;
        assert_eq!((records.len(), records[0].decision), (1, Decision::Denied));
    }
    assert!(house.jobs.0.lock().unwrap().is_empty());
}
