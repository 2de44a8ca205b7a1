//! Budgets, use and leases in the store.

use agentos_store::{Arg, Conn, Row, Tx};
use agentos_types::{
    Code, Fault, Result, Timestamp,
    budget::{BudgetScope, BudgetUnit, Period},
};

use crate::{
    Budget, Origin,
    counters::{Booking, Key},
};

/// Budgets that are set. Each is a line of a listing and a place in memory.
pub(crate) const BUDGETS_MAX: usize = 100_000;
/// Leases of one node that a start looks through.
const LEASES_MAX: i64 = 1_000_000;

/// How a budget stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub budget: Budget,
    /// Of the period that is now.
    pub used: i64,
    /// In calls that are under way on this node.
    pub reserved: i64,
    /// Part of `used` that a node held when it died.
    pub forfeited: i64,
    /// When counting begins anew; never for a total.
    pub resets_at: Timestamp,
}

/// What the store knows of one count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Use {
    pub used: i64,
    pub leased: i64,
    pub forfeited: i64,
}

pub(crate) fn budgets(conn: &Conn<'_>) -> Result<Vec<Budget>> {
    conn.query(
        "SELECT scope, period, unit, origin, amount, set_by, set_at FROM budget ORDER BY scope, period, unit, origin LIMIT $1",
        &[i64::try_from(BUDGETS_MAX).unwrap_or(i64::MAX).into()],
        read_budget,
    )
}

fn read_budget(row: &Row<'_>) -> Result<Budget> {
    let origin = if row.text(3)? == Origin::Manifest.as_str() { Origin::Manifest } else { Origin::Operator };
    Ok(Budget {
        scope: row.text(0)?.parse()?,
        period: period(&row.text(1)?)?,
        unit: unit(&row.text(2)?)?,
        origin,
        amount: row.integer(4)?,
        set_by: row.text(5)?,
        set_at: Timestamp(row.integer(6)?),
    })
}

fn period(text: &str) -> Result<Period> {
    Period::ALL.into_iter().find(|period| period.as_str() == text).ok_or_else(|| unknown("period", text))
}

fn unit(text: &str) -> Result<BudgetUnit> {
    BudgetUnit::ALL.into_iter().find(|unit| unit.as_str() == text).ok_or_else(|| unknown("unit", text))
}

fn unknown(what: &str, text: &str) -> Fault {
    Fault::new(Code::STORE_CORRUPT, "the table of budgets holds a word that this program does not know")
        .detail(format!("{what} {text}"))
}

pub(crate) fn put(tx: &Tx<'_>, budget: &Budget) -> Result<()> {
    let scope = budget.scope.to_string();
    let args: [Arg<'_>; 7] = [
        scope.as_str().into(),
        budget.period.as_str().into(),
        budget.unit.as_str().into(),
        budget.origin.as_str().into(),
        budget.amount.into(),
        budget.set_by.as_str().into(),
        budget.set_at.0.into(),
    ];
    tx.execute(
        "INSERT INTO budget (scope, period, unit, origin, amount, set_by, set_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (scope, period, unit, origin)
         DO UPDATE SET amount = excluded.amount, set_by = excluded.set_by, set_at = excluded.set_at",
        &args,
    )
    .map(drop)
}

pub(crate) fn remove(
    tx: &Tx<'_>,
    scope: &BudgetScope,
    period: Period,
    unit: BudgetUnit,
    origin: Origin,
) -> Result<usize> {
    let scope = scope.to_string();
    tx.execute(
        "DELETE FROM budget WHERE scope = $1 AND period = $2 AND unit = $3 AND origin = $4",
        &[scope.as_str().into(), period.as_str().into(), unit.as_str().into(), origin.as_str().into()],
    )
}

pub(crate) fn remove_manifests(tx: &Tx<'_>, scope: &BudgetScope) -> Result<usize> {
    let scope = scope.to_string();
    tx.execute("DELETE FROM budget WHERE scope = $1 AND origin = 'manifest'", &[scope.as_str().into()])
}

pub(crate) fn used(conn: &Conn<'_>, key: &Key) -> Result<Use> {
    let scope = key.scope.to_string();
    let found = conn.query_one(
        "SELECT used, leased, forfeited FROM budget_use WHERE scope = $1 AND period = $2 AND unit = $3 AND started_at = $4",
        &of_key(&scope, key),
        |row| Ok(Use { used: row.integer(0)?, leased: row.integer(1)?, forfeited: row.integer(2)? }),
    )?;
    Ok(found.unwrap_or_default())
}

