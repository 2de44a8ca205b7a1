//! What happens to a log in its life beside growing: days end, days are pruned, the key changes. Checked while the
//! records stream by, from what the records themselves say; the tables beside them are believed in nothing.
//!
//! A prune is an order that is sealed as a record (its facts say up to which record, and the root there) before anything
//! goes. What is left begins where the newest such order says, or the log does not verify.

use agentos_types::{audit::Phase, hex};
use serde_json::Value;

use crate::{
    day::{self, Day, StoredDay},
    finding::{Finding, FindingKind, VerifyError},
    leaf::{BodyView, decode},
    merkle::{Frontier, Hash},
    rotation::{self, KeyChain},
    verify::StoredCheckpoint,
};

/// Action of the record that orders a prune.
pub const PRUNE_ACTION: &str = "audit.prune";
/// Facts of that record: sequence of the first record that is kept, and the root over those before it, in hex.
pub const FIRST_KEPT: &str = "first_kept";
pub const ROOT: &str = "root";

/// What a store keeps beside records and checkpoints.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// All days, oldest first, also those whose records are gone.
    pub days: Vec<StoredDay>,
    /// First record that was not pruned.
    pub first_kept: u64,
    /// Size up to which the log is divided into days. An older program may have gone on without.
    pub divided: u64,
}

/// Where the records of a store begin.
pub(crate) struct Start {
    pub frontier: Frontier,
    /// `None` without anything pruned.
    pub last_leaf: Option<Hash>,
    pub life: Life,
}

impl Kept {
    /// The table of days must fit together before anything is read by it.
    pub(crate) fn start(&self) -> Result<Start, Finding> {
        let wrong = |day: &Day, what: &str| {
            let message = format!("day {} {what}", day.number);
            Finding::new(FindingKind::DayTable, Some(day.first_seq), message)
        };
        let days = self.days.iter().map(StoredDay::parse).collect::<Result<Vec<Day>, Finding>>()?;
        let mut before: Option<&Day> = None;
        for day in &days {
            match before {
                None if day.number == 0 && day.first_seq == 0 => {}
                None => return Err(wrong(day, "is not the first day of a log")),
                Some(before) if day.number != before.number + 1 => return Err(wrong(day, "has a wrong number")),
                Some(before) if day.first_seq <= before.first_seq => {
                    return Err(wrong(day, "begins before an earlier one"));
                }
                Some(_) => {}
            }
            before = Some(day);
        }
        let next = days.partition_point(|day| day.first_seq < self.first_kept);
        let (frontier, last_leaf) = if self.first_kept == 0 {
            (Frontier::new(), None)
        } else {
            let first = days.get(next).filter(|day| day.first_seq == self.first_kept).ok_or_else(|| {
                let message = "nothing is kept of the place where the pruned part ends";
                Finding::new(FindingKind::KeptFrontier, Some(self.first_kept), message)
            })?;
            (first.frontier.clone(), Some(first.last_leaf))
        };
        let life = Life {
            closed: vec![false; days.len()],
            days,
            next,
            present: None,
            first_kept: self.first_kept,
            divided: self.divided,
            ordered: None,
        };
        Ok(Start { frontier, last_leaf, life })
    }
}

/// The newest order to prune that was read.
struct Order {
    seq: u64,
    first_kept: u64,
    root: Option<Hash>,
}

/// Days and prunes of a store.
pub(crate) struct Life {
    days: Vec<Day>,
    /// For each pruned day's beginning: a signed checkpoint was found for it.
    closed: Vec<bool>,
    /// Place of the day that should begin next.
    next: usize,
    /// Date of the present day.
    present: Option<i64>,
    first_kept: u64,
    divided: u64,
    ordered: Option<Order>,
}

impl Life {
    /// A checkpoint of the pruned part: only where a day began is there something to compare it with. Returns whether it
    /// was compared.
    pub(crate) fn boundary(&mut self, stored: &StoredCheckpoint, keys: &KeyChain) -> Result<bool, VerifyError> {
        let Ok(place) = self.days.binary_search_by_key(&stored.size, |day| day.first_seq) else {
            // Left over from a deletion that was interrupted.
            return Ok(false);
        };
        let signed = keys.open(&stored.note)?;
        let agrees =
            self.days.get(place).is_some_and(|day| signed.size == stored.size && signed.root == day.frontier.root());
        if !agrees {
            let message = "the kept frontier does not hash to the signed root";
            return Err(Finding::new(FindingKind::KeptFrontier, stored.size.checked_sub(1), message).into());
        }
        if let Some(closed) = self.closed.get_mut(place) {
            *closed = true;
        }
        Ok(true)
    }

    /// Root where a pruned day began, for a held checkpoint of that size.
    pub(crate) fn root_at(&self, size: u64) -> Option<Hash> {
        let place = self.days.binary_search_by_key(&size, |day| day.first_seq).ok()?;
        self.days.get(place).filter(|day| day.first_seq <= self.first_kept).map(|day| day.frontier.root())
    }

    /// After the checkpoints of the pruned part: each of its days must have been closed by one.
    pub(crate) fn require_closed(&self) -> Result<(), Finding> {
        let pruned = self.days.iter().zip(&self.closed).skip(1).take_while(|(day, _)| day.first_seq <= self.first_kept);
        for (day, closed) in pruned {
            if !closed {
                let message = format!("no signed checkpoint closes the day before day {}", day.number);
                return Err(Finding::new(FindingKind::KeptFrontier, day.first_seq.checked_sub(1), message));
            }
        }
        Ok(())
    }

