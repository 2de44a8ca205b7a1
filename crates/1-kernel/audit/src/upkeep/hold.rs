//! Legal holds: as long as one stands, no day that it covers is pruned.

use agentos_proof::day;
use agentos_store::{Arg, Conn};
use agentos_types::{Code, Fault, Result, Timestamp, audit::Phase};

use super::{Authority, Upkeep};

/// Longest name and reason: they are shown in listings.
const NAME_CHARS_MAX: usize = 64;
const REASON_CHARS_MAX: usize = 500;
/// Holds at a time; each is looked at before a day is pruned.
const HOLDS_MAX: i64 = 1_000;

/// A hold to place.
#[derive(Clone, Debug)]
pub struct NewHold {
    /// Lower-case letters, digits and dashes.
    pub name: String,
    pub reason: String,
    /// Holds everything from the UTC date of this instant on; the whole log without it.
    pub from: Option<Timestamp>,
}

/// A hold that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub name: String,
    pub reason: String,
    /// First date that is held, in days since 1970-01-01; the whole log without it.
    pub from_date: Option<i64>,
    pub placed_by: String,
    pub placed_at: Timestamp,
}

impl Hold {
    /// Start of the first day that is held.
    pub fn from(&self) -> Option<Timestamp> {
        self.from_date.map(day::start_of)
    }

    /// A day holds records of its own date and, from around midnight, of the one before; never of a later one.
    pub(super) fn covers(&self, date: i64) -> bool {
        self.from_date.is_none_or(|from| date >= from)
    }
}

/// All holds of a log.
pub(super) fn all(conn: &Conn<'_>, log: &str) -> Result<Vec<Hold>> {
    conn.query(
        "SELECT name, reason, from_date, placed_by, placed_at FROM audit_hold WHERE log = $1 ORDER BY name LIMIT $2",
        &[log.into(), HOLDS_MAX.into()],
        |row| {
            Ok(Hold {
                name: row.text(0)?,
                reason: row.text(1)?,
                from_date: row.integer_or_null(2)?,
                placed_by: row.text(3)?,
                placed_at: row.time(4)?,
            })
        },
    )
}

impl Upkeep {
    /// Places a hold. A prune that was ordered before goes on; none that it covers is ordered after.
    pub async fn add_hold(&self, by: &Authority, new: NewHold) -> Result<Hold> {
        check(&new)?;
        let hold = Hold {
            name: new.name,
            reason: new.reason,
            from_date: new.from.map(day::date_of),
            placed_by: by.actor.label(),
            placed_at: self.ambient.now(),
        };
        let event =
            self.event(by, "audit.hold.add", hold.name.clone(), Phase::Fact).fact("reason", hold.reason.clone());
        let event = match hold.from_date {
            Some(date) => event.fact("from", day::date_text(date)),
            None => event,
        };
        let (log, placed) = (self.log.identity().log().to_owned(), hold.clone());
        self.log
            .store()
            .write(move |tx| {
                let standing = all(tx, &log)?;
                if standing.iter().any(|other| other.name == placed.name) {
                    return Err(Fault::new(Code::AUDIT_HOLD_INVALID, format!("a hold named '{}' stands already", placed.name))
                        .hint("choose another name, or release that hold first"));
                }
                if standing.len() >= usize::try_from(HOLDS_MAX).unwrap_or(0) {
                    return Err(Fault::new(Code::AUDIT_HOLD_INVALID, format!("{HOLDS_MAX} holds stand already")));
                }
                tx.execute(
                    "INSERT INTO audit_hold (log, name, reason, from_date, placed_by, placed_at) VALUES ($1, $2, $3, $4, $5, $6)",
                    &[
                        Arg::Text(&log),
                        Arg::Text(&placed.name),
                        Arg::Text(&placed.reason),
                        placed.from_date.into(),
                        Arg::Text(&placed.placed_by),
                        placed.placed_at.into(),
                    ],
                )?;
                tx.record(event);
                Ok(())
            })
            .await?;
        Ok(hold)
    }

    /// All holds that stand, by name.
    pub async fn holds(&self) -> Result<Vec<Hold>> {
        let log = self.log.identity().log().to_owned();
        self.log.store().read(move |conn| all(conn, &log)).await
    }

    /// Ends a hold. What it covered may be pruned from the next prune on.
    pub async fn release_hold(&self, by: &Authority, name: &str) -> Result<()> {
        let event = self.event(by, "audit.hold.release", name, Phase::Fact);
        let (log, name) = (self.log.identity().log().to_owned(), name.to_owned());
        self.log
            .store()
            .write(move |tx| {
                let released = tx
                    .execute("DELETE FROM audit_hold WHERE log = $1 AND name = $2", &[(&log).into(), (&name).into()])?;
                if released == 0 {
                    return Err(Fault::new(Code::AUDIT_HOLD_NOT_FOUND, format!("no hold named '{name}' stands")));
                }
                tx.record(event);
                Ok(())
            })
            .await
    }
}

fn check(new: &NewHold) -> Result<()> {
    let invalid = |what: String| Err(Fault::new(Code::AUDIT_HOLD_INVALID, what));
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if new.name.is_empty() || new.name.chars().count() > NAME_CHARS_MAX || !new.name.chars().all(plain) {
        return invalid(format!("the name of a hold is 1 to {NAME_CHARS_MAX} lower-case letters, digits and dashes"));
    }
    let reason = new.reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON_CHARS_MAX {
        return invalid(format!("the reason of a hold has 1 to {REASON_CHARS_MAX} characters"));
    }
    Ok(())
}
