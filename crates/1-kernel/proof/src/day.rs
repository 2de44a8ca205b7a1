//! Days of a log: numbered segments that lie end to end. They are what pruning takes away, whole and oldest first.
//!
//! Where a day begins follows from the records alone, so that nobody has to be believed: with the first record, and with
//! each record whose UTC date is later than the present day's. A date one day earlier stays in the present day, because
//! near midnight a record is made before and sealed after another one. A clock that was set back further begins a new
//! day; dates may repeat, numbers only rise.

use agentos_types::Timestamp;

use crate::{
    finding::{Finding, FindingKind},
    merkle::{Frontier, Hash},
};

/// Microseconds of a UTC day.
pub const DAY_MICROS: i64 = 86_400_000_000;

/// What a store keeps of a day for ever: where it begins, and the log's right edge there. The end of a day is the
/// beginning of the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    pub number: u64,
    /// Days since 1970-01-01, of the first record.
    pub date: i64,
    pub first_seq: u64,
    /// Over all records before `first_seq`.
    pub frontier: Frontier,
    /// Leaf hash of the record before `first_seq`, which the frontier knows only at an odd size.
    pub last_leaf: Hash,
}

/// A day as a database holds it, believed in nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDay {
    pub number: u64,
    pub date: i64,
    pub first_seq: u64,
    pub frontier: Vec<u8>,
    pub last_leaf: Vec<u8>,
}

impl StoredDay {
    /// The parts must fit each other; whether they are the log's is shown by signed roots.
    pub fn parse(&self) -> Result<Day, Finding> {
        let frontier = Frontier::from_bytes(&self.frontier).ok().filter(|frontier| frontier.size() == self.first_seq);
        let last_leaf = Hash::try_from(self.last_leaf.as_slice()).ok();
        let fitting =
            frontier.zip(last_leaf).filter(|(frontier, last)| frontier.last_leaf().is_none_or(|l| l == *last));
        let (frontier, last_leaf) = fitting.ok_or_else(|| {
            let message = format!("what is kept of the beginning of day {} does not fit together", self.number);
            Finding::new(FindingKind::KeptFrontier, Some(self.first_seq), message)
        })?;
        Ok(Day { number: self.number, date: self.date, first_seq: self.first_seq, frontier, last_leaf })
    }
}

/// UTC date of an instant, in days since 1970-01-01.
pub fn date_of(at: Timestamp) -> i64 {
    at.as_micros().div_euclid(DAY_MICROS)
}

/// The first instant of a date.
pub fn start_of(date: i64) -> Timestamp {
    Timestamp(date.saturating_mul(DAY_MICROS))
}

/// `2026-11-23`.
pub fn date_text(date: i64) -> String {
    start_of(date).to_string().chars().take_while(|c| *c != 'T').collect()
}

/// Whether a record of date `next` begins a new day after one of date `present`.
pub fn begins(present: Option<i64>, next: i64) -> bool {
    present.is_none_or(|present| next > present || next < present.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_with_a_later_date_or_a_clock_that_was_set_back() {
        for (present, next, expected) in [
            (None, 5, true),
            (Some(5), 5, false),
            (Some(5), 6, true),
            (Some(5), 90, true),
            (Some(5), 4, false),
            (Some(5), 3, true),
            (Some(i64::MIN), i64::MIN, false),
        ] {
            assert_eq!(begins(present, next), expected, "{present:?} {next}");
        }
    }

    #[test]
    fn dates() {
        let at = Timestamp::from_millis(1_795_392_000_000);
        assert_eq!(date_text(date_of(at)), "2026-11-23");
        assert_eq!(start_of(date_of(at)), at);
        assert_eq!(date_of(Timestamp(at.as_micros() - 1)), date_of(at) - 1);
        assert_eq!(date_text(-1), "1969-12-31");
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let frontier: Frontier = [[1; 32], [2; 32], [3; 32]].into_iter().collect();
        let good =
            StoredDay { number: 1, date: 9, first_seq: 3, frontier: frontier.to_bytes(), last_leaf: vec![3; 32] };
        assert_eq!(good.parse().unwrap().frontier, frontier);
        for bad in [
            StoredDay { first_seq: 2, ..good.clone() },
            StoredDay { last_leaf: vec![2; 32], ..good.clone() },
            StoredDay { last_leaf: vec![3; 31], ..good.clone() },
            StoredDay { frontier: good.frontier[1..].to_vec(), ..good.clone() },
        ] {
            assert_eq!(bad.parse().unwrap_err().kind, FindingKind::KeptFrontier);
        }
    }
}
