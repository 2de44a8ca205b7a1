//! Pruning: whole closed days, oldest first. An order that is sealed into the log says up to where; from that commit on
//! the days count as gone, and deleting them is clearing up that may be interrupted anywhere and taken up again.
//!
//! What stays of a pruned day for ever: its row of the table of days (number, date, right edge of the tree, hash of the
//! last leaf before it) and the signed checkpoint that closes the day before it.

use std::time::Duration;

use agentos_proof::{Frontier, day, life};
use agentos_store::{Conn, Dialect};
use agentos_types::{Code, Fault, Result, Timestamp, audit::Phase, hex};

use super::{Authority, Upkeep, hold};
use crate::{stored, writer::size};

/// Rows that one transaction deletes: it must not hold the writer for long.
const PIECE: i64 = 1_000;
/// Days that one order may take: more than a log of ten years has.
const DAYS_MAX: i64 = 4_000;
/// How often a piece is tried that others are in the way of, and the pause in between.
const ATTEMPTS_MAX: u32 = 25;
const PAUSE: Duration = Duration::from_millis(200);
/// Resource of the record.
const RESOURCE: &str = "log";

/// What to prune.
#[derive(Clone, Copy, Debug)]
pub struct PruneOrder {
    /// Only days that ended before this instant.
    pub before: Timestamp,
    /// Say what would go, change nothing.
    pub dry_run: bool,
    /// Keep everything from this record on, whatever its age: what was archived is what goes.
    pub keep_from: Option<u64>,
}

/// What was pruned, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    pub dry_run: bool,
    pub days: u64,
    pub records: u64,
    /// Sequence of the first record that is kept.
    pub first_kept: u64,
    /// Where the log began before.
    pub first_kept_before: u64,
    /// Names of the holds without which more would go.
    pub held: Vec<String>,
}

/// A closed day and its end.
struct Closed {
    date: i64,
    /// Number of the day after it, and where that begins.
    next_number: i64,
    end: i64,
    /// The right edge of the tree at its end.
    frontier: Vec<u8>,
    /// A signed checkpoint closes it.
    signed: bool,
}

/// The end of what may go.
struct Plan {
    report: PruneReport,
    day: i64,
    root: String,
}

impl Upkeep {
    /// Prunes the days that ended before `before`, in the server's own name. For the scheduler of retention.
    pub async fn prune(&self, before: Timestamp, dry_run: bool) -> Result<PruneReport> {
        self.prune_by(&Authority::system(), PruneOrder { before, dry_run, keep_from: None }).await
    }

    /// Seals the order, then deletes. If deleting is interrupted, the next call or start goes on with it.
    pub async fn prune_by(&self, by: &Authority, order: PruneOrder) -> Result<PruneReport> {
        let log = self.log.identity().log().to_owned();
        if order.dry_run {
            return Ok(self.log.store().read(move |conn| plan(conn, &log, &order)).await?.report);
        }
        let _busy = self.busy.lock().await;
        if !self.log.store().may_administer() {
            return Err(Fault::new(Code::STORE_ROLE, "pruning drops tables, which the server's role may not")
                .hint("set DATABASE_ADMIN_URL to the role that owns the tables, for the start that is to prune"));
        }
        // What an interrupted prune has left goes first, so that a report is about one order.
        self.clear().await?;
        let planned = self.seal_order(by, order).await?;
        if planned.days > 0 {
            self.clear().await?;
            let done = self
                .event(by, life::PRUNE_ACTION, RESOURCE, Phase::Outcome)
                .fact(life::FIRST_KEPT, planned.first_kept)
                .fact("records", planned.records);
            self.log.store().record(done).await?;
        }
        Ok(planned)
    }

    /// The decision, made and recorded in one commit: a hold that was placed before it counts.
    pub async fn seal_order(&self, by: &Authority, order: PruneOrder) -> Result<PruneReport> {
        let log = self.log.identity().log().to_owned();
        let event = self
            .event(by, life::PRUNE_ACTION, RESOURCE, Phase::Intent)
            .fact("before", day::date_text(day::date_of(order.before)));
        let now = self.ambient.now();
        self.log
            .store()
            .write(move |tx| {
                let Plan { report, day, root } = plan(tx, &log, &order)?;
                if report.days == 0 {
                    return Ok(report);
                }
                tx.execute(
                    "INSERT INTO audit_prune (log, first_kept, day, at) VALUES ($1, $2, $3, $4)",
                    &[(&log).into(), size(report.first_kept)?.into(), day.into(), now.into()],
                )?;
                tx.record(
                    event
                        .fact(life::FIRST_KEPT, report.first_kept)
                        .fact(life::ROOT, root)
                        .fact("days", report.days)
                        .fact("records", report.records),
                );
                Ok(report)
            })
            .await
    }

