//! What keeps a program that spins from filling the audit log: the first of each refusal is a record, the same again is
//! counted, and the counts are records of their own a minute later. Nothing that was refused is left out of the count.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use agentos_authority::Caller;
use agentos_types::{AgentName, InstanceId, Timestamp};

/// Refusals that differ, for one process in one period. Whoever tries more than these is looking for a hole, and the
/// count says so as well as the list would.
const DISTINCT_MAX: usize = 32;
/// Names that are remembered as recorded. A grant with a star has no end of names; past this the record comes again.
const NAMES_MAX: usize = 1_024;
const PERIOD: Duration = Duration::from_secs(60);

/// What makes two refusals the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Refused {
    pub action: &'static str,
    pub shown: String,
    pub reason: String,
}

/// Refusals that were not recorded one by one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// Absent: refusals beyond those that were told apart.
    pub of: Option<Refused>,
    pub times: u64,
}

/// Whose counts they are.
pub(super) type Who = (AgentName, InstanceId);

/// One entry for each process that has a way out, until it is taken out.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    processes: HashMap<InstanceId, Process>,
}

#[derive(Debug)]
struct Process {
    agent: AgentName,
    began_at: Option<Timestamp>,
    refused: BTreeMap<Refused, u64>,
    others: u64,
    names: BTreeSet<String>,
}

impl Repeats {
    /// Whether this refusal has to be recorded itself. Otherwise it was counted.
    pub(super) fn is_new(&mut self, caller: &Caller, refused: &Refused, now: Timestamp) -> bool {
        let process = self.process(caller);
        process.began_at.get_or_insert(now);
        let known = process.refused.len();
        match process.refused.get_mut(refused) {
            Some(times) => *times += 1,
            None if known < DISTINCT_MAX => {
                process.refused.insert(refused.clone(), 0);
                return true;
            }
            None => process.others += 1,
        }
        false
    }

    /// The record of a new refusal failed: the next of its kind is new again.
    pub(super) fn forget(&mut self, instance: &InstanceId, refused: &Refused) {
        if let Some(process) = self.processes.get_mut(instance) {
            process.refused.remove(refused);
        }
    }

    /// Whether the allowance of this name was not recorded yet.
    pub(super) fn is_new_name(&self, instance: &InstanceId, name: &str) -> bool {
        self.processes.get(instance).is_none_or(|process| !process.names.contains(name))
    }

    pub(super) fn name_recorded(&mut self, caller: &Caller, name: &str) {
        let process = self.process(caller);
        if process.names.len() >= NAMES_MAX {
            process.names.clear();
        }
        process.names.insert(name.to_owned());
    }

    /// Processes whose period is over.
    pub(super) fn due(&self, now: Timestamp) -> Vec<Who> {
        let is_over = |process: &Process| process.began_at.is_some_and(|began_at| now.since(began_at) >= PERIOD);
        let due = self.processes.iter().filter(|(_, process)| is_over(process));
        due.map(|(instance, process)| (process.agent.clone(), instance.clone())).collect()
    }

    /// Ends the period and takes what was counted in it.
    pub(super) fn take(&mut self, instance: &InstanceId) -> Vec<Summary> {
        let Some(process) = self.processes.get_mut(instance) else { return Vec::new() };
        process.began_at = None;
        let repeated = std::mem::take(&mut process.refused).into_iter().filter(|(_, times)| *times > 0);
        let mut summaries: Vec<Summary> =
            repeated.map(|(refused, times)| Summary { of: Some(refused), times }).collect();
        let others = std::mem::take(&mut process.others);
        if others > 0 {
            summaries.push(Summary { of: None, times: others });
        }
        // A question that came in after its process had ended leaves nothing behind.
        if process.names.is_empty() && summaries.is_empty() {
            self.processes.remove(instance);
        }
        summaries
    }

