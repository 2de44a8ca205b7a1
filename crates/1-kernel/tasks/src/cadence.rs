//! When a schedule fires next. Pure: a cadence and an instant in, an instant out.
//!
//! An interval is a grid from its first instant; what was missed is skipped. A cron expression whose hour field names hours
//! follows the clock on the wall: each time fires once, a time that the change to summer time skips fires at the first
//! instant after the gap, a time that comes twice fires the first time. One whose hour field is `*` or `*/N` follows
//! elapsed time, like an interval, and also fires in the repeated hour.
//!
//! The zone's arithmetic is done here, and the expression is evaluated in UTC on shifted clocks: rounding to hours in a
//! zone whose offset moves by half an hour can stand still, and a parser's loop must not hang the writer.

use std::time::Duration;

use agentos_types::{Code, Fault, Result, Timestamp, task::Cadence};
use cronexpr::{Crontab, MakeTimestamp};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

const EXPRESSION_BYTES_MAX: usize = 200;
const ZONE_BYTES_MAX: usize = 64;
/// Longest interval; beyond it the sum with an instant could leave the calendar.
const EVERY_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);
/// Later instants than the year 3000 are refused: calendar arithmetic near its end would overflow.
const HORIZON: Timestamp = Timestamp(32_503_680_000_000_000);
/// Changes of the offset that one search may pass. Four years have eight to sixteen.
const TRANSITIONS_MAX: usize = 64;
/// Candidates that one search may drop because they lie in the first pass of a repeated hour (a repeated day has 1,440).
const CANDIDATES_MAX: usize = 2_000;
/// Firings that are looked at to find the shortest distance of an expression.
const FIRINGS_COMPARED: usize = 64;

/// Refuses what cannot fire, or would fire more often than `interval_min`.
pub fn validate(cadence: &Cadence, interval_min: Duration, now: Timestamp) -> Result<()> {
    match cadence {
        Cadence::Interval { every_s } => {
            let every = Duration::from_secs(*every_s);
            if every < interval_min.max(Duration::from_secs(1)) || every > EVERY_MAX {
                return Err(invalid(format!(
                    "an interval must be {} to {} seconds (schedules.interval_min_s)",
                    interval_min.as_secs().max(1),
                    EVERY_MAX.as_secs()
                )));
            }
            Ok(())
        }
        Cadence::Cron { expression, timezone } => {
            let plan = Plan::parse(expression, timezone)?;
            let mut last = plan.next(now)?;
            // Cron's own step is a minute: only a longer minimum needs a look.
            let looks = if interval_min > Duration::from_secs(60) { FIRINGS_COMPARED } else { 0 };
            for _ in 0..looks {
                let Ok(next) = plan.next(last) else { break };
                if next.since(last) < interval_min {
                    return Err(invalid(format!(
                        "the expression fires more often than every {} seconds (schedules.interval_min_s)",
                        interval_min.as_secs()
                    )));
                }
                last = next;
            }
            Ok(())
        }
    }
}

/// The first firing of a schedule that begins at `now`.
pub fn first(cadence: &Cadence, now: Timestamp) -> Result<Timestamp> {
    following(cadence, now, now)
}

/// The first firing after `now`, on the grid of `previous`.
pub fn following(cadence: &Cadence, previous: Timestamp, now: Timestamp) -> Result<Timestamp> {
    match cadence {
        Cadence::Interval { every_s } => {
            let every_us = i64::try_from(every_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX).max(1);
            let elapsed = now.as_micros().saturating_sub(previous.as_micros()).max(0);
            let steps = elapsed / every_us + 1;
            Ok(Timestamp(previous.as_micros().saturating_add(steps.saturating_mul(every_us))))
        }
        Cadence::Cron { expression, timezone } => Plan::parse(expression, timezone)?.next(now),
    }
}

/// A parsed cron cadence.
struct Plan {
    /// In UTC; what it means in the zone is decided here.
    crontab: Crontab,
    zone: TimeZone,
    /// The hour field names hours: follow the clock on the wall.
    wall: bool,
}

