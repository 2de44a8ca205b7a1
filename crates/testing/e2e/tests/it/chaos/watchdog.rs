//! How soon an agent is back: within ten seconds of one failure of any kind, with the times that a manifest gets when it
//! names none; within a minute of repeated ones, or in quarantine with the reason.

use std::{fmt, time::Duration};

use agentos_client::Client;
use agentos_kit::{Package, TestOs, eventually, until};
use agentos_supervisor::lifecycle::Event;
use agentos_types::{
    AgentName, Code, Timestamp,
    agent::{Agent, AgentState},
};
use rustix::process::Signal;
use serde_json::json;

use super::{
    processes,
    transitions::{self, Transition},
};

const ONE_FAILURE: Duration = Duration::from_secs(10);
const REPEATED_FAILURES: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum Failure {
    Signal(Signal),
    /// The worker does it by itself when a task asks for it.
    Action(&'static str),
}

/// What the log says about one failure.
#[derive(Debug)]
struct Recovery {
    event: Event,
    noticed: Duration,
    ready: Duration,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} noticed after {:.0?}, ready after {:.0?}", self.event, self.noticed, self.ready)
    }
}

#[tokio::test]
async fn one_failure_of_any_kind_is_over_within_ten_seconds() {
    let os = TestOs::start().await;
    let bystander = os.deploy(&Package::echo("bystander", "")).await;
    let failures = [
        ("killed", "", Failure::Signal(Signal::KILL), Event::Crash),
        ("aborted", "", Failure::Signal(Signal::ABORT), Event::Crash),
        ("exited", "", Failure::Action("exit"), Event::Crash),
        ("broke-the-protocol", "", Failure::Action("garbage"), Event::Crash),
        ("stopped", "", Failure::Signal(Signal::STOP), Event::Hang),
        ("hung", "", Failure::Action("hang"), Event::Hang),
        ("stopped-and-closely-watched", "[health]\nheartbeat_ms = 200\n", Failure::Signal(Signal::STOP), Event::Hang),
        ("spun", "", Failure::Action("spin"), Event::Hang),
    ];
    for (name, manifest, ..) in failures {
        os.deploy(&Package::rogue(name, manifest)).await;
    }
    // All at the same time: their waits do not add up, and one agent's trouble is not the other's.
    let checks = failures.map(|(name, _, failure, expected)| {
        let os = &os;
        async move {
            let recovery = strike(os, name, failure).await;
            println!("{name}: {recovery}");
            assert_eq!(recovery.event, expected, "{name}");
            assert!(recovery.ready <= ONE_FAILURE, "{name}: {recovery:?}");
        }
    });
    futures_util::future::join_all(checks).await;
    let present = os.client().get_agent(&bystander.name).await.unwrap();
    assert_eq!((present.pid, present.restarts), (bystander.pid, 0), "the bystander is unharmed");
}

#[tokio::test]
async fn repeated_failures_are_over_within_a_minute_or_end_in_quarantine() {
    let os = TestOs::start().await;
    os.deploy(&Package::rogue("unlucky", "")).await;
    for failure in 1..=5 {
        let recovery = strike(&os, "unlucky", Failure::Signal(Signal::KILL)).await;
        println!("failure {failure}: {recovery}");
        assert!(recovery.ready <= REPEATED_FAILURES, "failure {failure}: {recovery:?}");
    }
    let given_up = os.deploy(&Package::rogue("hopeless", "[health]\nfailures_max = 3\n")).await;
    for _ in 1..3 {
        strike(&os, "hopeless", Failure::Action("exit")).await;
    }
    let begun = Timestamp(now_us());
    fail(&os, &given_up.name, Failure::Action("exit")).await;
    let agent = os.agent_in(&given_up.name, &[AgentState::Quarantined]).await;
    assert!(agent.state_since.since(begun) <= REPEATED_FAILURES);
    let reason = agent.reason.unwrap();
    for part in [Code::AGENT_QUARANTINED.to_string().as_str(), "3 failures", "exited with status 1"] {
        assert!(reason.contains(part), "the reason lacks '{part}': {reason}");
    }
    assert_eq!(agent.pid, None, "nothing of it runs");
    until("no worker but the other", || async { processes::workers(os.server_pid()).len() == 1 }).await;
    transitions::check(&transitions::recorded(&os.client()).await).unwrap();
}

/// Makes the agent fail once and waits until it is back with another process.
async fn strike(os: &TestOs, name: &str, failure: Failure) -> Recovery {
    let name: AgentName = name.parse().unwrap();
    let client = os.client();
    let begun = Timestamp(now_us());
    let before = fail(os, &name, failure).await;
    eventually(&format!("{name} back after {failure:?}"), || async {
        let present = client.get_agent(&name).await.unwrap();
        let at_work = matches!(present.state, AgentState::Ready | AgentState::Running);
        let another = present.instance.is_some() && present.instance != before.instance;
        if at_work && another { Ok(()) } else { Err(present.state) }
    })
    .await;
    read_recovery(&client, &name, begun).await
}

/// Returns the agent as it was before.
async fn fail(os: &TestOs, name: &AgentName, failure: Failure) -> Agent {
    let client = os.client();
    let before = os.agent_in(name, &[AgentState::Ready, AgentState::Running]).await;
    match failure {
        Failure::Signal(signal) => {
            assert!(processes::strike(os.server_pid(), before.pid.unwrap(), signal), "{name} is there to be struck");
        }
        Failure::Action(action) => {
            let body = json!({"agent": name, "input": {"action": action}, "attempts_max": 1});
            client.submit_task(&serde_json::from_value(body).unwrap(), None).await.unwrap();
        }
    }
    before
}

async fn read_recovery(client: &Client, name: &AgentName, begun: Timestamp) -> Recovery {
    let story = transitions::recorded(client).await;
    let mut since = story.iter().filter(|one| one.agent == name.as_str() && one.at >= begun);
    let is_failure = |one: &&Transition| matches!(one.event, Event::Crash | Event::Hang);
    let noticed = since.find(is_failure).unwrap();
    let ready = since.find(|one| one.event == Event::Ready).unwrap();
    Recovery { event: noticed.event, noticed: noticed.at.since(begun), ready: ready.at.since(begun) }
}

fn now_us() -> i64 {
    let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since_epoch.as_micros()).unwrap()
}
