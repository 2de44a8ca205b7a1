//! The database goes away under calls of models: what cannot be recorded does not leave, who is refused knows when to come
//! again, and what a provider has answered meanwhile is neither lost nor free.

use std::time::Duration;

use agentos_kit::{Act, ModelServer, TestOs, eventually, until};
use agentos_scratch::{Backend, Proxy, Scratch};
use reqwest::Response;
use serde_json::{Value, json};

use super::scene::{Provider, Scene};
use crate::outage::is_alive;

/// An answer is held as long as a lease; this one is lost at once.
const SHORT: &str = "[tasks]\nlease_ms = 500\n";

struct Behind {
    _scratch: Scratch,
    proxy: Proxy,
    scene: Scene,
}

async fn behind(server: &ModelServer, config: &str) -> Behind {
    let scratch = Backend::Postgres.blank();
    let proxy = Proxy::to(scratch.postgres().port());
    let (url, admin) = scratch.urls().unwrap();
    let mut os = TestOs::bare(&[("DATABASE_URL", &proxy.through(url)), ("DATABASE_ADMIN_URL", admin)]);
    os.cli_ok(&["init"]).await;
    os.unset_env("DATABASE_ADMIN_URL");
    let scene = Scene::open_in(os, config, &[Provider::openai("alpha", server)], &[]).await;
    scene.budget(&["--per", "total", "--usd", "1"]).await;
    Behind { _scratch: scratch, proxy, scene }
}

fn goes_away(proxy: &Proxy) {
    proxy.set(|rules| rules.refuse = true);
    proxy.cut();
}

pub fn id_of(answer: &Response) -> String {
    answer.headers()["x-agent-os-request-id"].to_str().unwrap().to_owned()
}

/// A refusal in the client's protocol: coded, with a time, and with nothing of an answer.
pub async fn is_refused(answer: Response) {
    assert_eq!(answer.status(), 503);
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(wait >= 1, "{wait}");
    let text = answer.text().await.unwrap();
    let told: Value = serde_json::from_str(&text).unwrap();
    let code = told["error"]["agent_os"]["code"].as_str().or(told["error"]["code"].as_str()).unwrap_or_default();
    assert!(["AOS-1102", "AOS-1104", "AOS-1201", "AOS-1301"].contains(&code) || code.starts_with("AOS-1"), "{text}");
    assert!(told["error"]["message"].is_string() && !text.contains("You said"), "{text}");
}

/// Each has its intent and its good end in the log, and the log is whole.
pub async fn are_recorded(scene: &Scene, ids: &[String]) {
    let records = scene.records().await;
    for id in ids {
        let of = |phase: &str, decision: &str| {
            let mine = records.iter().filter(|record| record["correlation"] == id.as_str());
            mine.filter(|record| record["phase"] == phase && record["decision"] == decision).count()
        };
        assert!(of("intent", "allowed") > 0 && of("outcome", "succeeded") > 0, "{id}: {records:#?}");
    }
    assert_eq!(scene.os.cli_json(&["audit", "verify"]).await["valid"], true);
}

pub async fn answers_again(scene: &Scene) -> String {
    eventually("a call that is answered", || async {
        let answer = scene.chat("alpha/small", false).await;
        if answer.status() == 200 { Ok(id_of(&answer)) } else { Err(answer.status()) }
    })
    .await
}

#[tokio::test]
async fn calls_without_a_database_are_refused_with_a_time_and_work_again_with_it() {
    let server = ModelServer::start().await;
    let Behind { proxy, scene, .. } = &behind(&server, SHORT).await;
    let pid = scene.os.server_pid();
    let mut ids = vec![id_of(&scene.chat("alpha/small", false).await)];
    for round in 0..2 {
        goes_away(proxy);
        for stream in [false, true] {
            is_refused(scene.chat("alpha/small", stream).await).await;
        }
        assert!(is_alive(&scene.os).await, "round {round}");
        proxy.heal();
        ids.push(answers_again(scene).await);
    }
    assert_eq!(scene.os.server_pid(), pid);
    are_recorded(scene, &ids).await;
    eventually("nothing is held any more", || async {
        let standing = scene.standing(&scene.payer()).await;
        if standing["reserved"] == 0 { Ok(()) } else { Err(standing) }
    })
    .await;
}

