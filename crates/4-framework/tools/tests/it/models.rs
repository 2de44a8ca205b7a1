//! Calls of models through the door: the body as it is sent, text as events while it is written, and what is kept of it.

use std::time::Duration;

use agentos_types::{Code, audit::Phase};
use serde_json::{Value, json};

use crate::{
    house::{House, Worker},
    server::Server,
};

const GRANTS: [[&str; 3]; 1] = [["model", "call", "openai/*"]];
const PATIENCE: Duration = Duration::from_secs(20);

async fn opened() -> (House, Worker) {
    let server = Server::saying("").await;
    let house = House::open(&server).await;
    let worker = house.worker("a", &GRANTS).await;
    (house, worker)
}

/// Texts of the progress events of a step, in order.
async fn told(house: &House, worker: &Worker) -> String {
    let events = house.events(worker).await;
    let texts = events.iter().filter(|event| event.kind == "progress" && event.data["kind"] == "model.text");
    texts.map(|event| event.data["text"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_body_is_sent_as_it_was_written_and_the_answer_is_kept() {
    let (house, worker) = opened().await;
    let args = json!({"model": "openai/m", "body": "{\"z\": [1.0e3], \"messages\": []}", "protocol": "responses"});
    let answer = house.call(&worker, "one", "model.call", args.clone()).await.unwrap();
    assert_eq!(answer, json!({"status": 200, "body": {"said": ""}}));
    assert_eq!(house.call(&worker, "one", "model.call", args).await.unwrap(), answer, "from the journal");
    let asks = house.asked.asks.lock().unwrap().clone();
    let [ask] = asks.as_slice() else { panic!("{asks:?}") };
    assert_eq!(String::from_utf8_lossy(&ask.body), r#"{"model":"openai/m","z": [1.0e3], "messages": []}"#);
    assert_eq!((&ask.agent, &ask.task, ask.step.as_str()), (&worker.caller.agent, &worker.lease.task, "one"));
    assert!(ask.idempotency_key.ends_with("/one"));
    let records = house.records_of(&worker, "one").await;
    assert_eq!(records.iter().map(|record| record.phase).collect::<Vec<_>>(), [Phase::Intent, Phase::Outcome]);
    assert_eq!(records[0].resource, "openai/m");
    house.verified().await;
}

#[tokio::test]
async fn a_call_that_is_not_of_its_form_is_refused_before_anybody_is_asked() {
    let (house, worker) = opened().await;
    for (index, args) in [
        json!({"model": "openai/m"}),
        json!({"model": "openai/m", "body": []}),
        json!({"model": "openai/m", "body": "{"}),
        json!({"model": "openai/m", "body": "{\"a\":1,\"a\":2}"}),
        json!({"model": "openai/m", "body": "{\"model\":\"openai/other\"}"}),
        json!({"model": "openai/m", "body": {"stream": true}}),
        json!({"model": "openai/m", "body": {"messages": []}, "messages": []}),
        json!({"model": "openai/m", "body": {}, "protocol": "gemini"}),
        json!({"model": "openai/m", "body": {}, "protocol": "embeddings", "stream": true}),
        json!({"model": "openai/m\n", "body": {}}),
        json!({"model": "", "body": {}}),
    ]
    .into_iter()
    .enumerate()
    {
        house.refused(house.call(&worker, &format!("bad {index}"), "model.call", args).await, Code::SYSCALL_INVALID);
    }
    let other = json!({"model": "anthropic/m", "body": {}});
    house.refused(house.call(&worker, "other", "model.call", other).await, Code::NOT_GRANTED);
    assert!(house.asked.asks.lock().unwrap().is_empty());
    house.verified().await;
}

#[tokio::test]
async fn the_text_of_a_stream_is_told_while_it_is_written_and_whole_in_the_end() {
    let (house, worker) = opened().await;
    let words: Vec<&'static str> = ["Once ", "upon ", "a time "].into_iter().cycle().take(900).collect();
    *house.asked.words.lock().unwrap() = words.clone();
    let args = json!({"model": "openai/m", "messages": [], "stream": true});
    let answer = house.call(&worker, "tale", "model.call", args).await.unwrap();
    assert_eq!(answer["body"]["said"], words.concat());
    assert_eq!(told(&house, &worker).await, words.concat());
    let events = house.events(&worker).await.into_iter().filter(|event| event.kind == "progress").collect::<Vec<_>>();
    assert!(events.len() < 50, "{} events for {} pieces", events.len(), words.len());
    let numbers: Vec<_> = events.iter().map(|event| event.data["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
    let sent: Value = serde_json::from_slice(&house.asked.asks.lock().unwrap()[0].body).unwrap();
    assert_eq!((&sent["stream"], &sent["stream_options"]["include_usage"]), (&json!(true), &json!(true)));
    house.verified().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_an_error_after_its_text() {
    let (house, worker) = opened().await;
    *house.asked.words.lock().unwrap() = vec!["half"];
    *house.asked.breaks.lock().unwrap() = true;
    let args = json!({"model": "openai/m", "messages": [], "stream": true});
    house.refused(house.call(&worker, "tale", "model.call", args).await, Code::CONNECTION_LOST);
    assert_eq!(told(&house, &worker).await, "half");
    house.verified().await;
}

#[tokio::test]
async fn who_has_lost_the_task_stops_the_model() {
    let (house, worker) = opened().await;
    *house.asked.hangs.lock().unwrap() = true;
    let args = json!({"model": "openai/m", "messages": [], "stream": true});
    let (monitor, dropped) = (house.monitor.clone(), house.asked.dropped.clone());
    let (caller, lease) = (worker.caller.clone(), worker.lease.clone());
    let calling = tokio::spawn(async move {
        let request = agentos_monitor::CallRequest { step: "tale".into(), syscall: "model.call".into(), args };
        monitor.call(&caller, &lease, request).await
    });
    let talking = async {
        while told(&house, &worker).await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, talking).await.unwrap();
    house.take_over(&worker).await;
    tokio::time::timeout(PATIENCE, dropped.notified()).await.expect("the model is stopped");
    house.refused(calling.await.unwrap(), Code::LEASE_LOST);
    house.verified().await;
}