    /// The record of what was taken failed: it is counted on.
    pub(super) fn give_back(&mut self, instance: &InstanceId, summaries: Vec<Summary>, now: Timestamp) {
        let Some(process) = self.processes.get_mut(instance) else { return };
        process.began_at.get_or_insert(now);
        for Summary { of, times } in summaries {
            match of {
                Some(refused) if process.refused.len() < DISTINCT_MAX || process.refused.contains_key(&refused) => {
                    *process.refused.entry(refused).or_default() += times;
                }
                _ => process.others += times,
            }
        }
    }

    fn process(&mut self, caller: &Caller) -> &mut Process {
        self.processes.entry(caller.instance.clone()).or_insert_with(|| Process {
            agent: caller.agent.clone(),
            began_at: None,
            refused: BTreeMap::new(),
            others: 0,
            names: BTreeSet::new(),
        })
    }

    /// The process is over.
    pub(super) fn remove(&mut self, instance: &InstanceId) {
        self.processes.remove(instance);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use agentos_authority::GrantSet;
    use agentos_base::Ambient;

    use super::*;

    fn refused(shown: &str) -> Refused {
        Refused { action: "egress.connect", shown: shown.into(), reason: "AOS-1401".into() }
    }

    fn callers() -> [Caller; 2] {
        let (ambient, _) = Ambient::fake(1, Timestamp::ZERO);
        [(); 2].map(|()| Caller {
            agent: "a".parse().unwrap(),
            instance: ambient.instance_id(),
            grants: Arc::new(GrantSet::compile(&[]).unwrap()),
            calls_per_minute: 1,
        })
    }

    #[test]
    fn every_refusal_is_recorded_or_counted() {
        let [one, other] = callers();
        let mut repeats = Repeats::default();
        let (mut recorded, now) = (0, Timestamp::from_millis(5));
        for round in 0..10_u64 {
            for host in 0..100 {
                recorded += u64::from(repeats.is_new(&one, &refused(&format!("h{host}")), now));
                assert!(round > 0 || host > 0 || recorded == 1, "the first is told at once");
            }
        }
        assert_eq!(recorded, DISTINCT_MAX as u64);
        assert!(repeats.is_new(&other, &refused("h0"), now), "processes are counted apart");
        assert!(repeats.due(now).is_empty());
        assert_eq!(repeats.due(now.after(PERIOD)).len(), 2);
        let summaries = repeats.take(&one.instance);
        let counted = |summaries: &[Summary]| summaries.iter().map(|summary| summary.times).sum::<u64>();
        assert_eq!(recorded + counted(&summaries), 1_000);
        assert_eq!(summaries.len(), DISTINCT_MAX + 1);
        assert_eq!(repeats.due(now.after(PERIOD)).len(), 1);
        repeats.give_back(&one.instance, summaries, now);
        assert_eq!(recorded + counted(&repeats.take(&one.instance)), 1_000, "what could not be written is counted on");
        assert!(repeats.is_new(&one, &refused("h0"), now), "a new period tells again");
    }

    #[test]
    fn a_record_that_failed_is_tried_again_and_names_are_told_once() {
        let [caller, _] = callers();
        let mut repeats = Repeats::default();
        assert!(repeats.is_new(&caller, &refused("a"), Timestamp::ZERO));
        repeats.forget(&caller.instance, &refused("a"));
        assert!(repeats.is_new(&caller, &refused("a"), Timestamp::ZERO));
        assert!(repeats.is_new_name(&caller.instance, "a.example"));
        repeats.name_recorded(&caller, "a.example");
        assert!(!repeats.is_new_name(&caller.instance, "a.example"));
        for number in 0..NAMES_MAX {
            repeats.name_recorded(&caller, &format!("{number}.example"));
        }
        assert!(repeats.is_new_name(&caller.instance, "a.example"), "the memory has a bound");
        repeats.remove(&caller.instance);
        assert!(repeats.processes.is_empty());
    }
}
