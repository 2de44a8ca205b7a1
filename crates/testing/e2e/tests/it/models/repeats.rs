//! Answers that are given again, and choices that are made again, on the real program: under idempotency keys and over kills,
//! from a cache, and by the command line. Each story on both stores.

use agentos_kit::{Act, ModelServer};
use agentos_scratch::{Backend, Scratch};
use agentos_types::Code;
use reqwest::{Response, header::HeaderMap};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::scene::{Provider, Scene, said};

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

macro_rules! on_both_stores {
    ($($story:ident,)*) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $story() { super::$story(super::Backend::Sqlite.blank()).await; })*
        }
        mod on_postgres {
            $(#[tokio::test] async fn $story() { super::$story(super::Backend::Postgres.blank()).await; })*
        }
    };
}

on_both_stores! {
    fifty_calls_with_one_key_ask_a_provider_once_and_a_restart_forgets_nothing,
    a_call_that_died_with_its_server_is_asked_anew_under_its_key_and_then_never_again,
    a_cache_answers_for_its_owner_alone_costs_nothing_and_is_counted,
    the_choice_of_a_call_is_made_again_by_the_command_line,
}

async fn one(scratch: &Scratch, server: &ModelServer) -> Scene {
    Scene::open_on(scratch, &[Provider::openai("alpha", server)], &[("fast", &["alpha/small"])]).await
}

async fn code_of(answer: Response) -> Value {
    answer.json::<Value>().await.unwrap()["error"]["agent_os"]["code"].clone()
}

async fn fifty_calls_with_one_key_ask_a_provider_once_and_a_restart_forgets_nothing(scratch: Scratch) {
    let server = ModelServer::start().await;
    let mut scene = one(&scratch, &server).await;
    server.next(Act::Hold { after: 0 });
    let body = said("fast", false);
    let calls = futures_util::future::join_all((0..50).map(|_| scene.keyed("k-1", &body)));
    let released = async {
        server.has_generations(1).await;
        agentos_kit::eventually("the intents of all", || async {
            let found = scene.records_of("intent").await.len();
            if found == 50 { Ok(()) } else { Err(found) }
        })
        .await;
        server.release();
    };
    let (answers, ()) = tokio::join!(calls, released);
    let replayed = answers.iter().filter(|answer| header(answer.headers(), "x-agent-os-replayed") == "idempotency-key");
    assert_eq!(replayed.count(), 49);
    let mut texts = Vec::new();
    for answer in answers {
        assert_eq!(answer.status(), 200);
        texts.push(answer.text().await.unwrap());
    }
    texts.dedup();
    assert_eq!((texts.len(), server.generations().len()), (1, 1));
    let other = scene.keyed("k-1", &said("alpha/small", false)).await;
    assert_eq!(other.status(), 422);
    assert_eq!(code_of(other).await, json!(Code::MODEL_KEY_REUSED.to_string()));

    scene.os.kill().await;
    scene.os.up().await;
    let again = scene.keyed("k-1", &body).await;
    assert_eq!(header(again.headers(), "x-agent-os-cost-nano-usd"), "0");
    assert_eq!(again.text().await.unwrap(), texts[0], "byte for byte");
    assert_eq!(scene.keyed("k-1", &said("fast", true)).await.status(), 422);
    assert_eq!(server.generations().len(), 1);
}

async fn a_call_that_died_with_its_server_is_asked_anew_under_its_key_and_then_never_again(scratch: Scratch) {
    let server = ModelServer::start().await;
    let mut scene = one(&scratch, &server).await;
    for (round, stream) in [false, true].into_iter().enumerate() {
        let (key, body) = (format!("k-{round}"), said("fast", stream));
        let before = server.generations().len();
        server.next(Act::Hold { after: 0 });
        {
            let dying = scene.try_keyed(&key, &body);
            tokio::pin!(dying);
            tokio::select! {
                _ = &mut dying => panic!("it is held"),
                _ = server.has_generations(before + 1) => {}
            }
            // While it is in flight.
            let pid = Pid::from_raw(i32::try_from(scene.os.server_pid()).unwrap()).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
            assert!(dying.await.is_err(), "nothing was answered");
        }
        scene.os.kill().await;
        scene.os.up().await;
        let retried = scene.keyed(&key, &body).await;
        assert_eq!((retried.status().as_u16(), header(retried.headers(), "x-agent-os-replayed")), (200, ""));
        let text = retried.text().await.unwrap();
        assert!(text.contains("three"), "{text}");
        let again = scene.keyed(&key, &body).await;
        assert_eq!(header(again.headers(), "x-agent-os-replayed"), "idempotency-key");
        let again = again.text().await.unwrap();
        assert!(again.contains("three") && again.contains("[DONE]") == stream, "{again}");
        assert_eq!(server.generations().len(), before + 2);
    }
}

