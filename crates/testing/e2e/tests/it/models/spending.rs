//! Money from the first call to the last: what people are shown of it, when they are warned, and what deaths of the server
//! leave of it.

use std::time::Duration;

use agentos_kit::{Act, ModelServer, eventually};
use serde_json::{Value, json};

use super::scene::{Provider, Scene, said};
use crate::chaos::chance::{Chance, setting};

/// Each answer claims 10 and 40 tokens.
const COST_NANO_USD: i64 = 45_000;

async fn scene(server: &ModelServer) -> Scene {
    server.always(Act::Usage(10, 40));
    Scene::open(&[Provider::openai("alpha", server)], &[]).await
}

async fn warnings(scene: &Scene) -> Vec<Value> {
    let listed = scene.os.cli_json(&["audit", "query", "--action", "budget.warn"]).await;
    listed["items"].as_array().cloned().unwrap_or_default()
}

async fn spent_as_told(scene: &Scene, answered: i64) {
    let standing = eventually("what was spent", || async {
        let standing = scene.standing(&scene.payer()).await;
        if standing["used"] == json!(answered * COST_NANO_USD) { Ok(standing) } else { Err(standing) }
    })
    .await;
    assert_eq!((&standing["reserved"], &standing["forfeited"]), (&json!(0), &json!(0)), "{standing}");
}

#[tokio::test]
async fn a_budget_is_shown_warned_of_at_eighty_percent_and_used_up() {
    let server = ModelServer::start().await;
    let mut scene = scene(&server).await;
    // Eleven calls cost 495,000.
    scene.budget(&["--per", "month", "--usd", "0.0005"]).await;
    let body = said("alpha/small", false);
    let mut answered = 0;
    let refused = loop {
        let answer = scene.ask("/v1/chat/completions", &body).await;
        if answer.status() != 200 {
            break answer;
        }
        answered += 1;
        spent_as_told(&scene, answered).await;
        let is_warned = answered * COST_NANO_USD * 100 >= 500_000 * 80;
        eventually("a warning from eighty percent on", || async {
            let warnings = warnings(&scene).await;
            if warnings.len() == usize::from(is_warned) { Ok(()) } else { Err(warnings) }
        })
        .await;
    };
    assert!((9..=11).contains(&answered), "{answered}");
    assert_eq!(refused.status(), 402);
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(wait <= 31 * 86_400, "{wait}");
    let told: Value = refused.json().await.unwrap();
    let facts = &told["error"]["agent_os"];
    let left = 500_000 - answered * COST_NANO_USD;
    assert_eq!((&facts["limit"], &facts["remaining"]), (&json!(500_000), &json!(left)), "{facts}");
    assert!(facts["needed"].as_i64().unwrap() > left && facts["resets_at"].is_string(), "{facts}");
    assert_eq!((&facts["scope"], &facts["period"]), (&json!(scene.payer()), &json!("month")), "{facts}");

    let warning = warnings(&scene).await.remove(0);
    assert_eq!((&warning["resource"], &warning["facts"]["percent"]), (&json!(scene.payer()), &json!(80)));
    let expected = json!({
        "payer": scene.payer(), "model": "alpha/small", "requests": answered, "failures": 0, "estimated": 0, "cached": 0,
        "tokens_input": 10 * answered, "tokens_output": 40 * answered, "nano_usd": answered * COST_NANO_USD,
    });
    eventually("the sums for people", || async {
        let top = scene.os.cli_json(&["budget", "top"]).await;
        let rows = top.as_array().or_else(|| top["items"].as_array()).unwrap();
        if *rows == [expected.clone()] { Ok(()) } else { Err(top) }
    })
    .await;
    let recorded = scene.records_of("outcome").await;
    let recorded = recorded.iter().filter_map(|outcome| outcome["facts"]["nano_usd"].as_i64()).sum::<i64>();
    assert_eq!(recorded, answered * COST_NANO_USD, "log, sums and budget agree");
    let table = scene.os.cli_ok(&["budget", "show"]).await;
    assert!(table.contains(&scene.payer()) && table.contains("month"), "{table}");
    let ratio =
        format!("agentos_budget_used_ratio{{scope=\"{}\",period=\"month\",unit=\"nano-usd\"}} 0.", scene.payer());
    let metrics = scene.os.client().metrics().await.unwrap();
    assert!(metrics.contains(&ratio), "{metrics}");

    // An orderly stop forfeits nothing, and what is used up stays used up.
    assert_eq!(scene.os.down().await, 0);
    scene.os.up().await;
    assert_eq!(scene.ask("/v1/chat/completions", &body).await.status(), 402);
    spent_as_told(&scene, answered).await;
    assert_eq!(warnings(&scene).await.len(), 1, "told once");
    assert_eq!(i64::try_from(server.generations().len()).unwrap(), answered);
}

/// `AGENTOS_CRASH_SEED` repeats a run.
#[tokio::test]
async fn kills_in_the_middle_of_spending_never_let_more_be_billed_than_there_is() {
    const LIMIT_NANO_USD: i64 = 2_000_000;
    const ROUNDS: usize = 5;
    let server = ModelServer::start().await;
    let mut scene = scene(&server).await;
    scene.budget(&["--per", "total", "--usd", "0.002"]).await;
    let mut chance = Chance::new(setting("AGENTOS_CRASH_SEED", 1));
    for _ in 0..ROUNDS {
        let until = server.generations().len() + 1 + chance.below(6);
        let pid = rustix::process::Pid::from_raw(i32::try_from(scene.os.server_pid()).unwrap()).unwrap();
        let calls = futures_util::future::join_all((0..8).map(|index| call_until_gone(&scene, index % 2 == 0)));
        let killing = async {
            // So many more at the provider, or the money is used up before.
            let reached = async { server.has_generations(until).await.len() };
            let _ = tokio::time::timeout(Duration::from_secs(3), reached).await;
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        };
        tokio::join!(calls, killing);
        scene.os.kill().await;
        scene.os.up().await;
    }
    while scene.chat("alpha/small", false).await.status() == 200 {}
    let billed =
        i64::try_from(server.asked().iter().filter(|asked| asked.is_finished).count()).unwrap() * COST_NANO_USD;
    assert!(billed <= LIMIT_NANO_USD, "{billed}");
    let standing = scene.standing(&scene.payer()).await;
    let number = |name: &str| standing[name].as_i64().unwrap();
    assert!(billed <= number("used") && number("used") <= LIMIT_NANO_USD, "{billed} {standing}");
    assert!(number("forfeited") > 0 && number("reserved") == 0, "{standing}");
    // What a client has, the log has.
    let log = scene.os.cli_json(&["audit", "verify"]).await;
    assert_eq!(log["valid"], true, "{log}");
}

/// Asks until the server is gone or the money is.
async fn call_until_gone(scene: &Scene, stream: bool) {
    let http = reqwest::Client::new();
    loop {
        let request = http.post(scene.url("/v1/chat/completions")).bearer_auth(&scene.token);
        let body = said("alpha/small", stream).to_string();
        let sent = request.header("content-type", "application/json").body(body).send().await;
        let Ok(answer) = sent else { return };
        if answer.status() == 402 || answer.text().await.is_err() {
            return;
        }
    }
}
