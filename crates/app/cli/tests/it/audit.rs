//! `audit`: offline where the database is, by the server elsewhere; and what is exported is whole or not there.

use agentos_cli::{AUDIT_VERIFIER_KEY_FILE, DATABASE_FILE, Exit};
use agentos_proof::{Frontier, Indexed, SigningKey, VerifierKey, checkpoint, leaf};
use agentos_types::{Actor, EventId, Timestamp, audit::AuditEvent};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use rusqlite::{Connection, params};
use serde_json::{Value, json};

use crate::world::{NOW_MS, World, json};

const LOG: &str = "node-1";

/// A log of ten records with one checkpoint, as the server leaves it. Returns the checkpoint.
fn write_log(world: &World) -> String {
    let connection = Connection::open(world.path().join(DATABASE_FILE)).unwrap();
    let schema = "CREATE TABLE audit_record(log TEXT, seq INTEGER, at INTEGER, actor TEXT, action TEXT, resource TEXT,
        phase TEXT, decision TEXT, task TEXT, correlation TEXT, body BLOB, prev_hash BLOB, leaf_hash BLOB,
        PRIMARY KEY(log, seq));
        CREATE TABLE audit_checkpoint(log TEXT, size INTEGER, at INTEGER, note TEXT, PRIMARY KEY(log, size));";
    connection.execute_batch(schema).unwrap();
    let (mut frontier, mut prev) = (Frontier::new(), leaf::NO_PREVIOUS);
    for seq in 0..10_u64 {
        let at = Timestamp::from_millis(NOW_MS + seq as i64);
        let event = AuditEvent::new(EventId::generate(at, seq.into()), at, Actor::System, "file.read", "/srv");
        let (body, hash) = leaf::encode(LOG, seq, &prev, &event).unwrap();
        let i = Indexed::of(&event);
        let row = "INSERT INTO audit_record VALUES (?1,?2,?3,?4,?5,?6,?7,?8,NULL,NULL,?9,?10,?11)";
        let values =
            params![LOG, seq as i64, i.at, i.actor, i.action, i.resource, i.phase, i.decision, body, prev, hash];
        connection.execute(row, values).unwrap();
        frontier.append(hash);
        prev = hash;
    }
    let key = SigningKey::from_bytes(&[1; 32]);
    let origin = checkpoint::origin(LOG);
    let note = checkpoint::sign(&key, &origin, 10, &frontier.root());
    connection.execute("INSERT INTO audit_checkpoint VALUES (?1, 10, 0, ?2)", params![LOG, note]).unwrap();
    let public = world.path().join(AUDIT_VERIFIER_KEY_FILE);
    std::fs::create_dir_all(public.parent().unwrap()).unwrap();
    std::fs::write(public, format!("{}\n", VerifierKey::new(origin, key.verifying_key()).unwrap())).unwrap();
    note
}

#[tokio::test]
async fn a_local_log_is_verified_offline() {
    let world = World::with_server(|_| unreachable!("the server is not asked")).await;
    let note = write_log(&world);
    let good = world.run("audit verify -o json").await;
    assert_eq!(good.exit, Exit::Success, "{}", good.err);
    let found: Value = serde_json::from_str(&good.out).unwrap();
    assert_eq!(
        (&found["valid"], &found["verified_by"], &found["records"]),
        (&json!(true), &json!("offline"), &json!(10))
    );
    assert!(good.err.contains("without a held checkpoint"), "{}", good.err);
    let held = world.path().join("held.txt");
    std::fs::write(&held, &note).unwrap();
    let words = format!("audit verify --held {}", held.display());
    let with_held = world.run(&words).await;
    assert!(with_held.exit == Exit::Success && with_held.out.contains("held:         1\n"), "{with_held:?}");

    let connection = Connection::open(world.path().join(DATABASE_FILE)).unwrap();
    connection.execute_batch("UPDATE audit_record SET resource = '/etc' WHERE seq = 4").unwrap();
    for words in ["audit verify", &words] {
        let bad = world.run(words).await;
        assert_eq!(bad.exit, Exit::NotVerified);
        assert!(bad.out.starts_with("valid:        false\n") && bad.out.contains("edited at record 4"), "{}", bad.out);
        assert!(bad.err.starts_with("error[AOS-1901]: the audit log does not verify: edited"), "{}", bad.err);
    }
    std::fs::remove_file(world.path().join(AUDIT_VERIFIER_KEY_FILE)).unwrap();
    assert_eq!(world.run("audit verify").await.exit, Exit::Refused, "without the key there is no verdict");
}

