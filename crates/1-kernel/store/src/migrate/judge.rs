//! May this program run on this schema, and what is missing? Decided from what the database remembers and from the
//! migrations that the program knows; nothing here changes anything.

use agentos_types::{Code, Fault, Result};

use super::{Applied, Migration, history, newest, text};
use crate::{Conn, Dialect};

/// Where a schema stands for a program that may run on it.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) applied: Vec<Applied>,
    /// Known and not applied, in order. All lie above everything that is applied.
    pub(crate) pending: Vec<&'static Migration>,
    /// Applied by a later program; each of them lets this one run.
    pub(crate) unknown: Vec<i64>,
}

impl State {
    /// Number of the newest applied migration.
    pub(crate) fn schema(&self) -> i64 {
        self.applied.last().map_or(0, |applied| applied.number)
    }
}

/// Reads and judges.
pub(crate) fn state(conn: &Conn<'_>, known: &'static [Migration]) -> Result<State> {
    judge(conn.dialect(), known, history::read(conn)?)
}

/// `applied` is in order of number.
pub(crate) fn judge(dialect: Dialect, known: &'static [Migration], applied: Vec<Applied>) -> Result<State> {
    let find = |number: i64| known.iter().find(|migration| migration.number == number);
    let unknown: Vec<&Applied> = applied.iter().filter(|applied| find(applied.number).is_none()).collect();
    if let Some(hardest) = unknown.iter().max_by_key(|applied| applied.runs_from())
        && hardest.runs_from() > newest(known)
    {
        return Err(newer(known, &applied, hardest.runs_from()));
    }
    for applied in &applied {
        if find(applied.number).is_some_and(|migration| applied.sha256 != text::hash_of(dialect, migration)) {
            return Err(altered(applied.number));
        }
    }
    let unknown = unknown.into_iter().map(|applied| applied.number).collect();
    let top = applied.last().map_or(0, |applied| applied.number);
    let is_missing = |migration: &&Migration| applied.iter().all(|applied| applied.number != migration.number);
    let pending: Vec<&Migration> = known.iter().filter(is_missing).collect();
    match pending.first() {
        Some(first) if first.number < top => Err(skipped(first.number, top)),
        _ => Ok(State { applied, pending, unknown }),
    }
}

/// Refuses a schema that misses a migration. For a role that may not migrate.
pub(crate) fn require_current(conn: &Conn<'_>, known: &'static [Migration]) -> Result<State> {
    let state = state(conn, known)?;
    if state.pending.is_empty() { Ok(state) } else { Err(older(known, state.schema())) }
}

/// The schema is behind this program, and this role may not change that.
fn older(known: &[Migration], schema: i64) -> Fault {
    let known = newest(known);
    Fault::new(
        Code::SCHEMA_OLDER,
        format!("the database has schema {schema}, this program needs {known}, and the server's role may not migrate"),
    )
    .hint("set DATABASE_ADMIN_URL to the role that owns the tables, and run: agent-os migrate up")
}

/// The schema is ahead of this program by more than it can bear.
pub(crate) fn newer(known: &[Migration], applied: &[Applied], needed: i64) -> Fault {
    let known = newest(known);
    let (schema, by) = applied.last().map_or((0, None), |last| (last.number, last.applied_by.as_deref()));
    let release = by.map_or_else(|| "the release that made it".to_owned(), |by| format!("release {by}"));
    Fault::new(
        Code::SCHEMA_NEWER,
        format!(
            "the database has schema {schema}, which asks for a program that knows {needed}; this one knows {known}"
        ),
    )
    .hint(format!(
        "start {release} or a later one; to go back to this program, run with that release: agent-os migrate down --to \
         {known}, or restore the backup that was made before the upgrade"
    ))
}

fn altered(number: i64) -> Fault {
    Fault::new(Code::MIGRATION_CHANGED, format!("migration {number} was applied with another text"))
        .hint("use the release that applied it: agent-os migrate status names it")
}

