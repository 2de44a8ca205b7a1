//! Notices on their way between the nodes of a database: words in the payload of a NOTIFY, told with the commit.
//!
//! Hints and nothing more. Whoever hears one reads the state, and whoever hears none finds the work at its next look.

use std::collections::BTreeSet;

use agentos_types::notify::Notice;

/// The channel. Names are per database, and the schema has the same one.
pub(super) const CHANNEL: &str = "agent_os";
/// Postgres takes less than 8,000.
const PAYLOAD_BYTES_MAX: usize = 7_900;
/// Hints of one commit. A full batch of 512 operations has about eight; beyond that everybody is told to read again.
const PAYLOADS_MAX: usize = 12;

/// Statements that go ahead of a COMMIT, each ended; empty where there is nothing to say.
pub(crate) fn statements(notices: &[Notice]) -> String {
    let words: BTreeSet<String> = notices.iter().map(word).collect();
    let mut payloads: Vec<String> = Vec::new();
    for word in &words {
        match payloads.last_mut() {
            Some(last) if last.len() + 1 + word.len() <= PAYLOAD_BYTES_MAX => {
                last.push(' ');
                last.push_str(word);
            }
            _ => payloads.push(word.clone()),
        }
    }
    if payloads.len() > PAYLOADS_MAX {
        payloads = vec![self::word(&Notice::Missed)];
    }
    // Ids and names have no quote in them; one that had would end the statement early.
    payloads.iter().map(|payload| format!("NOTIFY {CHANNEL}, '{}'; ", payload.replace('\'', ""))).collect()
}

/// What a payload says. A word that this program does not know comes from a later one: something changed.
pub(super) fn notices(payload: &str) -> Vec<Notice> {
    let notices: Vec<Notice> = payload.split(' ').filter(|word| !word.is_empty()).map(notice).collect();
    if notices.contains(&Notice::Missed) { vec![Notice::Missed] } else { notices }
}

fn word(notice: &Notice) -> String {
    match notice {
        Notice::TaskEvents(task) => format!("event:{task}"),
        Notice::WorkFor(agent) => format!("work:{agent}"),
        Notice::CancelAsked { agent, task } => format!("cancel:{agent}:{task}"),
        Notice::Agent(name) => format!("agent:{name}"),
        Notice::Schedules => "schedules".to_owned(),
        Notice::Audit => "audit".to_owned(),
        Notice::Budgets => "budgets".to_owned(),
        Notice::Tokens => "tokens".to_owned(),
        Notice::Models => "models".to_owned(),
        Notice::Missed => "missed".to_owned(),
    }
}

fn notice(word: &str) -> Notice {
    let parts: Vec<&str> = word.split(':').collect();
    let known = match parts.as_slice() {
        ["event", task] => task.parse().ok().map(Notice::TaskEvents),
        ["work", agent] => agent.parse().ok().map(Notice::WorkFor),
        ["cancel", agent, task] => {
            agent.parse().ok().zip(task.parse().ok()).map(|(agent, task)| Notice::CancelAsked { agent, task })
        }
        ["agent", name] => name.parse().ok().map(Notice::Agent),
        ["schedules"] => Some(Notice::Schedules),
        ["audit"] => Some(Notice::Audit),
        ["budgets"] => Some(Notice::Budgets),
        ["tokens"] => Some(Notice::Tokens),
        ["models"] => Some(Notice::Models),
        _ => None,
    };
    known.unwrap_or(Notice::Missed)
}

#[cfg(test)]
mod tests {
    use agentos_types::{AgentName, TaskId, Timestamp};

    use super::*;

    fn task(number: u128) -> TaskId {
        TaskId::generate(Timestamp::ZERO, number)
    }

    fn payloads(statements: &str) -> Vec<String> {
        statements.split('\'').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_notice_comes_back() {
        let agent: AgentName = "echo-1".parse().unwrap();
        let all = [
            Notice::TaskEvents(task(1)),
            Notice::WorkFor(agent.clone()),
            Notice::CancelAsked { agent: agent.clone(), task: task(2) },
            Notice::Agent(agent),
            Notice::Schedules,
            Notice::Audit,
            Notice::Budgets,
            Notice::Tokens,
            Notice::Models,
        ];
        let told = payloads(&statements(&[&all[..], &all[..]].concat()));
        assert_eq!(told.len(), 1);
        let heard = notices(&told[0]);
        assert_eq!(heard.len(), all.len(), "each once: {heard:?}");
        assert!(all.iter().all(|notice| heard.contains(notice)), "{heard:?}");
        assert_eq!(statements(&[]), "");
    }

    #[test]
    fn a_full_batch_is_told_in_pieces_and_more_than_that_in_one_word() {
        let many = |count: u128| (0..count).map(|number| Notice::TaskEvents(task(number))).collect::<Vec<_>>();
        let told = payloads(&statements(&many(1_536)));
        assert!(told.len() > 1 && told.len() <= PAYLOADS_MAX, "{}", told.len());
        assert!(told.iter().all(|payload| payload.len() <= PAYLOAD_BYTES_MAX));
        let heard: usize = told.iter().map(|payload| notices(payload).len()).sum();
        assert_eq!(heard, 1_536);
        assert_eq!(payloads(&statements(&many(10_000))), ["missed"]);
    }

    #[test]
    fn what_is_not_understood_means_that_something_changed() {
        for payload in ["later:thing", "work:Not A Name", "event:x", "audit later", "work:a'b", "cancel:a", "\u{1}"] {
            assert_eq!(notices(payload), [Notice::Missed], "{payload}");
        }
        assert_eq!(notices("  "), []);
    }
}
