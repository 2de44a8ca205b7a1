//! Budgets, use and leases in the store.

use agentos_store::{Arg, Conn, Row, Tx};
use agentos_types::{
    Code, Fault, Result, Timestamp,
    budget::{AMOUNT_MAX, BudgetScope, BudgetUnit, Period},
};

use crate::{
    Budget, Origin,
    counters::{Booking, Key, Want},
};

/// Budgets that are set. Each is a line of a listing and a place in memory.
pub const BUDGETS_MAX: i64 = 20_000;
/// Where counting of use ends: above every budget, and so far below what a number holds that no sum overflows.
const USED_MAX: i64 = 2 * AMOUNT_MAX;
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

/// All of them, or a fault: one that is left out would not hold.
pub(crate) fn budgets(conn: &Conn<'_>) -> Result<Vec<Budget>> {
    let found = conn.query(
        "SELECT scope, period, unit, origin, amount, set_by, set_at FROM budget ORDER BY scope, period, unit, origin LIMIT $1",
        &[(BUDGETS_MAX + 1).into()],
        read_budget,
    )?;
    match i64::try_from(found.len()) {
        Ok(count) if count <= BUDGETS_MAX => Ok(found),
        _ => Err(Fault::new(Code::STORE_CORRUPT, format!("more than {BUDGETS_MAX} budgets are stored"))),
    }
}

pub(crate) fn refuse_one_too_many(conn: &Conn<'_>) -> Result<()> {
    let count = conn.query_one("SELECT count(*) FROM budget", &[], |row| row.integer(0))?.unwrap_or(0);
    if count <= BUDGETS_MAX {
        return Ok(());
    }
    Err(Fault::new(Code::BUDGET_INVALID, format!("{BUDGETS_MAX} budgets are set, which is the limit"))
        .hint("`agent-os budget show` lists them; remove what is not needed"))
}

/// Budgets with what was used of each in the period that is now. Runs have none of their own: their use is not one number.
pub(crate) fn standings(conn: &Conn<'_>, scope: Option<&BudgetScope>, now: Timestamp) -> Result<Vec<(Budget, Use)>> {
    let scope = scope.map(ToString::to_string);
    let [minute, day, month, total] = Period::ALL.map(|period| Arg::from(period.start(now).0));
    conn.query(
        "SELECT b.scope, b.period, b.unit, b.origin, b.amount, b.set_by, b.set_at,
                coalesce(u.used, 0), coalesce(u.leased, 0), coalesce(u.forfeited, 0)
         FROM budget b LEFT JOIN budget_use u ON u.scope = b.scope AND u.period = b.period AND u.unit = b.unit
           AND u.started_at = CASE b.period WHEN 'minute' THEN CAST($1 AS BIGINT)
             WHEN 'day' THEN CAST($2 AS BIGINT) WHEN 'month' THEN CAST($3 AS BIGINT) ELSE CAST($4 AS BIGINT) END
         WHERE b.scope = $5 OR $5 IS NULL ORDER BY b.scope, b.period, b.unit, b.origin LIMIT $6",
        &[minute, day, month, total, scope.as_deref().into(), (BUDGETS_MAX + 1).into()],
        |row| {
            let used = Use { used: row.integer(7)?, leased: row.integer(8)?, forfeited: row.integer(9)? };
            Ok((read_budget(row)?, used))
        },
    )
}

fn read_budget(row: &Row<'_>) -> Result<Budget> {
    let origin = Origin::parse(&row.text(3)?).ok_or_else(|| unknown("origin", "?"))?;
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

/// The smallest budget that is set, for the one that asks: another node may have changed it.
pub(crate) fn amount(conn: &Conn<'_>, want: &Want) -> Result<Option<i64>> {
    let scope = want.budgeted.to_string();
    let least = conn.query_one(
        "SELECT MIN(amount) FROM budget WHERE scope = $1 AND period = $2 AND unit = $3",
        &[scope.as_str().into(), want.key.period.as_str().into(), want.key.unit.as_str().into()],
        |row| row.integer_or_null(0),
    )?;
    Ok(least.flatten())
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

/// What the store says that a node leases.
pub(crate) fn leased(conn: &Conn<'_>, node: &str, key: &Key) -> Result<i64> {
    let scope = key.scope.to_string();
    let [of_scope, of_period, of_unit, of_start] = of_key(&scope, key);
    let found = conn.query_one(
        "SELECT amount FROM budget_lease WHERE scope = $1 AND period = $2 AND unit = $3 AND started_at = $4 AND node = $5",
        &[of_scope, of_period, of_unit, of_start, node.into()],
        |row| row.integer(0),
    )?;
    Ok(found.unwrap_or(0))
}

/// Spent becomes used; what is returned of the lease is free for everybody.
pub(crate) fn book(tx: &Tx<'_>, node: &str, booking: &Booking, now: Timestamp) -> Result<()> {
    let Booking { key, spent, returned, .. } = booking;
    if *spent == 0 && *returned == 0 {
        return Ok(());
    }
    let scope = key.scope.to_string();
    let [of_scope, of_period, of_unit, of_start] = of_key(&scope, key);
    tx.execute(
        "UPDATE budget_use
         SET used = CASE WHEN used > $8 THEN used ELSE used + $5 END, leased = leased - $6, used_at = $7
         WHERE scope = $1 AND period = $2 AND unit = $3 AND started_at = $4",
        &[
            of_scope,
            of_period,
            of_unit,
            of_start,
            (*spent).min(USED_MAX).into(),
            (*returned).into(),
            now.0.into(),
            USED_MAX.into(),
        ],
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

/// Counts that can no longer refuse anything: of minutes, days and runs that are long over; and sums for people of days that
/// nobody compares with any more.
pub(crate) fn prune(tx: &Tx<'_>, minutes: Timestamp, runs: Timestamp, days: Timestamp) -> Result<usize> {
    let counts = [
        ("DELETE FROM budget_use WHERE period = 'minute' AND started_at < $1 AND leased = 0", minutes),
        ("DELETE FROM budget_use WHERE scope LIKE 'run:%' AND used_at < $1 AND leased = 0", runs),
        ("DELETE FROM budget_use WHERE period = 'day' AND started_at < $1 AND leased = 0", days),
        ("DELETE FROM model_spend WHERE day < $1", days),
    ];
    counts.into_iter().map(|(statement, before)| tx.execute(statement, &[before.0.into()])).sum()
}

fn of_key<'a>(scope: &'a str, key: &Key) -> [Arg<'a>; 4] {
    [scope.into(), key.period.as_str().into(), key.unit.as_str().into(), key.start.0.into()]
}
