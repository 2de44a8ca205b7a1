use std::collections::HashSet;

use super::*;

/// Rows are events, columns states, `-` means not possible. Written out so that a change of the table is a change here.
const EXPECTED: &str = "
              installed   starting    ready       running     paused      backing-off quarantined failed      terminated
deploy        starting    starting    starting    starting    paused      starting    starting    starting    -
boot          starting    starting    starting    starting    -           starting    -           -           -
start         starting    -           -           -           starting    -           -           -           -
ready         -           ready       -           -           paused      -           -           -           -
task-assigned -           -           running     -           -           -           -           -           -
idle          -           -           -           ready       -           -           -           -           -
pause         paused      paused      paused      paused      -           paused      -           -           -
resume        -           -           -           -           ready       -           -           -           -
restart       starting    starting    starting    starting    starting    starting    starting    starting    -
crash         -           backing-off backing-off backing-off paused      -           -           -           -
hang          -           backing-off backing-off backing-off paused      -           -           -           -
launch-failed -           backing-off -           -           paused      -           -           -           -
launcher-lost -           backing-off backing-off backing-off paused      -           -           -           -
refused       -           failed      -           -           -           -           -           -           -
backoff-over  -           -           -           -           -           starting    -           -           -
failure-limit -           -           -           -           -           quarantined -           -           -
terminate     terminated  terminated  terminated  terminated  terminated  terminated  terminated  terminated  -
";

#[test]
fn every_state_and_event_is_as_written() {
    let mut lines = EXPECTED.lines().filter(|line| !line.is_empty());
    let columns: Vec<_> =
        lines.next().unwrap().split_whitespace().map(|text| AgentState::parse(text).unwrap()).collect();
    assert_eq!(columns, AgentState::ALL);
    let mut rows = 0;
    for (line, event) in lines.zip(Event::ALL) {
        let mut cells = line.split_whitespace();
        assert_eq!(cells.next(), Some(event.as_str()));
        for (state, cell) in columns.iter().zip(cells.by_ref()) {
            let expected = (cell != "-").then(|| AgentState::parse(cell).unwrap());
            assert_eq!(next(*state, event), expected, "{state} on {event}");
        }
        assert_eq!(cells.next(), None);
        rows += 1;
    }
    assert_eq!(rows, Event::ALL.len());
}

#[test]
fn terminated_is_final_and_every_other_state_can_be_terminated() {
    for state in AgentState::ALL {
        let end = next(state, Event::Terminate);
        assert_eq!(end.is_none(), state == AgentState::Terminated);
        assert!(Event::ALL.iter().all(|event| next(AgentState::Terminated, *event).is_none()));
    }
}

#[test]
fn every_state_can_be_reached() {
    let mut reached = HashSet::from([AgentState::Installed]);
    // Nine states are found in at most eight rounds.
    for _ in 0..AgentState::ALL.len() {
        let more: Vec<_> =
            reached.iter().flat_map(|state| Event::ALL.iter().filter_map(|event| next(*state, *event))).collect();
        reached.extend(more);
    }
    assert_eq!(reached.len(), AgentState::ALL.len());
}

#[test]
fn only_a_person_leads_out_of_quarantine_and_failure() {
    for state in [AgentState::Quarantined, AgentState::Failed] {
        let leaving: Vec<_> = Event::ALL.into_iter().filter(|event| next(state, *event).is_some()).collect();
        assert_eq!(leaving, [Event::Deploy, Event::Restart, Event::Terminate], "{state}");
    }
}
