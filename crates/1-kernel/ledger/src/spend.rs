//! What was spent, for people: sums by day, payer and model. Budgets do not depend on them, so that they are written at
//! leisure.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use agentos_store::{Conn, Row, Store, Tx};
use agentos_types::{Result, Timestamp, budget::AMOUNT_MAX};

/// Sums that one day can have in memory; a payer more is counted under [`OTHERS`].
const ROWS_MAX: usize = 50_000;
const OTHERS: &str = "others";
/// Of one row. No real sum comes near, and what a provider makes up cannot make the sum of many rows overflow.
const SUM_MAX: i64 = AMOUNT_MAX / 100;
/// Rows of a listing.
const TOP_MAX: i64 = 1_000;

/// One sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpendRow {
    /// As of `agent:NAME` or `token:ID`.
    pub payer: String,
    /// `PROVIDER/MODEL`.
    pub model: String,
    pub requests: i64,
    pub failures: i64,
    pub tokens_input: i64,
    pub tokens_output: i64,
    pub nano_usd: i64,
    /// Requests whose usage the provider did not tell.
    pub estimated: i64,
    /// Requests that a cache answered.
    pub cached: i64,
}

type Place = (Timestamp, String, String);

/// Sums that are not written yet.
#[derive(Debug, Default)]
pub struct Spend(Mutex<HashMap<Place, SpendRow>>);

impl Spend {
    /// Adds one call.
    pub fn add(&self, now: Timestamp, call: SpendRow) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut place = (now.day_start(), call.payer.clone(), call.model.clone());
        if rows.len() >= ROWS_MAX && !rows.contains_key(&place) {
            OTHERS.clone_into(&mut place.1);
        }
        add_to(rows.entry(place).or_default(), &call);
    }

    pub(crate) async fn write(&self, store: &Store) -> Result<()> {
        let taken = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if taken.is_empty() {
            return Ok(());
        }
        let rows = taken.clone();
        let written = store.write(move |tx| rows.iter().try_for_each(|(place, row)| put(tx, place, row))).await;
        if written.is_err() {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for (place, row) in taken {
                add_to(kept.entry(place).or_default(), &row);
            }
        }
        written
    }

    /// The largest sums since a day, by cost and then by requests. What was not written yet is not in them.
    pub fn top(conn: &Conn<'_>, since: Timestamp, limit: usize) -> Result<Vec<SpendRow>> {
        conn.query(
            "SELECT payer, model, CAST(sum(requests) AS BIGINT), CAST(sum(failures) AS BIGINT),
                    CAST(sum(tokens_input) AS BIGINT), CAST(sum(tokens_output) AS BIGINT),
                    CAST(sum(nano_usd) AS BIGINT), CAST(sum(estimated) AS BIGINT), CAST(sum(cached) AS BIGINT)
             FROM model_spend WHERE day >= $1 GROUP BY payer, model
             ORDER BY sum(nano_usd) DESC, sum(requests) DESC, payer, model LIMIT $2",
            &[since.day_start().0.into(), i64::try_from(limit).unwrap_or(TOP_MAX).min(TOP_MAX).into()],
            |row| Ok(SpendRow { payer: row.text(0)?, model: row.text(1)?, ..read_sums(row)? }),
        )
    }

    /// Everything since a day, of nobody in particular.
    pub fn total(conn: &Conn<'_>, since: Timestamp) -> Result<SpendRow> {
        let found = conn.query_one(
            "SELECT '', '', CAST(coalesce(sum(requests), 0) AS BIGINT), CAST(coalesce(sum(failures), 0) AS BIGINT),
                    CAST(coalesce(sum(tokens_input), 0) AS BIGINT), CAST(coalesce(sum(tokens_output), 0) AS BIGINT),
                    CAST(coalesce(sum(nano_usd), 0) AS BIGINT), CAST(coalesce(sum(estimated), 0) AS BIGINT),
                    CAST(coalesce(sum(cached), 0) AS BIGINT)
             FROM model_spend WHERE day >= $1",
            &[since.day_start().0.into()],
            read_sums,
        )?;
        Ok(found.unwrap_or_default())
    }
}

fn read_sums(row: &Row<'_>) -> Result<SpendRow> {
    Ok(SpendRow {
        requests: row.integer(2)?,
        failures: row.integer(3)?,
        tokens_input: row.integer(4)?,
        tokens_output: row.integer(5)?,
        nano_usd: row.integer(6)?,
        estimated: row.integer(7)?,
        cached: row.integer(8)?,
        ..SpendRow::default()
    })
}

fn add_to(sum: &mut SpendRow, call: &SpendRow) {
    for (sum, more) in [
        (&mut sum.requests, call.requests),
        (&mut sum.failures, call.failures),
        (&mut sum.tokens_input, call.tokens_input),
        (&mut sum.tokens_output, call.tokens_output),
        (&mut sum.nano_usd, call.nano_usd),
        (&mut sum.estimated, call.estimated),
        (&mut sum.cached, call.cached),
    ] {
        *sum = sum.saturating_add(more.clamp(0, SUM_MAX)).min(SUM_MAX);
    }
}

fn put(tx: &Tx<'_>, (day, payer, model): &Place, row: &SpendRow) -> Result<()> {
    tx.execute(
        "INSERT INTO model_spend
           (day, payer, model, requests, failures, tokens_input, tokens_output, nano_usd, estimated, cached)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $11)
         ON CONFLICT (day, payer, model) DO UPDATE SET
           requests = CASE WHEN model_spend.requests > $10 THEN $10 ELSE model_spend.requests + excluded.requests END,
           failures = CASE WHEN model_spend.failures > $10 THEN $10 ELSE model_spend.failures + excluded.failures END,
           tokens_input =
             CASE WHEN model_spend.tokens_input > $10 THEN $10 ELSE model_spend.tokens_input + excluded.tokens_input END,
           tokens_output =
             CASE WHEN model_spend.tokens_output > $10 THEN $10 ELSE model_spend.tokens_output + excluded.tokens_output END,
           nano_usd = CASE WHEN model_spend.nano_usd > $10 THEN $10 ELSE model_spend.nano_usd + excluded.nano_usd END,
           estimated = CASE WHEN model_spend.estimated > $10 THEN $10 ELSE model_spend.estimated + excluded.estimated END,
           cached = CASE WHEN model_spend.cached > $10 THEN $10 ELSE model_spend.cached + excluded.cached END",
        &[
            day.0.into(),
            payer.into(),
            model.into(),
            row.requests.into(),
            row.failures.into(),
            row.tokens_input.into(),
            row.tokens_output.into(),
            row.nano_usd.into(),
            row.estimated.into(),
            SUM_MAX.into(),
            row.cached.into(),
        ],
    )
    .map(drop)
}