#[tokio::test]
async fn another_server_is_asked_for_its_word() {
    for (valid, exit) in [(true, Exit::Success), (false, Exit::NotVerified)] {
        let finding = (!valid).then_some("missing at record 3: records are missing");
        let world = World::with_server(move |_| {
            json(json!({"valid": valid, "records": 7, "checkpoints": 2, "root": "AAAA", "finding": finding}))
        })
        .await;
        let seen = world.run("audit verify").await;
        assert_eq!(seen.exit, exit, "{}", seen.err);
        assert!(seen.out.contains("verified by:  server\n") && seen.out.contains("records:      7\n"), "{}", seen.out);
        assert_eq!(world.asked(), ["GET /api/v1/audit/verify"]);
    }
}

fn segment(chunks: Vec<std::io::Result<&'static str>>) -> Response {
    Body::from_stream(futures_util::stream::iter(chunks)).into_response()
}

#[tokio::test]
async fn an_export_is_whole_or_not_there() {
    let world = World::with_server(|_| segment(vec![Ok("{\"segment\":1}\n"), Ok("{\"seq\":0}\n")])).await;
    let out = world.path().join("log.jsonl");
    let words = format!("audit export --from-seq 3 --out {}", out.display());
    let seen = world.run(&words).await;
    assert_eq!((seen.exit, seen.out.as_str()), (Exit::Success, ""));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "{\"segment\":1}\n{\"seq\":0}\n");
    assert_eq!(world.asked(), ["GET /api/v1/audit/export?from_seq=3"]);
    let again = world.run(&words).await;
    assert_eq!(again.exit, Exit::Usage, "never overwritten");

    let cut = World::with_server(|_| segment(vec![Ok("{\"segment\":1}\n"), Err(std::io::Error::other("gone"))])).await;
    let seen = cut.run(&format!("audit export --out {}/log", cut.path().display())).await;
    assert_eq!(seen.exit, Exit::NotReachable, "{}", seen.err);
    assert!(!cut.path().join("log").exists() && !cut.path().join("log.partial").exists());
}

fn record(seq: i64) -> Value {
    json!({"seq": seq, "id": "evt_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E", "at": NOW_MS * 1000, "actor": {"kind": "system"},
        "action": "task.submit", "resource": "task", "phase": "fact", "decision": "succeeded",
        "facts": {"bytes": 3, "host": "a.example"}, "leaf_hash": "00"})
}

#[tokio::test]
async fn the_tail_goes_on_where_the_listing_ends() {
    let world = World::with_server(|line| {
        if line.contains("/stream") {
            let frame = |seq| format!("id: {seq}\ndata: {}\n\n", record(seq));
            // After the second record comes what ends the follower: an event that no server of this version sends.
            let text = format!("{}{}data: {{}}\n\n", frame(2), frame(3));
            return ([("content-type", "text/event-stream")], text).into_response();
        }
        json(json!({"items": [record(2), record(1)]}))
    })
    .await;
    let seen = world.run("audit tail --follow --lines 1 -o jsonl").await;
    assert_eq!(seen.exit, Exit::Refused, "{}", seen.err);
    let seqs: Vec<_> =
        seen.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, [2, 3]);
    assert!(seen.err.contains("an event 'message' of another shape"), "{}", seen.err);
}

