//! What a task has been answered is not asked for again.

use agentos_kit::{Act, ModelServer, Package};
use serde_json::json;

use super::scene::{Provider, Scene};

const AGENT: &str = "thinker";
const MANIFEST: &str = "[[grants]]\ncategory = \"model\"\nactions = [\"call\"]\nresources = [\"fast\"]\n";
/// Asks twice by the system call, waiting in between for nothing; the answer of the task is both.
const WORKER: &str = include_str!("thinker.py");

#[tokio::test]
async fn a_recorded_answer_is_given_again_after_a_kill() {
    let server = ModelServer::start().await;
    let mut scene = Scene::open(&[Provider::openai("alpha", &server)], &[("fast", &["alpha/small"])]).await;
    scene.os.deploy(&Package::python(AGENT, WORKER, MANIFEST)).await;
    server.next(Act::say("the first thought"));
    server.next(Act::Hold { after: 0 });
    let task = scene.os.submit(AGENT, json!({})).await;
    // The first is answered, the second is under way.
    server.has_generations(2).await;
    scene.os.kill().await;
    server.always(Act::say("the second thought"));
    scene.os.up().await;
    let task = scene.os.finished(&task).await;
    let task = serde_json::to_value(task).unwrap();
    assert_eq!(task["output"]["answers"], json!(["the first thought", "the second thought"]), "{task:#}");
    let asked: Vec<String> =
        server.generations().iter().map(|asked| asked.json()["messages"][0]["content"].to_string()).collect();
    assert_eq!(asked.iter().filter(|text| text.contains("first")).count(), 1, "{asked:?}");
    assert_eq!(asked.iter().filter(|text| text.contains("second")).count(), 2, "{asked:?}");
}