/// Takes `granted` more of a budget. One statement decides, so that of two nodes at once only as many are let in as fit.
pub(crate) fn lease(tx: &Tx<'_>, node: &str, key: &Key, granted: i64, limit: i64, now: Timestamp) -> Result<bool> {
    let scope = key.scope.to_string();
    let [of_scope, of_period, of_unit, of_start] = of_key(&scope, key);
    tx.execute(
        "INSERT INTO budget_use (scope, period, unit, started_at, used, leased, forfeited, used_at)
         VALUES ($1, $2, $3, $4, 0, 0, 0, $5) ON CONFLICT (scope, period, unit, started_at) DO NOTHING",
        &[of_scope, of_period, of_unit, of_start, now.0.into()],
    )?;
    let changed = tx.execute(
        "UPDATE budget_use SET leased = leased + $5, used_at = $7
         WHERE scope = $1 AND period = $2 AND unit = $3 AND started_at = $4 AND used + leased + $5 <= $6",
        &[of_scope, of_period, of_unit, of_start, granted.into(), limit.into(), now.0.into()],
    )?;
    if changed == 0 {
        return Ok(false);
    }
    tx.execute(
        "INSERT INTO budget_lease (scope, period, unit, started_at, node, amount) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (scope, period, unit, started_at, node)
         DO UPDATE SET amount = budget_lease.amount + excluded.amount",
        &[of_scope, of_period, of_unit, of_start, node.into(), granted.into()],
    )?;
    Ok(true)
}

/// Spent becomes used; what is returned of the lease is free for everybody.
pub(crate) fn book(tx: &Tx<'_>, node: &str, booking: &Booking, now: Timestamp) -> Result<()> {
    let Booking { key, spent, returned } = booking;
    if *spent == 0 && *returned == 0 {
        return Ok(());
    }
    let scope = key.scope.to_string();
    let [of_scope, of_period, of_unit, of_start] = of_key(&scope, key);
    tx.execute(
        "UPDATE budget_use SET used = used + $5, leased = leased - $6, used_at = $7
         WHERE scope = $1 AND period = $2 AND unit = $3 AND started_at = $4",
        &[of_scope, of_period, of_unit, of_start, (*spent).into(), (*returned).into(), now.0.into()],
    )?;
    tx.execute(
        "UPDATE budget_lease SET amount = amount - $6
         WHERE scope = $1 AND period = $2 AND unit = $3 AND started_at = $4 AND node = $5",
        &[of_scope, of_period, of_unit, of_start, node.into(), (*returned).into()],
    )?;
    tx.execute(
        "DELETE FROM budget_lease
         WHERE scope = $1 AND period = $2 AND unit = $3 AND started_at = $4 AND node = $5 AND amount <= 0",
        &[of_scope, of_period, of_unit, of_start, node.into()],
    )
    .map(drop)
}

/// True once for each period: more than `threshold` is used.
pub(crate) fn warn_once(tx: &Tx<'_>, key: &Key, threshold: i64, now: Timestamp) -> Result<bool> {
    let scope = key.scope.to_string();
    let [of_scope, of_period, of_unit, of_start] = of_key(&scope, key);
    let changed = tx.execute(
        "UPDATE budget_use SET warned_at = $6 WHERE scope = $1 AND period = $2 AND unit = $3 AND started_at = $4
           AND warned_at IS NULL AND used >= $5",
        &[of_scope, of_period, of_unit, of_start, threshold.into(), now.0.into()],
    )?;
    Ok(changed > 0)
}

/// After a crash: what this node held counts as used. Returns what, by count.
pub(crate) fn forfeit(tx: &Tx<'_>, node: &str) -> Result<Vec<(Key, i64)>> {
    let held = tx.query(
        "SELECT scope, period, unit, started_at, amount FROM budget_lease WHERE node = $1 LIMIT $2",
        &[node.into(), LEASES_MAX.into()],
        |row| {
            let key = Key {
                scope: row.text(0)?.parse()?,
                period: period(&row.text(1)?)?,
                unit: unit(&row.text(2)?)?,
                start: Timestamp(row.integer(3)?),
            };
            Ok((key, row.integer(4)?))
        },
    )?;
    for (key, amount) in &held {
        let scope = key.scope.to_string();
        let [of_scope, of_period, of_unit, of_start] = of_key(&scope, key);
        tx.execute(
            "UPDATE budget_use SET used = used + $5, leased = leased - $5, forfeited = forfeited + $5
             WHERE scope = $1 AND period = $2 AND unit = $3 AND started_at = $4",
            &[of_scope, of_period, of_unit, of_start, (*amount).into()],
        )?;
    }
    tx.execute("DELETE FROM budget_lease WHERE node = $1", &[node.into()])?;
    Ok(held)
}

/// Counts that can no longer refuse anything: of minutes and runs that are long over.
pub(crate) fn prune(tx: &Tx<'_>, minutes_before: Timestamp, runs_before: Timestamp) -> Result<usize> {
    let minutes = tx.execute(
        "DELETE FROM budget_use WHERE period = 'minute' AND started_at < $1 AND leased = 0",
        &[minutes_before.0.into()],
    )?;
    let runs = tx.execute(
        "DELETE FROM budget_use WHERE scope LIKE 'run:%' AND used_at < $1 AND leased = 0",
        &[runs_before.0.into()],
    )?;
    Ok(minutes + runs)
}

fn of_key<'a>(scope: &'a str, key: &Key) -> [Arg<'a>; 4] {
    [scope.into(), key.period.as_str().into(), key.unit.as_str().into(), key.start.0.into()]
}
