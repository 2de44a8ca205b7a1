//! What must be true when the storm is over.

use agentos_kit::{TestOs, until};
use agentos_types::task::TaskState;
use serde_json::json;

use super::{Census, agents::Storm};
use crate::chaos::{processes, transitions};

/// Every accepted task ended once, and the agents' own counters say that each has counted once.
pub async fn every_task_is_done_once(storm: &Storm<'_>) {
    let mut attempts = 0;
    let mut total = 0;
    for agent in &storm.agents {
        let accepted = agent.accepted.lock().unwrap().clone();
        for id in &accepted {
            let task = storm.client.get_task(id).await.unwrap();
            assert_eq!(task.state, TaskState::Completed, "{id}: {:?}", task.failure);
            let events = storm.client.task_events(id, 0, 500).await.unwrap();
            let endings = events.iter().filter(|event| {
                let state = event.data["state"].as_str().and_then(TaskState::parse);
                event.kind == "state" && state.is_some_and(TaskState::is_terminal)
            });
            assert_eq!(endings.count(), 1, "{id} ends once: {events:?}");
            attempts += task.attempt;
        }
        let counted = storm.ask(agent, "read").await.output;
        assert_eq!(counted, Some(json!(accepted.len())), "{}: each task counts once", agent.name);
        total += accepted.len();
    }
    println!("{total} tasks in {attempts} attempts");
}

/// Among the workers is the canary alone; of all others that were ever seen none is left, not even as a zombie.
pub async fn only_the_canary_lives(server: u32, canary: u32, census: &Census) {
    until("the end of all other workers", || async {
        let workers = processes::workers(server);
        let left = census.seen.iter().filter(|process| process.pid != canary && process.exists()).count();
        left == 0 && workers.len() == 1 && workers[0].process.pid == canary && workers[0].state != 'Z'
    })
    .await;
}

pub async fn descriptors_return(server: u32, most: usize) {
    until(&format!("at most {most} open descriptors"), || async { processes::descriptors(server) <= most }).await;
}

pub async fn the_log_tells_a_lawful_story(os: &TestOs) {
    let client = os.client();
    let story = transitions::recorded(&client).await;
    transitions::check(&story).unwrap();
    println!("{} transitions", story.len());
    let verification = client.verify_audit().await.unwrap();
    assert!(verification.valid, "{verification:?}");
}