#[tokio::test]
async fn filters_become_the_query() {
    let world = World::with_server(|_| json(json!({"items": [record(5)], "next_cursor": "5"}))).await;
    let seen = world.run("audit query --actor agent:monitor --decision denied --since 1h --limit 1 --cursor 9").await;
    let expected = "SEQ  TIME                      ACTOR   ACTION       PHASE  DECISION   RESOURCE  FACTS
5    2026-11-23T00:00:00.000Z  system  task.submit  fact   succeeded  task      bytes=3 host=a.example
";
    assert_eq!((seen.exit, seen.out.as_str(), seen.err.as_str()), (Exit::Success, expected, "more: --cursor 5\n"));
    let since = (NOW_MS - 3_600_000) * 1000;
    let query = format!("actor=agent%3Amonitor&ascending=false&cursor=9&decision=denied&limit=1&since={since}");
    assert_eq!(world.asked(), [format!("GET /api/v1/audit?{query}")]);
    assert_eq!(world.run("audit query --cursor abc").await.exit, Exit::Usage);
}

#[tokio::test]
async fn a_checkpoint_is_printed_as_it_was_signed() {
    let note = "agent-os/node-1\n10\nAAAA\n\n\u{2014} agent-os/node-1 c2ln\n";
    let body = json!({"note": note, "verifier_key": "agent-os/node-1+00+key"});
    let world = World::with_server(move |_| json(body.clone())).await;
    let seen = world.run("audit checkpoint").await;
    assert_eq!((seen.out.as_str(), seen.err.as_str()), (note, "verifier key: agent-os/node-1+00+key\n"));
}

#[tokio::test]
async fn a_segment_is_judged_from_a_file_or_a_pipe_and_against_a_witness_file() {
    let world = World::with_server(|_| unreachable!("the server is not asked")).await;
    let note = write_log(&world);
    let connection = Connection::open(world.path().join(DATABASE_FILE)).unwrap();
    let key: VerifierKey =
        std::fs::read_to_string(world.path().join(AUDIT_VERIFIER_KEY_FILE)).unwrap().trim().parse().unwrap();
    let mut segment = Vec::new();
    agentos_proof::source::sqlite::export(&connection, &key, 0, None, &mut segment).unwrap();
    let (file, held) = (world.path().join("log.segment"), world.path().join("held.txt"));
    std::fs::write(&file, &segment).unwrap();
    let other = checkpoint::sign(&SigningKey::from_bytes(&[2; 32]), "agent-os/node-2", 3, &[0; 32]);
    std::fs::write(&held, format!("{other}{note}")).unwrap();
    let (file, held) = (file.to_str().unwrap(), held.to_str().unwrap());
    for (words, stdin) in
        [(["audit", "verify", "--segment", file], &b""[..]), (["audit", "verify", "--segment", "-"], &segment)]
    {
        let seen = world.run_with(&[words.as_slice(), &["--held", held]].concat(), stdin).await;
        assert_eq!(seen.exit, Exit::Success, "{}", seen.err);
        assert!(seen.out.contains("held:         1\n") && seen.err.contains("those of other logs"), "{seen:?}");
    }
    let longer = checkpoint::sign(&SigningKey::from_bytes(&[1; 32]), "agent-os/node-1", 12, &[0; 32]);
    std::fs::write(held, longer).unwrap();
    let cut = world.run_with(&["audit", "verify", "--segment", "-", "--held", held], &segment).await;
    assert!(cut.exit == Exit::NotVerified && cut.err.contains("truncated"), "{}", cut.err);
}

#[tokio::test]
async fn an_export_goes_to_standard_output_as_it_is() {
    let world = World::with_server(|_| segment(vec![Ok("{\"segment\":1}\n"), Ok("{\"seq\":0}\n")])).await;
    let seen = world.run("audit export --out -").await;
    assert_eq!(
        (seen.exit, seen.out.as_str(), seen.err.as_str()),
        (Exit::Success, "{\"segment\":1}\n{\"seq\":0}\n", "")
    );
    assert!(!world.path().join("-").exists());
    let cut = World::with_server(|_| segment(vec![Ok("{\"segment\":1}\n"), Err(std::io::Error::other("gone"))])).await;
    assert_eq!(cut.run("audit export --out -").await.exit, Exit::NotReachable, "half an export is no success");
}

fn pruned(dry_run: bool, days: u64) -> Value {
    json!({"dry_run": dry_run, "before": 0, "days": days, "records": 10 * days, "first_kept": 10 * days,
        "first_kept_before": 0, "held": ["case-7"]})
}