    /// The next record, before it is appended to `frontier`.
    pub(crate) fn row(
        &mut self,
        body: &BodyView<'_>,
        bytes: &[u8],
        frontier: &Frontier,
        prev: &Hash,
    ) -> Result<(), Finding> {
        let seq = body.seq;
        if seq < self.divided {
            let date = day::date_of(body.event.at);
            let stored = self.days.get(self.next).filter(|day| day.first_seq == seq);
            let begins = day::begins(self.present, date);
            let agrees = match stored {
                None => !begins,
                Some(day) => {
                    begins && day.date == date && day.frontier == *frontier && (seq == 0 || day.last_leaf == *prev)
                }
            };
            if !agrees {
                let message = match (begins, stored) {
                    (true, None) => {
                        format!("a day of {} begins here, and the table does not have it", day::date_text(date))
                    }
                    (false, Some(_)) => "the table lets a day begin here, and none does".to_owned(),
                    _ => "the day that begins here is another one than the table has".to_owned(),
                };
                return Err(Finding::new(FindingKind::DayTable, Some(seq), message));
            }
            if begins {
                self.present = Some(date);
                self.next += 1;
            }
        }
        if body.event.action == PRUNE_ACTION && body.event.phase == Phase::Intent {
            self.order(seq, bytes)?;
        }
        Ok(())
    }

    fn order(&mut self, seq: u64, bytes: &[u8]) -> Result<(), Finding> {
        let record = decode(bytes).map_err(|fault| Finding::new(FindingKind::Edited, Some(seq), fault.message))?;
        let facts = &record.event.facts;
        let first_kept = facts.get(FIRST_KEPT).and_then(Value::as_u64).unwrap_or(0);
        let root = facts.get(ROOT).and_then(Value::as_str).and_then(hex::decode);
        self.ordered = Some(Order { seq, first_kept, root });
        Ok(())
    }

    /// At the end: what is gone is what the newest order says, and every day has begun.
    pub(crate) fn finish(&self, start_root: Hash) -> Result<(), Finding> {
        let unsigned = |seq, message: String| Err(Finding::new(FindingKind::PruneUnsigned, Some(seq), message));
        match &self.ordered {
            None if self.first_kept == 0 => {}
            None => {
                return unsigned(
                    self.first_kept,
                    format!("nothing in the log orders to prune up to record {}", self.first_kept),
                );
            }
            Some(order) if order.first_kept != self.first_kept => {
                let message = format!(
                    "the log orders to keep record {} on, and {} is the first kept",
                    order.first_kept, self.first_kept
                );
                return unsigned(order.seq, message);
            }
            Some(order) if order.root != Some(start_root) => {
                return unsigned(order.seq, "the order to prune states another root than the kept one".to_owned());
            }
            Some(_) => {}
        }
        match self.days.get(self.next) {
            None => Ok(()),
            Some(day) => {
                let message = format!("the table has day {}, which never began", day.number);
                Err(Finding::new(FindingKind::DayTable, Some(day.first_seq), message))
            }
        }
    }
}

/// Compares changes of the key with the records of them.
pub(crate) struct KeyWatch {
    /// For each change: its record was read.
    recorded: Vec<bool>,
}

impl KeyWatch {
    pub(crate) fn new(keys: &KeyChain) -> Self {
        Self { recorded: vec![false; keys.rotations().len()] }
    }

    pub(crate) fn row(&mut self, body: &BodyView<'_>, bytes: &[u8], keys: &KeyChain) -> Result<(), Finding> {
        if body.event.action != rotation::ACTION || body.event.phase != Phase::Intent {
            return Ok(());
        }
        let find = |message: &str| Finding::new(FindingKind::KeyChain, Some(body.seq), message);
        let record = decode(bytes).map_err(|fault| Finding::new(FindingKind::Edited, Some(body.seq), fault.message))?;
        let named = |fact: &str| record.event.facts.get(fact).and_then(Value::as_str).map(str::to_owned);
        let place = keys.rotations().partition_point(|rotation| rotation.size <= body.seq);
        let change = keys
            .rotations()
            .get(place)
            .ok_or_else(|| find("the log changes its key here, and no statement of it is kept"))?;
        if named(rotation::OLD_KEY) != Some(change.from.to_string())
            || named(rotation::NEW_KEY) != Some(change.to.to_string())
        {
            return Err(find("the log changes its key here, and the statement of it names other keys"));
        }
        match self.recorded.get_mut(place) {
            Some(recorded) if !*recorded => *recorded = true,
            _ => return Err(find("one change of the key is recorded twice")),
        }
        Ok(())
    }

    /// Every change within the records that were read is recorded. Only a whole log must end after its last change.
    pub(crate) fn finish(&self, keys: &KeyChain, from: u64, to: u64, whole: bool) -> Result<(), Finding> {
        for (change, recorded) in keys.rotations().iter().zip(&self.recorded) {
            let expected = change.size > from && (whole || change.size <= to);
            if expected && !recorded {
                let message = format!("the log does not record the change of its key at size {}", change.size);
                return Err(Finding::new(FindingKind::KeyChain, change.size.checked_sub(1), message));
            }
        }
        Ok(())
    }
}
