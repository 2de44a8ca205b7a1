//! How often an agent has lost its launcher of late, and what follows. Pure: instants and draws in, a cell and a wait out.
//!
//! A loss is no failure of the agent: the launcher is ours. But an agent that could end its launcher would take along
//! everybody whom that one has made, again and again. So a loss moves each of them into a [`Cell`] with fewer others, and who
//! loses its launchers there as well is found out.

use std::collections::VecDeque;

use agentos_sandbox::Cell;
use tokio::time::{Duration, Instant};

use crate::backoff::jittered;

/// Within [`WINDOW`]. By then one in 65,536 agents has been in the same cells as another.
pub(crate) const LOSSES_MAX: usize = 5;
/// An operator who ends launchers by hand, or a machine that is short of memory, is slower than this in practice.
pub(crate) const WINDOW: Duration = Duration::from_secs(600);
/// After the second loss; twice as long after each further one.
const FIRST: Duration = Duration::from_millis(250);
/// While launchers do not even start, which is nobody's fault: an operator who repairs this does not want to wait longer.
const CAP: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(crate) struct Losses {
    /// The newest, at most [`LOSSES_MAX`].
    at: VecDeque<Instant>,
    cell: Cell,
    /// Launchers in a row that never became ready.
    unready: u32,
}

impl Default for Losses {
    fn default() -> Self {
        Self { at: VecDeque::new(), cell: Cell::COMMON, unready: 0 }
    }
}

impl Losses {
    /// The launcher ended with the agent, or while it made it.
    pub(crate) fn lose(&mut self, now: Instant, draw: u64) {
        self.forget(now);
        self.unready = 0;
        self.cell = self.cell.split(draw);
        self.at.push_back(now);
        if self.at.len() > LOSSES_MAX {
            self.at.pop_front();
        }
    }

    /// No launcher could be had, which says nothing about the agent.
    pub(crate) fn find_none_ready(&mut self) {
        self.unready = self.unready.saturating_add(1);
    }

    /// Where the next life belongs. After a quiet time it is back among the others.
    pub(crate) fn cell(&mut self, now: Instant) -> Cell {
        self.forget(now);
        self.cell
    }

    /// As last told.
    pub(crate) fn present_cell(&self) -> Cell {
        self.cell
    }

    pub(crate) fn is_found_out(&self) -> bool {
        self.at.len() >= LOSSES_MAX
    }

    /// The wait after the losses so far; `draw` as for [`jittered`]. The first one waits not at all.
    pub(crate) fn wait(&self, draw: u64) -> Duration {
        let losses = u32::try_from(self.at.len()).unwrap_or(u32::MAX).saturating_add(self.unready);
        match losses.checked_sub(2) {
            None => Duration::ZERO,
            Some(doublings) => jittered(FIRST.saturating_mul(1 << doublings.min(16)).min(CAP), draw),
        }
    }

    /// An operator has stepped in: begin anew.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    fn forget(&mut self, now: Instant) {
        self.at.retain(|at| now.saturating_duration_since(*at) < WINDOW);
        if self.at.is_empty() {
            self.cell = Cell::COMMON;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::JITTER_PERMILLE;

    #[test]
    fn who_loses_one_launcher_after_the_other_waits_longer_lives_apart_and_is_found_out() {
        let (mut losses, now) = (Losses::default(), Instant::now());
        let (mut waits, mut cells) = (Vec::new(), vec![losses.cell(now)]);
        for count in 1..=LOSSES_MAX {
            assert!(!losses.is_found_out());
            losses.lose(now + Duration::from_secs(count as u64), count as u64);
            waits.push(losses.wait(JITTER_PERMILLE / 2).as_millis());
            let cell = losses.cell(now + Duration::from_secs(count as u64));
            assert!(!cells.contains(&cell));
            cells.push(cell);
        }
        assert!(losses.is_found_out());
        assert_eq!(waits, [0, 250, 500, 1_000, 2_000]);
        losses.reset();
        assert_eq!((losses.is_found_out(), losses.cell(now)), (false, Cell::COMMON));
    }

    #[test]
    fn losses_that_lie_far_apart_are_chance() {
        let (mut losses, mut now) = (Losses::default(), Instant::now());
        for _ in 0..3 * LOSSES_MAX {
            losses.lose(now, 7);
            now += WINDOW;
        }
        assert!(!losses.is_found_out());
        assert_eq!((losses.wait(0), losses.cell(now)), (Duration::ZERO, Cell::COMMON));
    }

    #[test]
    fn launchers_that_never_start_find_nobody_out() {
        let mut losses = Losses::default();
        for _ in 0..1_000 {
            losses.find_none_ready();
        }
        assert!(!losses.is_found_out());
        assert_eq!(losses.cell(Instant::now()), Cell::COMMON);
        assert_eq!(losses.wait(JITTER_PERMILLE / 2), CAP);
    }
}
