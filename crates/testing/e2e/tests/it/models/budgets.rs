//! Budgets at their limit, on the real program.

use agentos_kit::{Act, ModelServer};
use serde_json::{Value, json};

use super::scene::{Provider, Scene, said};

#[tokio::test]
async fn fifty_calls_at_once_at_the_limit_never_spend_more_than_it() {
    let server = ModelServer::start().await;
    let scene = Scene::open(&[Provider::openai("alpha", &server)], &[]).await;
    // Each claims to have cost 10 and 40 tokens: 45,000 nano-USD. Room for some of the fifty.
    server.always(Act::Usage(10, 40));
    scene.budget(&["--per", "total", "--usd", "0.001"]).await;
    let body = said("alpha/small", false);
    let calls = (0..50).map(|_| scene.ask("/v1/chat/completions", &body));
    let answers = futures_util::future::join_all(calls).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    let answered = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.iter().all(|status| [200, 402].contains(status)), "{statuses:?}");
    assert_eq!(answered, server.generations().len(), "what was refused was not sent");
    assert!(answered > 0 && answered * 45_000 <= 1_000_000, "{answered}");
    for answer in answers.into_iter().filter(|answer| answer.status() == 402) {
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["agent_os"]["code"], "AOS-2001", "{body}");
    }
    // What is left is used up one by one, to the last call that fits.
    let mut after = answered;
    while scene.ask("/v1/chat/completions", &body).await.status() == 200 {
        after += 1;
        assert!(after <= 22, "1,000,000 pays for 22 calls");
    }
    assert!(after * 45_000 <= 1_000_000);
}

#[tokio::test]
async fn a_kill_with_calls_in_flight_overspends_nothing_and_leaves_intents_without_outcome() {
    let server = ModelServer::start().await;
    let mut scene = Scene::open(&[Provider::openai("alpha", &server)], &[]).await;
    scene.budget(&["--per", "total", "--requests", "10"]).await;
    server.always(Act::Hold { after: 0 });
    let body = said("alpha/small", false);
    {
        let calls = futures_util::future::join_all((0..4).map(|_| scene.ask("/v1/chat/completions", &body)));
        tokio::pin!(calls);
        tokio::select! {
            _ = &mut calls => panic!("they are held"),
            _ = server.has_generations(4) => {}
        }
        // The calls go with their server.
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(i32::try_from(scene.os.server_pid()).unwrap()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
    }
    scene.os.kill().await;
    server.always(Act::Answer);
    scene.os.up().await;
    let (intents, outcomes) = (scene.records_of("intent").await, scene.records_of("outcome").await);
    assert_eq!((intents.len(), outcomes.len()), (4, 0), "{intents:#?} {outcomes:#?}");
    let mut answered = 0;
    while scene.ask("/v1/chat/completions", &body).await.status() == 200 {
        answered += 1;
        assert!(answered <= 6, "four of ten may have been billed");
    }
    assert!(server.generations().len() <= 10);
    assert_eq!(scene.os.down().await, 0);
    let log = scene.os.cli(&["audit", "verify"]).await;
    assert_eq!(log.code, 0, "{}{}", log.stdout, log.stderr);
}

#[tokio::test]
async fn a_client_that_leaves_pays_for_what_it_got() {
    let server = ModelServer::start().await;
    let scene = Scene::open(&[Provider::openai("alpha", &server)], &[]).await;
    scene.budget(&["--per", "total", "--tokens", "1000000"]).await;
    server.next(Act::Hold { after: 4 });
    let mut answer = scene.chat("alpha/small", true).await;
    answer.chunk().await.unwrap();
    drop(answer);
    server.is_abandoned(0).await;
    let outcome =
        agentos_kit::eventually("the outcome", || async { scene.records_of("outcome").await.pop().ok_or("none yet") })
            .await;
    assert_eq!(outcome["facts"]["estimated"], json!(true), "{outcome:#}");
    assert!(outcome["facts"]["nano_usd"].as_u64().unwrap() > 0, "{outcome:#}");
}
