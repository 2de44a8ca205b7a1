//! When somebody sets the clock of a running server: what was promised as a length of time keeps its length.
//!
//! Leases, waits before a retry and intervals are lengths: they move with the clock, so that a step forward ends nobody's
//! lease and a step back makes nobody wait for hours. Deadlines, cron times, starts that a caller chose and the ends of
//! tokens are instants of the calendar: they stay, and mean what the new clock says. Steps are told from time that passes
//! by the monotonic clock, which nobody can set. Where the database measures leases, they are not touched: the step was
//! ours, not its.

use std::time::Duration;

use agentos_store::Tx;
use agentos_types::{Actor, Result, Timestamp, audit::AuditEvent, notify::Notice};
use tokio::time::Instant;

use crate::{Core, Tasks};

/// Both clocks at the last look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    wall: Timestamp,
    monotonic: Instant,
}

/// A step of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// What the clock would show without it.
    pub from: Timestamp,
    /// Negative when it was set back.
    pub by_us: i64,
}

impl Mark {
    pub(crate) fn new(wall: Timestamp, monotonic: Instant) -> Self {
        Self { wall, monotonic }
    }

    /// Time since the look.
    pub(crate) fn age(&self) -> Duration {
        self.monotonic.elapsed()
    }

    /// The step since the mark, if it is longer than `least`: shorter ones are not worth a write.
    pub(crate) fn step(&self, wall: Timestamp, monotonic: Instant, least: Duration) -> Option<ClockStep> {
        let from = self.wall.after(monotonic.saturating_duration_since(self.monotonic));
        let by_us = wall.as_micros().saturating_sub(from.as_micros());
        (u128::from(by_us.unsigned_abs()) > least.as_micros()).then_some(ClockStep { from, by_us })
    }
}

impl Tasks {
    /// Moves what is a length of time along with the clock. In one commit, with its record.
    pub async fn follow_clock(&self, step: ClockStep) -> Result<()> {
        let core = self.core.clone();
        self.store.write(move |tx| core.follow_clock(tx, step)).await
    }
}

impl Core {
    fn follow_clock(&self, tx: &mut Tx<'_>, step: ClockStep) -> Result<()> {
        let now = Timestamp(step.from.as_micros().saturating_add(step.by_us));
        let moved =
            if step.by_us > 0 { self.step_forward(tx, step)? } else { step_back(tx, step, now, self.options.lease)? };
        tracing::warn!(by_s = step.by_us / 1_000_000, moved, "the clock was set; leases, retries and intervals follow");
        let id = self.ambient.event_id();
        let event = AuditEvent::new(id, self.ambient.now(), Actor::System, "server.clock_step", "server");
        tx.record(event.fact("by_us", step.by_us).fact("moved", moved));
        // What was announced up to the old time may have to be announced again.
        self.forget_woken();
        tx.announce(Notice::Schedules);
        Ok(())
    }

    /// Leases that were given by the old clock. Those that were renewed since are beyond what it could give.
    fn step_forward(&self, tx: &Tx<'_>, step: ClockStep) -> Result<usize> {
        if tx.keeps_time() {
            return Ok(0);
        }
        tx.execute(
            "UPDATE task SET lease_until = lease_until + $1 WHERE state = 'working' AND lease_until <= $2",
            &[step.by_us.into(), step.from.after(self.options.lease).into()],
        )
    }
}

fn step_back(tx: &Tx<'_>, step: ClockStep, now: Timestamp, lease: Duration) -> Result<usize> {
    let leases = match tx.keeps_time() {
        true => 0,
        false => tx.execute(
            "UPDATE task SET lease_until = lease_until + $1 WHERE state = 'working' AND lease_until > $2",
            &[step.by_us.into(), now.after(lease).into()],
        )?,
    };
    // What was due stays due.
    let due = tx.execute(
        "UPDATE task SET run_at = $1 WHERE state = 'submitted' AND run_at > $1 AND run_at <= $2",
        &[now.into(), step.from.into()],
    )?;
    // A failure tells a wait before a retry from a start that somebody chose.
    let retries = tx.execute(
        "UPDATE task SET run_at = run_at + $1 WHERE state = 'submitted' AND run_at > $2 AND failure_class IS NOT NULL",
        &[step.by_us.into(), step.from.into()],
    )?;
    // A microsecond later than exactly: the guard rows of what was fired before must not match the new grid.
    let intervals = tx.execute(
        "UPDATE schedule SET next_at = next_at + $1 WHERE paused = 0 AND next_at > $2 AND next_at < $3
           AND cadence LIKE '{\"kind\":\"interval\"%'",
        &[(step.by_us + 1).into(), now.into(), Timestamp::NEVER.into()],
    )?;
    Ok(leases + due + retries + intervals)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `passed_s` on the monotonic clock while the wall clock moved by `moved_s`.
    fn check(passed_s: u64, moved_s: i64, expected_s: Option<i64>) {
        let (wall, monotonic) = (Timestamp(1_000_000_000_000_000), Instant::now());
        let mark = Mark::new(wall, monotonic);
        let later = monotonic + Duration::from_secs(passed_s);
        let step = mark.step(Timestamp(wall.as_micros() + moved_s * 1_000_000), later, Duration::from_secs(15));
        assert_eq!(step.map(|step| step.by_us / 1_000_000), expected_s, "{passed_s} s passed, {moved_s} s shown");
        assert!(step.is_none_or(|step| step.from == wall.after(Duration::from_secs(passed_s))));
    }

    #[test]
    fn a_step_is_what_the_monotonic_clock_did_not_see() {
        check(1, 1, None);
        // A server that stood still for an hour sees an hour on both clocks.
        check(3_600, 3_600, None);
        check(1, 16, None);
        check(1, 17, Some(16));
        check(1, 7_201, Some(7_200));
        check(1, -13, None);
        check(1, -15, Some(-16));
        check(10, -7_190, Some(-7_200));
    }
}
