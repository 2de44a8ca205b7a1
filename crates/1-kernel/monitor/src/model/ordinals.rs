//! Which of several equal requests of one attempt this is: a task that asks the same thing twice wants two answers, and after a
//! crash each of them again.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use agentos_tasks::Lease;
use agentos_types::{TaskId, Timestamp};

/// Attempts that are remembered. More are at work on no node; the one that was silent longest makes room.
const ATTEMPTS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Ordinals(Mutex<HashMap<TaskId, Attempt>>);

#[derive(Debug)]
struct Attempt {
    fence: i64,
    /// By the hash of the request. Bounded by the steps that a task may have.
    asked: HashMap<[u8; 32], u64>,
    used_at: Timestamp,
}

impl Ordinals {
    /// Counts from 1 in each attempt.
    pub(crate) fn next(&self, lease: &Lease, hash: &[u8; 32], now: Timestamp) -> u64 {
        // Counts: whole after any panic.
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if attempts.len() >= ATTEMPTS_MAX && !attempts.contains_key(&lease.task) {
            let oldest = attempts.iter().min_by_key(|(_, attempt)| attempt.used_at).map(|(task, _)| task.clone());
            oldest.map(|task| attempts.remove(&task));
        }
        let fresh = || Attempt { fence: lease.fence, asked: HashMap::new(), used_at: now };
        let attempt = attempts.entry(lease.task.clone()).or_insert_with(fresh);
        if attempt.fence != lease.fence {
            *attempt = fresh();
        }
        attempt.used_at = now;
        let ordinal = attempt.asked.entry(*hash).or_default();
        *ordinal += 1;
        *ordinal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_requests_are_counted_in_each_attempt_anew() {
        let ordinals = Ordinals::default();
        let now = Timestamp::ZERO;
        let lease = |task: &str, fence| Lease {
            task: task.parse().unwrap(),
            agent: "a".parse().unwrap(),
            fence,
            until: now,
            traceparent: String::new(),
        };
        let (one, other) = ("task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E", "task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2F");
        let next = |lease: &Lease, hash| ordinals.next(lease, &[hash; 32], now);
        assert_eq!([next(&lease(one, 1), 1), next(&lease(one, 1), 1), next(&lease(one, 1), 2)], [1, 2, 1]);
        assert_eq!(next(&lease(other, 1), 1), 1);
        assert_eq!([next(&lease(one, 2), 1), next(&lease(one, 2), 1)], [1, 2], "another attempt counts anew");
    }
}
