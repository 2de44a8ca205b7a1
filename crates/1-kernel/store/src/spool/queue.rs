//! What is in the file and not yet in the database, in memory, on its way to the writer.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use agentos_types::audit::AuditEvent;

use super::frame::Link;

/// Events that one transaction takes: some 20 ms of sealing, which whoever writes meanwhile waits for.
pub(crate) const DRAIN_MAX: usize = 2_048;
/// Beyond these a caller waits for a commit, which takes what has gathered. Reading it back after a crash takes a second.
const EVENTS_MAX: usize = 8_192;
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// If nothing else commits, a transaction is asked for this long after the first record. Sealing takes a processor from whoever is
/// served, each time: rarely and much at a time disturbs the fewest. A reader of the log does not wait for it.
const GATHER: Duration = Duration::from_millis(100);
/// So many events do not wait any longer: they fill a transaction.
const RIPE: usize = DRAIN_MAX;
/// The same after one that failed.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Held {
    number: u64,
    link: Link,
    events: Vec<AuditEvent>,
    bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    held: VecDeque<Held>,
    /// Of everything that the database does not have, what the writer holds included.
    events: usize,
    bytes: usize,
    drained_to: u64,
    /// When a transaction is asked for, if something waits and none was.
    due: Option<Instant>,
    is_asked: bool,
}

/// What the writer holds until a commit succeeds.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// In the order of their frames. A transaction borrows them.
    pub(crate) events: Vec<AuditEvent>,
    bytes: usize,
    newest: Option<(u64, Link)>,
}

impl Backlog {
    pub(super) fn newest(&self) -> Option<(u64, Link)> {
        self.newest
    }
}

impl Queue {
    pub(super) fn has_room(&self, events: usize, bytes: usize) -> bool {
        self.events.saturating_add(events) <= EVENTS_MAX && self.bytes.saturating_add(bytes) <= BYTES_MAX
    }

    /// True if the first or enough wait now: somebody has to see to it that a transaction comes.
    pub(super) fn push(&mut self, number: u64, link: Link, events: Vec<AuditEvent>, bytes: usize) -> bool {
        let (is_first, was_ripe) = (self.events == 0, self.events >= RIPE);
        self.events = self.events.saturating_add(events.len());
        self.bytes = self.bytes.saturating_add(bytes);
        self.held.push_back(Held { number, link, events, bytes });
        let is_ripe = self.events >= RIPE && !was_ripe;
        if is_ripe {
            self.due = Some(Instant::now());
        } else if is_first {
            self.due = Some(Instant::now() + GATHER);
        }
        is_first || is_ripe
    }

    pub(super) fn drained_to(&self) -> u64 {
        self.drained_to
    }

    pub(super) fn hand_over(&mut self, backlog: &mut Backlog) {
        while backlog.events.len() < DRAIN_MAX
            && let Some(mut held) = self.held.pop_front()
        {
            backlog.events.append(&mut held.events);
            backlog.bytes = backlog.bytes.saturating_add(held.bytes);
            backlog.newest = Some((held.number, held.link));
        }
    }

    /// Returns how many events the database has now that it did not have.
    pub(super) fn drained(&mut self, backlog: &mut Backlog) -> usize {
        let done = std::mem::take(backlog);
        self.events = self.events.saturating_sub(done.events.len());
        self.bytes = self.bytes.saturating_sub(done.bytes);
        self.drained_to = done.newest.map_or(self.drained_to, |(number, _)| number);
        self.due = self.next();
        done.events.len()
    }

    /// When what was left, or came meanwhile, asks for a transaction of its own.
    fn next(&self) -> Option<Instant> {
        let pause = if self.events >= RIPE { Duration::ZERO } else { GATHER };
        (self.events > 0).then(|| Instant::now() + pause)
    }

    /// When to ask for a transaction.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.is_asked)
    }

    pub(super) fn asked(&mut self) {
        self.is_asked = true;
    }

    /// The transaction that was asked for has ended, or there was no room to ask.
    pub(super) fn answered(&mut self, is_done: bool) {
        self.is_asked = false;
        self.due = if is_done { self.next() } else { (self.events > 0).then(|| Instant::now() + AGAIN) };
    }
}

#[cfg(test)]
mod tests {
    use agentos_base::Ambient;
    use agentos_types::{Actor, Timestamp};

    use super::*;

    fn push(queue: &mut Queue, number: u64, count: usize) -> bool {
        let (ambient, _) = Ambient::fake(number, Timestamp::from_millis(1));
        let event = || AuditEvent::new(ambient.event_id(), ambient.now(), Actor::System, "test.act", "it".to_owned());
        queue.push(number, Link::default(), (0..count).map(|_| event()).collect(), count)
    }

    #[test]
    fn few_wait_for_more_and_many_do_not_wait() {
        let mut queue = Queue::default();
        let before = Instant::now();
        assert!(push(&mut queue, 1, 1), "somebody has to wait for the first");
        assert!(queue.due().unwrap() >= before + GATHER);
        assert!(!push(&mut queue, 2, RIPE - 2), "somebody waits already");
        assert!(queue.due().unwrap() >= before + GATHER);
        assert!(push(&mut queue, 3, 1), "enough for a transaction of their own");
        assert!(queue.due().unwrap() <= Instant::now());
        assert!(!push(&mut queue, 4, 1), "that is known already");
        queue.asked();
        assert_eq!(queue.due(), None, "nobody asks twice");
    }

    #[test]
    fn what_a_transaction_leaves_is_asked_for_at_once_only_if_it_is_much() {
        for (left, is_much) in [(RIPE, true), (RIPE - 1, false)] {
            let (mut queue, mut backlog) = (Queue::default(), Backlog::default());
            push(&mut queue, 1, DRAIN_MAX);
            queue.asked();
            queue.hand_over(&mut backlog);
            push(&mut queue, 2, left);
            let before = Instant::now();
            assert_eq!(queue.drained(&mut backlog), DRAIN_MAX);
            queue.answered(true);
            let due = queue.due().unwrap();
            assert!(if is_much { due <= Instant::now() } else { due >= before + GATHER });
            queue.hand_over(&mut backlog);
            queue.drained(&mut backlog);
            assert_eq!(queue.due(), None, "nothing waits");
        }
    }

    #[test]
    fn after_a_failure_not_even_many_are_asked_for_at_once() {
        let (mut queue, mut backlog) = (Queue::default(), Backlog::default());
        push(&mut queue, 1, RIPE);
        queue.asked();
        queue.hand_over(&mut backlog);
        let before = Instant::now();
        queue.answered(false);
        assert!(queue.due().unwrap() >= before + AGAIN);
    }
}