impl Plan {
    fn parse(expression: &str, timezone: &str) -> Result<Self> {
        if expression.len() > EXPRESSION_BYTES_MAX || timezone.len() > ZONE_BYTES_MAX {
            return Err(invalid(format!(
                "an expression has at most {EXPRESSION_BYTES_MAX} bytes, a time zone {ZONE_BYTES_MAX}"
            )));
        }
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let [_, hours, _, _, _] = fields.as_slice() else {
            return Err(invalid(format!("a cron expression has 5 fields, this one has {}", fields.len())));
        };
        let wall = !hours.starts_with('*');
        let zone = TimeZone::get(timezone).map_err(|source| {
            invalid(format!("'{}' is not an IANA time zone", timezone.escape_debug())).detail(source)
        })?;
        let crontab = cronexpr::parse_crontab(&format!("{} UTC", fields.join(" ")))
            .map_err(|source| invalid("the cron expression cannot be read".into()).detail(source))?;
        Ok(Self { crontab, zone, wall })
    }

    /// The first firing strictly after `after`.
    fn next(&self, after: Timestamp) -> Result<Timestamp> {
        let found = if self.wall { self.next_on_the_wall(after)? } else { self.next_elapsed(after)? };
        Ok(Timestamp(found.as_microsecond()))
    }

    fn next_on_the_wall(&self, after: Timestamp) -> Result<jiff::Timestamp> {
        let after = instant(after)?;
        let mut clock = shift(after, self.zone.to_offset(after), 1)?;
        for _ in 0..CANDIDATES_MAX {
            clock = self.match_after(clock)?;
            let found = self.resolve(clock)?;
            if found > after {
                return Ok(found);
            }
        }
        Err(never())
    }

    fn next_elapsed(&self, after: Timestamp) -> Result<jiff::Timestamp> {
        let mut piece = instant(after)?;
        let mut bound = piece;
        for _ in 0..TRANSITIONS_MAX {
            let offset = self.zone.to_offset(piece);
            let found = shift(self.match_after(shift(bound, offset, 1)?)?, offset, -1)?;
            match self.zone.following(piece).next() {
                Some(change) if change.timestamp() <= found => {
                    // The offset changes before: look again from there, the instant of the change included.
                    piece = change.timestamp();
                    bound = jiff::Timestamp::from_second(piece.as_second() - 1).map_err(Fault::internal)?;
                }
                _ => return Ok(found),
            }
        }
        Err(never())
    }

    /// The first match of the expression strictly after `clock`, both read as if they were UTC.
    fn match_after(&self, clock: jiff::Timestamp) -> Result<jiff::Timestamp> {
        let found = self.crontab.find_next(MakeTimestamp(clock)).map_err(|source| never().detail(source))?;
        Ok(found.timestamp())
    }

    /// The instant at which the wall clock of the zone shows `clock`.
    fn resolve(&self, clock: jiff::Timestamp) -> Result<jiff::Timestamp> {
        let shown = Offset::UTC.to_datetime(clock);
        match self.zone.to_ambiguous_timestamp(shown).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                shift(clock, offset, -1)
            }
            AmbiguousOffset::Gap { before, .. } => {
                // Read with the old offset, the time lies within the gap's length after the change.
                let late = shift(clock, before, -1)?;
                let until = jiff::Timestamp::from_second(late.as_second() + 1).map_err(Fault::internal)?;
                let change = self.zone.preceding(until).next();
                change.map(|change| change.timestamp()).ok_or_else(|| Fault::internal("a gap without a change"))
            }
        }
    }
}

fn instant(at: Timestamp) -> Result<jiff::Timestamp> {
    if at > HORIZON {
        return Err(never());
    }
    jiff::Timestamp::from_microsecond(at.as_micros()).map_err(Fault::internal)
}

/// To the wall clock (`sign` 1) or back (`sign` −1).
fn shift(at: jiff::Timestamp, offset: Offset, sign: i64) -> Result<jiff::Timestamp> {
    let moved = at.as_microsecond() + sign * i64::from(offset.seconds()) * 1_000_000;
    jiff::Timestamp::from_microsecond(moved).map_err(Fault::internal)
}

fn invalid(message: String) -> Fault {
    Fault::new(Code::SCHEDULE_INVALID, message)
        .hint("for example every_s = 60, or expression '0 7 * * MON-FRI' with timezone 'Europe/Berlin'")
}

fn never() -> Fault {
    invalid("the expression does not fire within four years".into())
}

#[cfg(test)]
mod tests;