    /// Deletes whatever lies below the mark. For the start of a server: a prune may have been interrupted.
    pub async fn clear(&self) -> Result<()> {
        let mut attempts = 0;
        loop {
            match self.clear_piece().await {
                Ok(true) => attempts = 0,
                Ok(false) => return Ok(()),
                // A reader of the whole log is in the way of dropping a day.
                Err(fault) if fault.code == Code::STORE_UNAVAILABLE && attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Whether something below the mark is still to be deleted.
    pub async fn is_clearing(&self) -> Result<bool> {
        let log = self.log.identity().log().to_owned();
        self.log.store().read(move |conn| Ok(remaining(conn, &log)?.is_some())).await
    }

    /// One transaction of the deletion; whether there was anything to do.
    pub async fn clear_piece(&self) -> Result<bool> {
        if !self.is_clearing().await? {
            return Ok(false);
        }
        let log = self.log.identity().log().to_owned();
        self.log
            .store()
            .administer(move |conn| {
                let work = remaining(conn, &log)?;
                work.map_or(Ok(false), |work| work.delete(conn, &log).map(|()| true))
            })
            .await
    }
}

/// The oldest closed days that are old enough, not held, and closed by a checkpoint.
fn plan(conn: &Conn<'_>, log: &str, order: &PruneOrder) -> Result<Plan> {
    let first = stored::first_kept(conn, log)?;
    let holds = hold::all(conn, log)?;
    let before = u64::try_from(first).map_err(Fault::internal)?;
    let mut report =
        PruneReport { dry_run: order.dry_run, first_kept: before, first_kept_before: before, ..PruneReport::default() };
    let (mut number, mut root) = (0, String::new());
    for closed in closed_days(conn, log, first)? {
        let ended = day::start_of(closed.date.saturating_add(1));
        let end = u64::try_from(closed.end).map_err(Fault::internal)?;
        if ended > order.before || !closed.signed || order.keep_from.is_some_and(|keep| end > keep) {
            break;
        }
        report.held = holds.iter().filter(|hold| hold.covers(closed.date)).map(|hold| hold.name.clone()).collect();
        if !report.held.is_empty() {
            break;
        }
        report.days += 1;
        report.first_kept = end;
        number = closed.next_number;
        root = hex::encode(&Frontier::from_bytes(&closed.frontier)?.root());
    }
    report.records = report.first_kept - report.first_kept_before;
    Ok(Plan { report, day: number, root })
}

fn closed_days(conn: &Conn<'_>, log: &str, first: i64) -> Result<Vec<Closed>> {
    conn.query(
        "SELECT held.date, next.number, next.first_seq, next.frontier,
                (SELECT count(*) FROM audit_checkpoint AS c WHERE c.log = $1 AND c.size = next.first_seq)
         FROM audit_day AS held JOIN audit_day AS next ON next.log = held.log AND next.number = held.number + 1
         WHERE held.log = $1 AND held.first_seq >= $2 ORDER BY held.number LIMIT $3",
        &[log.into(), first.into(), DAYS_MAX.into()],
        |row| {
            Ok(Closed {
                date: row.integer(0)?,
                next_number: row.integer(1)?,
                end: row.integer(2)?,
                frontier: row.bytes(3)?,
                signed: row.integer(4)? > 0,
            })
        },
    )
}

/// The next piece of the deletion.
enum Work {
    /// The partition of a day, on Postgres.
    Day(i64),
    /// Records below this sequence.
    Records(i64),
    /// Checkpoints below this size, but those that close a day.
    Checkpoints(i64),
}

/// What lies below the newest mark and should not.
fn remaining(conn: &Conn<'_>, log: &str) -> Result<Option<Work>> {
    let mark = conn.query_one(
        "SELECT first_kept, day FROM audit_prune WHERE log = $1 ORDER BY first_kept DESC LIMIT 1",
        &[log.into()],
        |row| Ok((row.integer(0)?, row.integer(1)?)),
    )?;
    let Some((mark, day)) = mark else { return Ok(None) };
    if conn.dialect() == Dialect::Postgres {
        // Named by the function that opens them; the number stands after its prefix of 17 characters.
        let oldest = conn.query_one(
            "SELECT min(substring(held.relname FROM 18)::bigint) FROM pg_inherits JOIN pg_class AS held ON held.oid = inhrelid
             WHERE inhparent = to_regclass('audit_record') AND held.relname LIKE 'audit\\_record\\_day\\_%'",
            &[],
            |row| row.integer_or_null(0),
        )?;
        if let Some(oldest) = oldest.flatten().filter(|oldest| *oldest < day) {
            return Ok(Some(Work::Day(oldest)));
        }
    }
    let first = conn
        .query_one("SELECT min(seq) FROM audit_record WHERE log = $1", &[log.into()], |row| row.integer_or_null(0))?;
    if let Some(first) = first.flatten().filter(|first| *first < mark) {
        return Ok(Some(Work::Records(mark.min(first.saturating_add(PIECE)))));
    }
    let first = conn.query_one(
        "SELECT min(size) FROM audit_checkpoint AS c WHERE c.log = $1 AND c.size < $2
           AND NOT EXISTS (SELECT 1 FROM audit_day AS d WHERE d.log = c.log AND d.first_seq = c.size)",
        &[log.into(), mark.into()],
        |row| row.integer_or_null(0),
    )?;
    Ok(first.flatten().map(|first| Work::Checkpoints(mark.min(first.saturating_add(PIECE)))))
}

impl Work {
    fn delete(&self, conn: &Conn<'_>, log: &str) -> Result<()> {
        match self {
            Self::Day(number) => {
                conn.query_one("SELECT audit_drop_day($1, $2)", &[log.into(), (*number).into()], |_| Ok(()))?;
            }
            Self::Records(end) => {
                conn.execute("DELETE FROM audit_record WHERE log = $1 AND seq < $2", &[log.into(), (*end).into()])?;
            }
            Self::Checkpoints(end) => {
                conn.execute(
                    "DELETE FROM audit_checkpoint WHERE log = $1 AND size < $2
                       AND size NOT IN (SELECT first_seq FROM audit_day WHERE log = $1)",
                    &[log.into(), (*end).into()],
                )?;
            }
        }
        Ok(())
    }
}
