//! An agent inside of its sandbox: its loopback is its way to models, its grant decides, and no key is there.

use agentos_kit::{Act, ModelServer, Package};
use serde_json::{Value, json};

use super::scene::{Provider, Scene, is_nowhere};

const GRANTED: &str = "[[grants]]\ncategory = \"model\"\nactions = [\"call\"]\nresources = [\"fast\"]\n";
/// Prints the status and the body of one call.
pub const CALL: &str = "import http.client, json, sys\n\
connection = http.client.HTTPConnection('127.0.0.1', 18801, timeout=60)\n\
body = json.dumps({'model': sys.argv[1], 'messages': [{'role': 'user', 'content': 'one two'}]})\n\
connection.request('POST', '/v1/chat/completions', body, {'content-type': 'application/json', 'authorization': 'Bearer own'})\n\
answer = connection.getresponse()\n\
print(answer.status, answer.read().decode())\n";

async fn run(scene: &Scene, agent: &str, command: &[&str]) -> (i64, String, String) {
    let task = serde_json::to_value(scene.os.run_task(agent, json!({"command": command})).await).unwrap();
    let text = |name: &str| task["output"][name].as_str().unwrap_or_default().to_owned();
    (task["output"]["code"].as_i64().unwrap_or_else(|| panic!("{task:#}")), text("out"), text("err"))
}

#[tokio::test]
async fn an_agent_with_a_grant_calls_its_loopback_and_one_without_has_none() {
    let server = ModelServer::start().await;
    let routes: &[(&str, &[&str])] = &[("fast", &["alpha/small"]), ("other", &["alpha/large"])];
    let mut scene = Scene::open(&[Provider::openai("alpha", &server)], routes).await;
    scene.os.deploy(&Package::runner("thinker", GRANTED)).await;
    scene.os.deploy(&Package::runner("plain", "")).await;
    let python = |model: &'static str| ["/usr/bin/python3", "-c", CALL, model];
    let (code, out, err) = run(&scene, "thinker", &python("fast")).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("200 ") && out.contains("You said: one two"), "{out}");
    let asked = server.has_generations(1).await.remove(0);
    assert_eq!(asked.key(), Provider::key("alpha"));
    assert_ne!(asked.header("authorization"), "Bearer own");
    let (_, out, _) = run(&scene, "thinker", &python("other")).await;
    assert!(out.starts_with("403 "), "{out}");
    let (code, out, err) = run(&scene, "plain", &python("fast")).await;
    // Whichever wall is the first.
    assert!(code != 0 && (err.contains("refused") || err.contains("Permission denied")), "{out} {err}");
    assert_eq!(server.generations().len(), 1, "nothing else has arrived");

    // No key inside, and the variables lead to the loopback.
    let (_, out, _) = run(&scene, "thinker", &["/usr/bin/env"]).await;
    for line in ["OPENAI_BASE_URL=http://127.0.0.1:18801/v1", "ANTHROPIC_BASE_URL=http://127.0.0.1:18801"] {
        assert!(out.lines().any(|found| found == line), "{line} in {out}");
    }
    assert!(!out.contains(&Provider::key("alpha")), "{out}");
    let records = scene.records().await;
    let of_thinker = |record: &&Value| record["actor"].to_string().contains("thinker");
    assert!(records.iter().filter(of_thinker).count() >= 3, "{records:#?}");
    assert!(records.iter().any(|record| record["decision"] == "denied"), "{records:#?}");
    assert_eq!(scene.os.down().await, 0);
    is_nowhere(scene.os.home(), &Provider::key("alpha"));
}

#[tokio::test]
async fn a_program_inside_that_dies_is_gone_at_the_provider() {
    let server = ModelServer::start().await;
    let scene = Scene::open(&[Provider::openai("alpha", &server)], &[("fast", &["alpha/small"])]).await;
    scene.os.deploy(&Package::runner("thinker", GRANTED)).await;
    server.next(Act::Hold { after: 0 });
    let command = ["/usr/bin/timeout", "--signal=KILL", "1", "/usr/bin/python3", "-c", CALL, "fast"];
    let (code, _, _) = run(&scene, "thinker", &command).await;
    assert_ne!(code, 0);
    server.is_abandoned(0).await;
}
