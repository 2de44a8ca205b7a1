//! The lifecycle as the audit log tells it, held against the table.

use std::collections::BTreeMap;

use agentos_api::body::{AuditFilter, AuditRecord};
use agentos_client::Client;
use agentos_supervisor::lifecycle::{self, Event};
use agentos_types::{Timestamp, agent::AgentState};

#[derive(Clone, Debug)]
pub struct Transition {
    pub agent: String,
    pub at: Timestamp,
    pub from: AgentState,
    pub to: AgentState,
    pub event: Event,
}

/// All transitions of all agents, oldest first.
pub async fn recorded(client: &Client) -> Vec<Transition> {
    let mut filter = AuditFilter {
        action: Some("agent.state".to_owned()),
        ascending: true,
        limit: Some(500),
        ..AuditFilter::default()
    };
    let mut found = Vec::new();
    loop {
        let page = client.query_audit(&filter).await.unwrap();
        found.extend(page.items.iter().map(read));
        match page.next_cursor {
            Some(cursor) => filter.cursor = Some(cursor.parse().unwrap()),
            None => return found,
        }
    }
}

fn read(record: &AuditRecord) -> Transition {
    let fact = |name: &str| record.facts[name].as_str().unwrap();
    let state = |name: &str| AgentState::parse(fact(name)).unwrap();
    let event = Event::ALL.into_iter().find(|event| event.as_str() == fact("event")).unwrap();
    Transition { agent: record.resource.clone(), at: record.at, from: state("from"), to: state("to"), event }
}

/// Every transition is one of the table, and each begins where the one before it has ended.
pub fn check(transitions: &[Transition]) -> Result<(), String> {
    let mut present: BTreeMap<&str, AgentState> = BTreeMap::new();
    for one in transitions {
        if lifecycle::next(one.from, one.event) != Some(one.to) {
            return Err(format!("not in the table: {one:?}"));
        }
        let before = present.insert(&one.agent, one.to).unwrap_or(AgentState::Installed);
        // A new agent begins under the name of one that was terminated.
        let revived = before == AgentState::Terminated && one.from == AgentState::Installed;
        if one.from != before && !revived {
            return Err(format!("follows {before}: {one:?}"));
        }
    }
    Ok(())
}

#[test]
fn a_jump_a_gap_and_a_return_from_the_dead_are_seen() {
    use AgentState::*;
    let one = |from, event, to| Transition { agent: "a".into(), at: Timestamp(0), from, to, event };
    let start = one(Installed, Event::Start, Starting);
    let ready = one(Starting, Event::Ready, Ready);
    let terminated = one(Ready, Event::Terminate, Terminated);
    assert!(check(&[start.clone(), ready.clone(), terminated.clone(), start.clone()]).is_ok());
    assert!(check(&[start.clone(), one(Starting, Event::Ready, Running)]).is_err(), "no such line in the table");
    assert!(check(&[start.clone(), one(Ready, Event::Pause, Paused)]).is_err(), "a transition is missing");
    assert!(check(&[start, ready.clone(), terminated, one(Ready, Event::Pause, Paused)]).is_err(), "it was terminated");
    assert!(check(&[ready]).is_err(), "nothing begins in the middle");
}