#[tokio::test]
async fn a_dry_run_says_what_would_go_and_what_holds_it() {
    let world = World::with_server(|_| json(pruned(true, 1))).await;
    let seen = world.run("audit prune --dry-run").await;
    assert_eq!(seen.exit, Exit::Success, "{}", seen.err);
    assert!(seen.out.contains("days:        1\n") && seen.out.contains("held by:     case-7\n"), "{}", seen.out);
    assert!(seen.err.contains("audit hold list"), "{}", seen.err);
    assert_eq!(world.asked(), [r#"POST /api/v1/audit/prune {"dry_run":true}"#]);
    assert_eq!(world.run("audit prune --dry-run --archive DIR").await.exit, Exit::Usage);
}

#[tokio::test]
async fn nothing_is_pruned_whose_archive_does_not_verify() {
    // The server that exports; only the last answer is a log.
    for sound in [false, true] {
        let source = World::with_server(|_| unreachable!()).await;
        let note = write_log(&source);
        let connection = Connection::open(source.path().join(DATABASE_FILE)).unwrap();
        let key = VerifierKey::new(checkpoint::origin(LOG), SigningKey::from_bytes(&[1; 32]).verifying_key()).unwrap();
        let mut segment = Vec::new();
        agentos_proof::source::sqlite::export(&connection, &key, 0, None, &mut segment).unwrap();
        let mut segment = String::from_utf8(segment).unwrap();
        if !sound {
            segment = segment.replacen("file.read", "file.list", 1);
        }
        let key = key.to_string();
        let world = World::with_server(move |asked| match asked {
            asked if asked.starts_with("GET /api/v1/audit/export") => Body::from(segment.clone()).into_response(),
            asked if asked.starts_with("GET") => json(json!({"note": note, "verifier_key": key})),
            _ => json(pruned(true, 1)),
        })
        .await;
        let directory = world.path().join("archive");
        let seen = world.run(&format!("audit prune --archive {}", directory.display())).await;
        let asked = world.asked();
        if sound {
            assert_eq!(seen.exit, Exit::Success, "{}", seen.err);
            assert_eq!(asked.last().unwrap(), r#"POST /api/v1/audit/prune {"dry_run":false,"keep_from":10}"#);
            assert!(directory.join("audit-0-9.jsonl").exists());
        } else {
            assert_eq!(seen.exit, Exit::NotVerified);
            assert!(seen.err.contains("nothing was pruned"), "{}", seen.err);
            assert_eq!(asked.iter().filter(|line| line.starts_with("POST")).count(), 1, "{asked:?}");
        }
    }
}

#[tokio::test]
async fn holds_and_a_new_key_are_shown() {
    let hold = json!({"name": "case-7", "reason": "why", "from": 0, "placed_by": "token:t", "placed_at": 0});
    let world = World::with_server(move |asked| match asked {
        asked if asked.contains("rotate-key") => json(json!({"old_key": "old+key", "new_key": "new+key"})),
        asked if asked.starts_with("GET") => json(json!({"items": [hold]})),
        asked if asked.starts_with("POST") => json(hold.clone()),
        _ => axum::http::StatusCode::NO_CONTENT.into_response(),
    })
    .await;
    let listed = world.run("audit hold list").await;
    assert!(listed.out.contains("case-7") && listed.out.contains("1970-01-01T00:00:00.000Z"), "{}", listed.out);
    assert_eq!(world.run("audit hold add case-7 --reason why --from 1970-01-01T00:00:00Z").await.exit, Exit::Success);
    assert_eq!(world.run("audit hold release case-7").await.exit, Exit::Success);
    let rotated = world.run("audit rotate-key").await;
    assert!(rotated.out.contains("new key:  new+key"), "{}", rotated.out);
    assert_eq!(
        world.asked(),
        [
            "GET /api/v1/audit/holds",
            r#"POST /api/v1/audit/holds {"name":"case-7","reason":"why","from":0}"#,
            "DELETE /api/v1/audit/holds/case-7",
            "POST /api/v1/audit/rotate-key",
        ]
    );
}
