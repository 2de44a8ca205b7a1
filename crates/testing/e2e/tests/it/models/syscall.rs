//! `model.call`: from an agent's worker to the provider and back, with what the journal, the budget and a cancel make of it.

use agentos_kit::{Act, ModelServer, Package, eventually, until, vector};
use agentos_types::{
    Code, TaskId,
    agent::AgentState,
    task::{Task, TaskState},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::scene::{Provider, Scene};

const AGENT: &str = "asker";
/// Makes the calls of each task's input, and answers with all results.
const HANDLER: &str =
    "def handle(task):\n    return [task.call(step, 'model.call', **args) for step, args in task.input]\n";
const MANIFEST: &str = "[[grants]]\ncategory = \"model\"\nactions = [\"call\"]\nresources = [\"fast\", \"embed\"]\n\
                        [health]\nfailures_max = 1000\n";
const ROUTES: &[(&str, &[&str])] =
    &[("fast", &["alpha/small"]), ("embed", &["alpha/embed"]), ("other", &["alpha/large"])];
/// A worker that is told to cancel has a minute: whatever ends sooner was not ended with it.
const PATIENT: &str = "[tasks]\ncancel_grace_ms = 600000\n";
/// A lease that nobody renews is lost within two seconds.
const SHORT: &str = "[tasks]\nlease_ms = 1500\n";

async fn scene(server: &ModelServer, config: &str) -> Scene {
    let scene = Scene::open_with(config, &[Provider::openai("alpha", server)], ROUTES).await;
    scene.os.deploy(&package()).await;
    scene
}

fn package() -> Package {
    crate::tracing::agent(AGENT, HANDLER, MANIFEST)
}

fn question(step: &str, more: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "one two three"}]);
    let mut args = json!({"model": "fast", "body": {"messages": messages, "max_tokens": 40}});
    for (name, value) in more.as_object().into_iter().flatten() {
        args[name] = value.clone();
    }
    json!([step, args])
}

/// Texts of the progress events of a task so far, in their order.
async fn told(scene: &Scene, id: &TaskId) -> String {
    let events = scene.os.client().task_events(id, 0, 500).await.unwrap();
    let texts = events.iter().filter(|event| event.kind == "progress" && event.data["kind"] == "model.text");
    texts.map(|event| event.data["text"].as_str().unwrap()).collect()
}

async fn in_state(scene: &Scene, id: &TaskId, state: TaskState) -> Task {
    let client = scene.os.client();
    eventually(&format!("{id} in {state:?}"), || async {
        let task = client.get_task(id).await.map_err(|fault| fault.to_string())?;
        if task.state == state { Ok(task) } else { Err(format!("{task:?}")) }
    })
    .await
}