/// Applied now, the missing one would meet a schema that it was never tested on.
fn skipped(number: i64, top: i64) -> Fault {
    Fault::new(Code::MIGRATION_CHANGED, format!("migration {number} was never applied, and {top} after it was"))
        .hint("revert with the program that applied it: agent-os migrate down, then agent-os migrate up with this one")
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn step(number: i64, runs_from: i64) -> Migration {
        Migration {
            number,
            name: "step",
            up: "",
            up_sqlite: "",
            up_postgres: "",
            down: "",
            down_sqlite: "",
            down_postgres: "",
            runs_from,
            loses: "",
        }
    }

    /// 3 is missing on purpose: numbers may have gaps.
    static ALL: [Migration; 5] = [step(1, 1), step(2, 1), step(4, 1), step(5, 4), step(6, 4)];

    fn applied(steps: &[Migration]) -> Vec<Applied> {
        let row = |step: &Migration| Applied {
            number: step.number,
            name: step.name.into(),
            sha256: text::hash_of(Dialect::Sqlite, step),
            applied_at: agentos_types::Timestamp::ZERO,
            runs_from: Some(step.runs_from),
            applied_by: Some("9.9.9".into()),
        };
        steps.iter().map(row).collect()
    }

    /// How a program that knows the first `known` steps takes a schema of the first `there` steps.
    fn check(known: usize, there: usize) -> std::result::Result<(usize, usize), (Code, String)> {
        judge(Dialect::Sqlite, &ALL[..known], applied(&ALL[..there]))
            .map(|state| (state.pending.len(), state.unknown.len()))
            .map_err(|fault| (fault.code, fault.message))
    }

    #[test]
    fn a_program_runs_on_every_schema_that_lets_it() {
        for known in 1..=ALL.len() {
            for there in 0..=ALL.len() {
                let lets = ALL[..there].iter().skip(known).all(|step| step.runs_from <= newest(&ALL[..known]));
                let expected = (known.saturating_sub(there), there.saturating_sub(known));
                match check(known, there) {
                    Ok(found) => assert!(lets && found == expected, "{known} on {there}: {found:?}"),
                    Err((code, _)) => assert!(!lets && code == Code::SCHEMA_NEWER, "{known} on {there}: {code}"),
                }
            }
        }
        // The last three of them in words: 4 bears what follows, 2 does not bear 5.
        assert_eq!(check(3, 5), Ok((0, 2)));
        assert_eq!(check(2, 3), Ok((0, 1)));
        let (code, message) = check(2, 5).unwrap_err();
        assert_eq!(code, Code::SCHEMA_NEWER);
        assert_eq!(message, "the database has schema 6, which asks for a program that knows 4; this one knows 2");
    }

    #[test]
    fn the_refusal_names_the_release_and_the_ways_back() {
        let fault = judge(Dialect::Sqlite, &ALL[..1], applied(&ALL)).unwrap_err();
        let hint = fault.hint.unwrap();
        assert!(hint.contains("9.9.9") && hint.contains("migrate down --to 1") && hint.contains("backup"), "{hint}");
    }

    #[test]
    fn without_a_word_a_later_step_is_not_borne() {
        let mut rows = applied(&ALL[..2]);
        rows[1].runs_from = None;
        assert_eq!(judge(Dialect::Sqlite, &ALL[..1], rows).unwrap_err().code, Code::SCHEMA_NEWER);
    }

    #[test]
    fn a_gap_and_another_text_are_refused() {
        let mut rows = applied(&ALL[..3]);
        rows.remove(1);
        let fault = judge(Dialect::Sqlite, &ALL[..3], rows).unwrap_err();
        assert_eq!((fault.code, fault.message.contains("migration 2 ")), (Code::MIGRATION_CHANGED, true), "{fault}");
        let mut rows = applied(&ALL[..3]);
        rows[0].sha256 = "other".into();
        assert_eq!(judge(Dialect::Sqlite, &ALL, rows).unwrap_err().code, Code::MIGRATION_CHANGED);
        // A step of ours that is missing below one of theirs.
        let mut rows = applied(&ALL[..5]);
        rows.remove(2);
        assert_eq!(judge(Dialect::Sqlite, &ALL[..4], rows).unwrap_err().code, Code::MIGRATION_CHANGED);
    }
}