#[tokio::test]
async fn what_is_answered_while_the_database_is_away_waits_for_its_record() {
    let server = ModelServer::start().await;
    let Behind { proxy, scene, .. } = &behind(&server, "[tasks]\nlease_ms = 120000\n").await;
    // A whole answer, of which the client has nothing before its record.
    server.next(Act::Hold { after: 0 });
    let call = scene.chat("alpha/small", false);
    tokio::pin!(call);
    tokio::select! {
        _ = &mut call => panic!("it is held"),
        _ = server.has_generations(1) => {}
    }
    eventually("the intent", || async {
        if scene.records_of("intent").await.len() == 1 { Ok(()) } else { Err("not yet") }
    })
    .await;
    goes_away(proxy);
    server.release();
    until("the provider has answered", || async { server.asked()[0].is_finished }).await;
    assert!(is_alive(&scene.os).await);
    assert!(futures_util::poll!(&mut call).is_pending(), "its record cannot be written");
    proxy.heal();
    let answer = call.await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    let mut ids = vec![id_of(&answer)];
    answers_again(scene).await;

    // A stream, of which the client has everything but its end. Where the token is looked at again while nobody can say
    // whether it is still good, which is every few seconds, the stream breaks off.
    let mut tries = 5;
    loop {
        match streamed_over_an_outage(&server, proxy, scene).await {
            Some(id) => break ids.push(id),
            None => tries -= 1,
        }
        assert!(tries > 0, "no stream came through");
    }
    are_recorded(scene, &ids).await;
}

/// The id of a stream that came to its end, or `None` of one that broke off.
async fn streamed_over_an_outage(server: &ModelServer, proxy: &Proxy, scene: &Scene) -> Option<String> {
    answers_again(scene).await;
    server.next(Act::Hold { after: 3 });
    let mut answer = scene.chat("alpha/small", true).await;
    let id = id_of(&answer);
    let mut text = next_piece(&mut answer).await?;
    goes_away(proxy);
    server.release();
    while !text.contains("three") {
        let Some(piece) = next_piece(&mut answer).await else { break };
        text.push_str(&piece);
    }
    until("the provider has said all", || async { server.asked().last().unwrap().is_finished }).await;
    assert!(is_alive(&scene.os).await && !text.contains("[DONE]"), "{text}");
    proxy.heal();
    text.push_str(&answer.text().await.ok()?);
    assert!(text.trim_end().ends_with("[DONE]") && !text.contains("\"error\""), "{text}\n{}", scene.os.log());
    Some(id)
}

async fn next_piece(answer: &mut Response) -> Option<String> {
    let piece = tokio::time::timeout(Duration::from_secs(60), answer.chunk()).await.expect("a piece");
    Some(String::from_utf8(piece.ok()??.to_vec()).unwrap())
}

#[tokio::test]
async fn an_answer_whose_record_cannot_be_written_is_withheld_and_paid_for() {
    let server = ModelServer::start().await;
    let Behind { proxy, scene, .. } = &behind(&server, SHORT).await;
    server.always(Act::Usage(10, 40));
    for stream in [false, true] {
        let asked = server.generations().len();
        server.next(Act::Hold { after: if stream { 3 } else { 0 } });
        let call = scene.chat("alpha/small", stream);
        tokio::pin!(call);
        let begun = match stream {
            true => Some(call.as_mut().await),
            false => None,
        };
        if begun.is_none() {
            tokio::select! {
                _ = &mut call => panic!("it is held"),
                _ = server.has_generations(asked + 1) => {}
            }
        }
        goes_away(proxy);
        server.release();
        match begun {
            None => is_refused(call.await).await,
            Some(answer) => {
                let text = answer.text().await.unwrap();
                assert!(text.contains("\"error\"") && text.contains("AOS-1"), "{text}");
                assert!(!text.contains("[DONE]"), "{text}");
            }
        }
        proxy.heal();
        answers_again(scene).await;
    }
    // Two that were withheld, two afterwards: all of them were billed by the provider but for what the holding acts said.
    let outcomes = scene.records_of("outcome").await;
    let recorded: i64 = outcomes.iter().filter_map(|outcome| outcome["facts"]["nano_usd"].as_i64()).sum();
    let standing = eventually("what was spent", || async {
        let standing = scene.standing(&scene.payer()).await;
        if standing["reserved"] == 0 && standing["used"].as_i64() > Some(recorded) {
            Ok(standing)
        } else {
            Err(standing)
        }
    })
    .await;
    assert!(standing["used"].as_i64().unwrap() >= recorded + 2 * (3 * 500 + 5 * 1_000), "{standing} {recorded}");
    assert_eq!(scene.os.cli_json(&["audit", "verify"]).await["valid"], json!(true));
}