async fn a_cache_answers_for_its_owner_alone_costs_nothing_and_is_counted(scratch: Scratch) {
    let server = ModelServer::start().await;
    let mut scene = one(&scratch, &server).await;
    let mut body = said("fast", false);
    body["temperature"] = json!(0);
    let asked = async |scene: &Scene, body: &Value| {
        let answer = scene.ask("/v1/chat/completions", body).await;
        assert_eq!(answer.status(), 200);
        let headers = answer.headers().clone();
        (header(&headers, "x-agent-os-cache").to_owned(), headers, answer.text().await.unwrap())
    };
    assert_eq!(asked(&scene, &body).await.0, "", "nobody has one unasked");
    let owner = format!("token:{}", scene.token_id);
    let mut config = scene.os.cli_json(&["model", "config", "show"]).await;
    config["document"]["cache"] = json!({owner.as_str(): {"ttl_s": 600}});
    let file = scene.os.home().join("models.json");
    std::fs::write(&file, config["document"].to_string()).unwrap();
    scene.os.cli_ok(&["model", "config", "apply", file.to_str().unwrap()]).await;

    let (state, _, first) = asked(&scene, &body).await;
    assert_eq!(state, "miss");
    let (state, headers, hit) = asked(&scene, &body).await;
    assert_eq!((state.as_str(), header(&headers, "x-agent-os-cost-nano-usd")), ("hit", "0"));
    assert_eq!(hit, first, "byte for byte");
    assert!(headers.contains_key("age") && header(&headers, "x-agent-os-target") == "alpha/small");
    assert_eq!(server.generations().len(), 2, "the provider was not asked for the hit");
    body["stream"] = json!(true);
    assert_eq!([asked(&scene, &body).await.0, asked(&scene, &body).await.0], ["miss", "hit"]);
    assert_eq!(server.generations().len(), 3);
    body["temperature"] = json!(1);
    assert_eq!(asked(&scene, &body).await.0, "", "such an answer is drawn");

    let outcomes = scene.records_of("outcome").await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome["facts"]["end"] == "cached").count(), 2, "{outcomes:#?}");
    assert_eq!(scene.records_of("intent").await.len(), outcomes.len(), "a hit has both of its records");
    assert_eq!(scene.os.down().await, 0);
    scene.os.up().await;
    let top = scene.os.cli_json(&["budget", "top"]).await;
    let top = top.as_array().or_else(|| top["items"].as_array()).unwrap().clone();
    assert_eq!((&top[0]["requests"], &top[0]["cached"]), (&json!(6), &json!(2)), "{top:?}");
    let metrics = scene.os.client().metrics().await.unwrap();
    assert!(metrics.contains("agentos_spend_today_requests{outcome=\"cached\"} 2"), "{metrics}");
    body["temperature"] = json!(0);
    assert_eq!(asked(&scene, &body).await.0, "hit", "a restart keeps it");
    scene.os.cli_ok(&["model", "disable", "fast"]).await;
    let refused = scene.ask("/v1/chat/completions", &body).await;
    assert_eq!(refused.status(), 403, "what is disabled is not given from memory either");
}

async fn the_choice_of_a_call_is_made_again_by_the_command_line(scratch: Scratch) {
    let (first, second) = (ModelServer::start().await, ModelServer::start().await);
    let providers = [Provider::openai("alpha", &first), Provider::openai("beta", &second)];
    let mut scene = Scene::open_on(&scratch, &providers, &[("fast", &["alpha/small", "beta/large"])]).await;
    first.always(Act::status(401));
    let answer = scene.chat("fast", false).await;
    assert_eq!(answer.status(), 200);
    let call = header(answer.headers(), "x-agent-os-request-id").to_owned();
    let told = agentos_kit::eventually("the choice of the call", || async {
        let told = scene.os.cli(&["model", "replay", &call]).await;
        if told.code == 0 { Ok(told.stdout) } else { Err(told.stderr) }
    })
    .await;
    for part in [call.as_str(), "'fast' at", "alpha/small failed: auth", "beta/large: chosen"] {
        assert!(told.contains(part), "{told} lacks {part}");
    }
    let decision = scene.os.cli_json(&["model", "replay", &call]).await;
    assert_eq!((&decision["same"], &decision["record"]["model"]), (&json!(true), &json!("fast")));
    assert!(!decision.to_string().contains("one two three"), "nothing of a prompt is in it");

    // A record that somebody has changed says where.
    assert_eq!(scene.os.down().await, 0);
    let mut record = decision["record"].clone();
    record["steps"][1]["act"] = json!({"stop": "exhausted"});
    store_decision(&scene, &scratch, &call, &record);
    scene.os.up().await;
    let changed = scene.os.cli(&["model", "replay", &call]).await;
    assert_eq!(changed.code, 1, "{}", changed.stdout);
    assert!(changed.stdout.contains("step 2 was Stop(Exhausted) and would be Ask"), "{}", changed.stdout);

    let unknown = scene.os.cli(&["model", "replay", "req_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E"]).await;
    assert!(unknown.stderr.contains(&Code::MODEL_DECISION_NOT_KEPT.to_string()), "{}", unknown.stderr);
    let made = scene.os.cli_json(&["token", "create", "watcher", "--role", "viewer"]).await;
    let viewer = scene.os.client_with(made["token"].as_str().map(str::to_owned));
    assert!(viewer.model_call_decision(&call.parse().unwrap()).await.is_ok());
    let caller = scene.os.client_with(Some(scene.token.clone()));
    let refused = caller.model_call_decision(&call.parse().unwrap()).await.unwrap_err();
    assert_eq!(refused.code, Code::FORBIDDEN);
}

/// As somebody would who has the database in hand.
fn store_decision(scene: &Scene, scratch: &Scratch, call: &str, record: &Value) {
    let record = record.to_string();
    if scratch.urls().is_some() {
        let hex: String = record.bytes().map(|byte| format!("{byte:02x}")).collect();
        let change = format!("UPDATE agent_os.model_decision SET record = '\\x{hex}' WHERE request_id = '{call}'");
        let kept = format!("SELECT count(*) FROM agent_os.model_decision WHERE request_id = '{call}'");
        assert_eq!(scratch.postgres().ask(&kept).as_deref(), Some("1"));
        return scratch.postgres().run(&change);
    }
    let database = rusqlite::Connection::open(scene.os.home().join("agent-os.db")).unwrap();
    let change = "UPDATE model_decision SET record = ?1 WHERE request_id = ?2";
    assert_eq!(database.execute(change, rusqlite::params![record.into_bytes(), call]).unwrap(), 1);
}