async fn kill_worker(scene: &Scene) {
    let agent = scene.os.agent_in(&AGENT.parse().unwrap(), &[AgentState::Ready, AgentState::Running]).await;
    let pid = Pid::from_raw(i32::try_from(agent.pid.expect("a living worker")).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_call_is_answered_in_each_protocol_journaled_and_recorded() {
    let server = ModelServer::start().await;
    let scene = scene(&server, "").await;
    let turns = json!([{"role": "user", "content": "one two three"}]);
    let calls = json!([
        question("chat", &json!({})),
        question("messages", &json!({"protocol": "messages"})),
        question("responses", &json!({"protocol": "responses", "body": {"input": "one two three"}})),
        question("embeddings", &json!({"model": "embed", "protocol": "embeddings", "body": {"input": ["one"]}})),
        question("text", &json!({"body": format!("{{\"messages\": {turns}, \"max_tokens\" :40 }}")})),
    ]);
    let task = scene.os.run_task(AGENT, calls).await;
    assert_eq!(task.state, TaskState::Completed, "{:?}", task.failure);
    let results = task.output.clone().unwrap();
    let said = "You said: one two three";
    assert!(results.as_array().unwrap().iter().all(|result| result["status"] == 200), "{results:#}");
    assert_eq!(results[0]["body"]["choices"][0]["message"]["content"], said);
    assert_eq!((&results[0]["usage"]["input"], &results[0]["usage"]["output"]), (&json!(3), &json!(5)));
    assert_eq!(results[1]["body"]["content"][0]["text"], said);
    assert!(results[2]["body"]["output"].to_string().contains(said), "{results:#}");
    assert_eq!(results[3]["body"]["data"][0]["embedding"], json!(vector("one", 8)));
    let last = server.generations().pop().unwrap();
    assert!(String::from_utf8(last.body).unwrap().ends_with("\"max_tokens\" :40 }"), "as it was written");
    assert!(server.generations().iter().all(|asked| asked.key() == Provider::key("alpha")));

    let steps = scene.os.client().task_steps(&task.id).await.unwrap();
    let done: Vec<&str> = steps.iter().filter(|step| step.status == "done").map(|step| step.key.as_str()).collect();
    assert_eq!(done, ["chat", "messages", "responses", "embeddings", "text"]);
    // Each stands in the log as a call of its task, and as a call of a model with its cost.
    let records = scene.records().await;
    for phase in ["intent", "outcome"] {
        let of_phase = || records.iter().filter(|record| record["phase"] == phase);
        let of_task = of_phase().filter(|record| record["task"] == task.id.as_str()).count();
        let of_door = of_phase().filter(|record| record["facts"]["operation"].is_string()).count();
        assert_eq!((of_task, of_door), (5, 5), "{phase}: {records:#?}");
    }
    let costs = records.iter().filter_map(|record| record["facts"]["nano_usd"].as_i64());
    assert!(costs.sum::<i64>() > 0);

    let refused = scene.os.run_task(AGENT, json!([question("other", &json!({"model": "other"}))])).await;
    assert_eq!(refused.state, TaskState::Failed, "{refused:?}");
    assert!(refused.failure.unwrap().message.contains(&Code::NOT_GRANTED.to_string()), "it is not granted");
    assert_eq!(server.generations().len(), 5);
}

#[tokio::test]
async fn the_text_of_a_stream_is_told_while_the_model_writes_and_the_result_is_whole() {
    let server = ModelServer::start().await;
    let scene = scene(&server, "").await;
    server.next(Act::Hold { after: 3 });
    let id = scene.os.submit(AGENT, json!([question("tale", &json!({"stream": true}))])).await;
    until("the first words", || async { told(&scene, &id).await.contains("said:") }).await;
    assert!(!told(&scene, &id).await.contains("three"), "the provider has not said it yet");
    server.release();
    let task = scene.os.finished(&id).await;
    let result = &task.output.as_ref().unwrap()[0];
    assert_eq!(result["body"]["choices"][0]["message"]["content"], "You said: one two three", "{task:?}");
    assert_eq!((&result["usage"]["input"], &result["usage"]["output"]), (&json!(3), &json!(5)));
    assert_eq!(told(&scene, &id).await, "You said: one two three");

    // A stream that breaks is an error of the call, and its attempt may be repeated.
    server.next(Act::Cut { after: 3 });
    let id = scene.os.submit(AGENT, json!([question("torn", &json!({"stream": true}))])).await;
    let task = scene.os.finished(&id).await;
    assert_eq!((task.state, task.attempt), (TaskState::Completed, 2), "{:?}", task.failure);
    let ends: Vec<Value> =
        scene.records_of("outcome").await.iter().map(|record| record["facts"]["end"].clone()).collect();
    assert!(ends.contains(&json!("broken")), "{ends:?}");
}

#[tokio::test]
async fn a_run_that_has_used_its_budget_is_told_what_remains_and_nothing_is_sent() {
    let server = ModelServer::start().await;
    server.always(Act::Usage(10, 40));
    let scene = scene(&server, "").await;
    // Room for one, which costs 45,000 and could cost 115,500, and not for what a second could cost.
    scene.os.cli_ok(&["budget", "set", &format!("runs-of:{AGENT}"), "--usd", "0.00013"]).await;
    for _ in 0..2 {
        let before = server.generations().len();
        let calls = json!([question("one", &json!({})), question("two", &json!({}))]);
        let task = scene.os.run_task(AGENT, calls).await;
        assert_eq!(task.state, TaskState::Completed, "{:?}", task.failure);
        let results = task.output.unwrap();
        assert_eq!((&results[0]["status"], &results[1]["status"]), (&json!(200), &json!(402)), "{results:#}");
        let facts = &results[1]["body"]["error"]["agent_os"];
        assert_eq!((&facts["code"], &facts["unit"]), (&json!("AOS-2001"), &json!("nano-usd")), "{facts}");
        assert_eq!(facts["scope"], format!("run:{}", task.id));
        assert_eq!((&facts["limit"], &facts["remaining"]), (&json!(130_000), &json!(85_000)));
        assert!(facts["needed"].as_i64().unwrap() > 85_000, "{facts}");
        assert_eq!(server.generations().len(), before + 1, "each run has its own, and what is refused is not sent");
    }
}

#[tokio::test]
async fn a_cancel_of_the_task_reaches_the_provider_at_once() {
    let server = ModelServer::start().await;
    let scene = scene(&server, PATIENT).await;
    for (number, (stream, after)) in [(false, 0), (true, 0), (true, 3)].into_iter().enumerate() {
        server.next(Act::Hold { after });
        let id = scene.os.submit(AGENT, json!([question("held", &json!({"stream": stream}))])).await;
        server.has_generations(number + 1).await;
        if after > 0 {
            until("the first words", || async { told(&scene, &id).await.contains("said:") }).await;
        }
        scene.os.client().cancel_task(&id).await.unwrap();
        server.is_abandoned(number).await;
        in_state(&scene, &id, TaskState::Canceled).await;
    }
    assert_eq!(server.generations().len(), 3, "nobody asked again");
    // What was asked and not heard is recorded, and counts.
    let outcomes = eventually("the outcomes of all", || async {
        let outcomes = scene.records_of("outcome").await;
        let of_door = outcomes.iter().filter(|record| record["facts"]["end"].is_string()).cloned().collect::<Vec<_>>();
        if of_door.len() == 3 { Ok(of_door) } else { Err(outcomes) }
    })
    .await;
    for outcome in outcomes {
        assert!(["abandoned", "client-gone"].contains(&outcome["facts"]["end"].as_str().unwrap()), "{outcome:#}");
        assert!(outcome["facts"]["nano_usd"].as_i64().unwrap() > 0, "{outcome:#}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_after_its_worker_has_died_is_kept_for_the_next_attempt() {
    let server = ModelServer::start().await;
    let scene = scene(&server, "[tasks]\nlease_ms = 120000\n").await;
    server.next(Act::Hold { after: 0 });
    let id = scene.os.submit(AGENT, json!([question("one", &json!({}))])).await;
    server.has_generations(1).await;
    kill_worker(&scene).await;
    server.release();
    let task = scene.os.finished(&id).await;
    assert_eq!((task.state, task.attempt), (TaskState::Completed, 2), "{:?}", task.failure);
    assert_eq!(task.output.unwrap()[0]["body"]["choices"][0]["message"]["content"], "You said: one two three");
    assert_eq!(server.generations().len(), 1, "what was paid for is not asked for again");
}

#[tokio::test]
async fn a_model_that_keeps_silent_for_a_dead_worker_is_stopped_and_asked_anew() {
    let server = ModelServer::start().await;
    let scene = scene(&server, SHORT).await;
    server.next(Act::Hold { after: 0 });
    let id = scene.os.submit(AGENT, json!([question("one", &json!({}))])).await;
    server.has_generations(1).await;
    kill_worker(&scene).await;
    server.is_abandoned(0).await;
    let task = scene.os.finished(&id).await;
    assert_eq!((task.state, task.attempt), (TaskState::Completed, 2), "{:?}", task.failure);
    assert_eq!(task.output.as_ref().unwrap()[0]["status"], 200, "{task:?}");
    assert_eq!(server.generations().len(), 2);
}

#[tokio::test]
async fn what_a_step_was_answered_is_given_again_after_a_kill_of_the_server() {
    let server = ModelServer::start().await;
    let mut scene = scene(&server, "").await;
    server.next(Act::say("the first thought"));
    server.next(Act::Hold { after: 0 });
    let calls = json!([question("one", &json!({"stream": true})), question("two", &json!({}))]);
    let id = scene.os.submit(AGENT, calls).await;
    server.has_generations(2).await;
    scene.os.kill().await;
    server.always(Act::say("the second thought"));
    scene.os.up().await;
    let task = scene.os.finished(&id).await;
    assert_eq!(task.state, TaskState::Completed, "{:?}", task.failure);
    let text = |index: usize| task.output.as_ref().unwrap()[index]["body"]["choices"][0]["message"]["content"].clone();
    assert_eq!((text(0), text(1)), (json!("the first thought"), json!("the second thought")));
    assert_eq!(server.generations().len(), 3, "the second alone was asked twice");
}
