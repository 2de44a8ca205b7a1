//! Where the writer divides the log into days, and how it catches up with records that an older program left undivided.

use agentos_proof::{Day, Frontier, Hash, day};
use agentos_store::{Arg, Conn, Dialect};
use agentos_types::{Code, Fault, Result, Timestamp};

use crate::writer::size;

/// Rows in memory at a time while catching up.
const PAGE: i64 = 10_000;
/// Days whose partitions are open ahead of the present one: a few midnights may pass before one is missed.
const AHEAD: i64 = 3;
/// Days before the present one that one call opens too; more than a commit ever begins.
const BEHIND: i64 = 16;
/// Stands in the column of a record whose day has no partition.
const UNDATED: i64 = -1;

/// The day that the newest record belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Present {
    pub number: u64,
    pub date: i64,
}

/// Numbers of the days that have a partition of their own. Empty on SQLite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    from: i64,
    to: i64,
}

impl Default for Opened {
    fn default() -> Self {
        Self { from: 0, to: UNDATED }
    }
}

impl Opened {
    /// What goes into the column `day` on Postgres.
    pub(crate) fn column(self, number: u64) -> i64 {
        i64::try_from(number).ok().filter(|number| (self.from..=self.to).contains(number)).unwrap_or(UNDATED)
    }

    pub(crate) fn is_unknown(self) -> bool {
        self.to == UNDATED
    }
}

/// Puts a record of date `date` into its day. Returns the day if it begins with this record.
pub(crate) fn step(present: &mut Option<Present>, date: i64, frontier: &Frontier, last_leaf: Hash) -> Option<Day> {
    if !day::begins(present.map(|present| present.date), date) {
        return None;
    }
    let number = present.map_or(0, |present| present.number + 1);
    *present = Some(Present { number, date });
    Some(Day { number, date, first_seq: frontier.size(), frontier: frontier.clone(), last_leaf })
}

/// Writes where days begin, and the checkpoints that close those before them.
pub(crate) fn insert(
    conn: &Conn<'_>,
    log: &str,
    begun: &[Day],
    sign: impl Fn(&Day) -> Option<String>,
    now: Timestamp,
) -> Result<()> {
    for day in begun {
        conn.execute_later(
            "INSERT INTO audit_day (log, number, date, first_seq, frontier, last_leaf) VALUES ($1, $2, $3, $4, $5, $6)",
            &[
                log.into(),
                size(day.number)?.into(),
                day.date.into(),
                size(day.first_seq)?.into(),
                Arg::Bytes(&day.frontier.to_bytes()),
                Arg::Bytes(&day.last_leaf),
            ],
        )?;
        // A commit may lie across midnight; where it does not, this checkpoint is there already.
        if day.first_seq > 0
            && let Some(note) = sign(day)
        {
            conn.execute_later(
                "INSERT INTO audit_checkpoint (log, size, at, note) VALUES ($1, $2, $3, $4) ON CONFLICT (log, size) DO NOTHING",
                &[log.into(), size(day.first_seq)?.into(), now.into(), Arg::Text(&note)],
            )?;
        }
    }
    Ok(())
}

/// Opens the partitions around the present day. What cannot be opened now keeps its records among the undated ones.
pub(crate) fn open_partitions(conn: &Conn<'_>, present: Present) -> Result<Opened> {
    if conn.dialect() == Dialect::Sqlite {
        return Ok(Opened::default());
    }
    let number = size(present.number)?;
    let from = number.saturating_sub(BEHIND).max(0);
    let to =
        conn.query_one("SELECT audit_open_days($1, $2)", &[from.into(), number.saturating_add(AHEAD).into()], |row| {
            row.integer(0)
        })?;
    let opened = Opened { from, to: to.unwrap_or(UNDATED) };
    if opened.to < number {
        tracing::warn!(
            day = number,
            "the partition of the day could not be opened; its records go among the undated ones"
        );
    }
    Ok(opened)
}

/// The newest day that is written down, and the days that begin after it in records which nobody has divided yet.
pub(crate) fn load(conn: &Conn<'_>, log: &str, log_size: i64) -> Result<(Option<Present>, Vec<Day>)> {
    let newest = conn.query_one(
        "SELECT number, date, first_seq, frontier, last_leaf FROM audit_day WHERE log = $1 ORDER BY number DESC LIMIT 1",
        &[log.into()],
        |row| Ok((row.integer(0)?, row.integer(1)?, row.integer(2)?, row.bytes(3)?, row.bytes(4)?)),
    )?;
    let divided = conn
        .query_one("SELECT divided FROM audit_frontier WHERE log = $1", &[log.into()], |row| row.integer_or_null(0))?;
    let (mut present, mut frontier, mut last_leaf) = (None, Frontier::new(), Hash::default());
    if let Some((number, date, _, edge, leaf)) = newest {
        present = Some(Present { number: u64::try_from(number).map_err(|_| damaged())?, date });
        frontier = Frontier::from_bytes(&edge)?;
        last_leaf = Hash::try_from(leaf.as_slice()).map_err(|_| damaged())?;
    }
    if divided.flatten() == Some(log_size) {
        return Ok((present, Vec::new()));
    }
    let mut begun = Vec::new();
    // Ends with the first page that is not full.
    loop {
        let page = conn.query(
            "SELECT seq, at, leaf_hash FROM audit_record WHERE log = $1 AND seq >= $2 ORDER BY seq LIMIT $3",
            &[log.into(), size(frontier.size())?.into(), PAGE.into()],
            |row| Ok((row.integer(0)?, row.time(1)?, row.bytes(2)?)),
        )?;
        for (seq, at, leaf) in &page {
            if *seq != size(frontier.size())? {
                return Err(damaged());
            }
            begun.extend(step(&mut present, day::date_of(*at), &frontier, last_leaf));
            last_leaf = Hash::try_from(leaf.as_slice()).map_err(|_| damaged())?;
            frontier.append(last_leaf);
        }
        if page.len() < usize::try_from(PAGE).unwrap_or(0) {
            return Ok((present, begun));
        }
    }
}

fn damaged() -> Fault {
    Fault::new(Code::AUDIT_TAMPERED, "the audit log cannot be divided into days: a record is missing or damaged")
        .hint("keep the files and run: agent-os audit verify")
}
