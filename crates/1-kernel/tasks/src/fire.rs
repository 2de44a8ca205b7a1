//! The firing of schedules. Each fires in a transaction of its own, so that one that cannot does not hold up the others;
//! the guard row of a firing makes a second one impossible, whoever tries.

use std::time::Duration;

use agentos_failpoint::{Point, hit};
use agentos_store::{Conn, Tx};
use agentos_types::{Actor, Code, Result, ScheduleId, Timestamp, task::Schedule};
use futures_util::future::join_all;

use crate::{Core, NewTask, Tasks, cadence, intake::Origin, schedule};

/// Firings older than this no longer need their guard row: the clock would have to go back as far to repeat them.
const FIRE_KEPT: Duration = Duration::from_secs(86_400);
/// Schedules that fire side by side; more would crowd others out of the store's queue.
const FIRINGS_AT_ONCE: i64 = 64;

/// Schedules that are due, one page after a cursor.
pub(crate) const DUE_SCHEDULES: &str =
    "SELECT next_at, id FROM schedule WHERE paused = 0 AND next_at <= $1 AND (next_at, id) > ($2, $3)
         ORDER BY next_at, id LIMIT $4";

impl Tasks {
    /// Fires everything that is due. Returns the next instant at which something will be.
    ///
    /// A firing submits even if the schedule's previous task is not finished; an agent that wants one at a time says so by
    /// its number of slots. What was missed while the server was down fires once, not once for each time.
    pub async fn fire_due(&self) -> Result<Option<Timestamp>> {
        let now = self.core.ambient.now();
        let mut refusal = None;
        let mut cursor = (Timestamp(i64::MIN), String::new());
        // Ends because the cursor rises and what is due now does not become more.
        loop {
            let from = cursor.clone();
            let due = self.store.read(move |conn| due_schedules(conn, now, &from)).await?;
            let Some((last_at, last_id)) = due.last() else { break };
            cursor = (*last_at, last_id.to_string());
            // Side by side, so that they share a commit; each in its own savepoint.
            let firings = due.into_iter().map(|(_, id)| {
                let core = self.core.clone();
                self.store.write(move |tx| core.fire(tx, &id))
            });
            for outcome in join_all(firings).await {
                match outcome {
                    // A full queue empties; the schedule stays due and is tried at the next look.
                    Err(fault) if fault.code != Code::QUEUE_FULL => refusal = refusal.or(Some(fault)),
                    _ => {}
                }
            }
        }
        if let Some(fault) = refusal {
            return Err(fault);
        }
        self.store
            .read(|conn| {
                conn.query_one("SELECT next_at FROM schedule WHERE paused = 0 ORDER BY next_at LIMIT 1", &[], |row| {
                    row.time(0)
                })
            })
            .await
            .map(|next| next.filter(|next| !next.is_never()))
    }
}

/// One page of what is due, after the cursor.
fn due_schedules(conn: &Conn<'_>, now: Timestamp, from: &(Timestamp, String)) -> Result<Vec<(Timestamp, ScheduleId)>> {
    conn.query(DUE_SCHEDULES, &[now.into(), from.0.into(), (&from.1).into(), FIRINGS_AT_ONCE.into()], |row| {
        Ok((row.time(0)?, row.parsed(1)?))
    })
}

impl Core {
    fn fire(&self, tx: &mut Tx<'_>, id: &ScheduleId) -> Result<()> {
        let now = self.ambient.now();
        let Some(schedule) = schedule::find(tx, id)?.filter(|found| !found.paused && found.next_at <= now) else {
            // Somebody else fired, paused or removed it meanwhile.
            return Ok(());
        };
        let fire_at = schedule.next_at;
        let taken = tx.query_one(
            "SELECT task FROM schedule_fire WHERE schedule = $1 AND fire_at = $2",
            &[id.into(), fire_at.into()],
            |row| row.text(0),
        )?;
        let fired = match taken {
            Some(_) => 0,
            None => match self.submit_firing(tx, &schedule) {
                Ok(()) => 1,
                // It fired before, with an input that was replaced since.
                Err(fault) if fault.code == Code::IDEMPOTENCY_CONFLICT => 0,
                Err(fault) if matches!(fault.code, Code::AGENT_NOT_FOUND | Code::AGENT_STATE) => {
                    return self.pause_all_of(tx, &schedule);
                }
                Err(fault) => return Err(fault),
            },
        };
        // A cadence that has no future firing (a zone that was removed) rests instead of failing each second.
        let next_at = cadence::following(&schedule.cadence, fire_at, now).unwrap_or(Timestamp::NEVER);
        tx.execute(
            "UPDATE schedule SET next_at = $2, last_at = $3, fired = fired + $4 WHERE id = $1",
            &[id.into(), next_at.into(), now.into(), i64::from(fired).into()],
        )?;
        hit(Point::TasksFireAdvanced);
        tx.execute(
            "DELETE FROM schedule_fire WHERE schedule = $1 AND fire_at < $2",
            &[id.into(), fire_at.before(FIRE_KEPT).into()],
        )?;
        Ok(())
    }

    /// The guard row and the task of one firing. The primary key refuses a second one, whoever tries.
    fn submit_firing(&self, tx: &mut Tx<'_>, schedule: &Schedule) -> Result<()> {
        let fire_at = schedule.next_at;
        let mut new = NewTask::new(schedule.agent.clone(), schedule.input.clone());
        new.idempotency_key = Some(fire_at.as_micros().to_string());
        let origin = Origin {
            scope: format!("schedule:{}", schedule.id),
            submitted_by: Actor::System.label(),
            actor: &Actor::System,
            schedule: Some(&schedule.id),
        };
        let task = self.admit(tx, &origin, new)?.task;
        hit(Point::TasksFireSubmitted);
        tx.execute(
            "INSERT INTO schedule_fire (schedule, fire_at, task) VALUES ($1, $2, $3)",
            &[(&schedule.id).into(), fire_at.into(), (&task.id).into()],
        )?;
        hit(Point::TasksFireGuarded);
        let fact = self.schedule_fact(&Actor::System, "schedule.fire", schedule).task(Some(task.id));
        tx.record(fact.fact("fire_at", fire_at.as_micros()));
        Ok(())
    }
}
