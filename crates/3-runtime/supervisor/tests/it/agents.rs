//! The rows of agents: versions never go back, and what is installed is what was signed.

use agentos_supervisor::{AgentCommand, agents};
use agentos_types::{Actor, Code, agent::AgentState};
use serde_json::json;

use crate::harness::{World, name};

#[tokio::test(flavor = "multi_thread")]
async fn versions_never_go_back() {
    let world = World::new().await;
    world.deploy("steps", json!({"version": "1.2.0"})).await;
    for (change, message) in [
        (json!({"version": "1.1.9"}), "goes back"),
        (json!({"version": "0.99.0"}), "goes back"),
        (json!({"version": "1.2.0", "description": "other"}), "other content"),
    ] {
        let fault = world.try_deploy("steps", change).await.unwrap_err();
        assert_eq!(fault.code, Code::VERSION_ROLLBACK);
        assert!(fault.message.contains(message), "{}", fault.message);
    }
    let deploys = || world.audit.lock().unwrap().iter().filter(|event| event.action == "agent.deploy").count();
    assert_eq!(deploys(), 1);
    world.deploy("steps", json!({"version": "1.2.0"})).await;
    assert_eq!(deploys(), 1, "the same again changes nothing");
    world.deploy("steps", json!({"version": "1.10.0"})).await;
    assert_eq!(world.agent(&name("steps")).await.version, "1.10.0");
    // Not even by way of a termination.
    world.command(&name("steps"), AgentCommand::Terminate).await.unwrap();
    assert_eq!(world.try_deploy("steps", json!({})).await.unwrap_err().code, Code::VERSION_ROLLBACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_shown_as_it_was_signed() {
    let world = World::new().await;
    let grants = json!([{"category": "kv", "actions": ["read"], "resources": ["*"]}]);
    let deployment =
        world.package("shown", json!({"description": "a test", "grants": grants, "trust_level": "semi-autonomous"}));
    let (sha256, keyid) = (deployment.manifest_sha256.clone(), deployment.signed_by.clone());
    let actor = Actor::Anonymous { peer: "test".into() };
    world.supervisor.deploy(&actor, deployment).await.unwrap();
    let shown = world.in_state(&name("shown"), AgentState::Ready).await;
    assert_eq!((shown.description.as_str(), &shown.manifest_sha256, &shown.signed_by), ("a test", &sha256, &keyid));
    assert_eq!(serde_json::to_value(&shown.grants).unwrap(), grants);
    assert!(shown.pid.is_some() && shown.instance.is_some() && !shown.controls.is_empty());
    assert_eq!(world.supervisor.list().await.unwrap().len(), 1);
    let audit = world.audit.lock().unwrap().clone();
    let deploy = audit.iter().find(|event| event.action == "agent.deploy").unwrap();
    assert_eq!((&deploy.actor, &deploy.facts["manifest_sha256"]), (&actor, &json!(sha256)));
    let start = audit.iter().find(|event| event.action == "agent.state").unwrap();
    assert_eq!((&start.actor, &start.facts["to"]), (&actor, &json!("starting")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_agent_is_not_found() {
    let world = World::new().await;
    let nobody = name("nobody");
    assert_eq!(world.supervisor.get(&nobody).await.unwrap_err().code, Code::AGENT_NOT_FOUND);
    assert_eq!(world.supervisor.logs(&nobody, 1).await.unwrap_err().code, Code::AGENT_NOT_FOUND);
    assert_eq!(world.command(&nobody, AgentCommand::Pause).await.unwrap_err().code, Code::AGENT_NOT_FOUND);
    let missing = world.store.read(move |conn| agents::manifest(conn, &nobody)).await;
    assert_eq!(missing.unwrap_err().code, Code::AGENT_NOT_FOUND);
}
