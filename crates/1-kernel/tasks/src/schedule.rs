//! Schedules: what is to be submitted again and again, kept per agent and name.
//!
//! Firing is a module of its own; here they are made, replaced, paused, listed and removed.

use agentos_store::{Conn, Row, Tx};
use agentos_types::{
    Actor, AgentName, Code, Envelope, Fault, Result, ScheduleId, Timestamp,
    audit::AuditEvent,
    notify::Notice,
    task::{Cadence, Schedule},
};

use crate::{
    Core, NewSchedule, ScheduleFilter, Tasks, cadence, intake::refuse_unable_agent, payload, payload::corrupt,
    read::page,
};

/// Bytes of a schedule's name.
const NAME_BYTES_MAX: usize = 100;
/// Schedules of one agent; an agent that makes them in a loop must not fill the scheduler.
const PER_AGENT_MAX: i64 = 1_000;
/// Sorts after every schedule id.
const NEWEST: &str = "sched_~";

/// Values of the column `paused`.
pub(crate) const ACTIVE: i64 = 0;
const PAUSED_BY_SOMEBODY: i64 = 1;
const PAUSED_WITH_AGENT: i64 = 2;

macro_rules! schedule_columns {
    () => {
        "id, agent, name, cadence, input_key, input, paused, created_by, next_at, last_at, fired"
    };
}

impl Tasks {
    /// Creates the schedule, or replaces cadence and input of the one with this agent and name. The next firing is
    /// computed anew unless the cadence is the same as before: an agent may put its schedules at each start without
    /// ever pushing a firing away.
    pub fn put_schedule(&self, tx: &mut Tx<'_>, actor: &Actor, new: NewSchedule) -> Result<Schedule> {
        self.core.put_schedule(tx, actor, new)
    }

    /// True if there was one.
    pub fn delete_schedule(&self, tx: &mut Tx<'_>, actor: &Actor, agent: &AgentName, name: &str) -> Result<bool> {
        let found = tx.query_one(
            concat!("SELECT ", schedule_columns!(), " FROM schedule WHERE agent = $1 AND name = $2"),
            &[agent.into(), name.into()],
            read,
        )?;
        match found {
            Some(schedule) => self.core.remove(tx, actor, &schedule).map(|()| true),
            None => Ok(false),
        }
    }

    /// By name.
    pub fn schedules_of(&self, conn: &Conn<'_>, agent: &AgentName) -> Result<Vec<Schedule>> {
        conn.query(
            concat!("SELECT ", schedule_columns!(), " FROM schedule WHERE agent = $1 ORDER BY name LIMIT $2"),
            &[agent.into(), PER_AGENT_MAX.into()],
            read,
        )
    }

    /// Newest first.
    pub async fn list_schedules(&self, filter: ScheduleFilter) -> Result<Vec<Schedule>> {
        self.store
            .read(move |conn| {
                let below = filter.after.as_ref().map_or(NEWEST, ScheduleId::as_str);
                match &filter.agent {
                    Some(agent) => conn.query(
                        concat!(
                            "SELECT ",
                            schedule_columns!(),
                            " FROM schedule WHERE agent = $3 AND id < $1 ORDER BY id DESC LIMIT $2"
                        ),
                        &[below.into(), page(filter.limit), agent.into()],
                        read,
                    ),
                    None => conn.query(
                        concat!(
                            "SELECT ",
                            schedule_columns!(),
                            " FROM schedule WHERE id < $1 ORDER BY id DESC LIMIT $2"
                        ),
                        &[below.into(), page(filter.limit)],
                        read,
                    ),
                }
            })
            .await
    }

    pub async fn get_schedule(&self, id: &ScheduleId) -> Result<Schedule> {
        let id = id.clone();
        self.store.read(move |conn| load(conn, &id)).await
    }

    /// [`Tasks::put_schedule`] in a transaction of its own.
    pub async fn create_schedule(&self, actor: &Actor, new: NewSchedule) -> Result<Schedule> {
        let (core, actor) = (self.core.clone(), actor.clone());
        self.store.write(move |tx| core.put_schedule(tx, &actor, new)).await
    }

    pub async fn remove_schedule(&self, actor: &Actor, id: &ScheduleId) -> Result<()> {
        let (core, actor, id) = (self.core.clone(), actor.clone(), id.clone());
        self.store
            .write(move |tx| {
                let schedule = load(tx, &id)?;
                core.remove(tx, &actor, &schedule)
            })
            .await
    }

    /// Pauses or resumes. What was missed while paused is not made up for: the next firing lies in the future.
    pub async fn pause_schedule(&self, actor: &Actor, id: &ScheduleId, paused: bool) -> Result<Schedule> {
        let (core, actor, id) = (self.core.clone(), actor.clone(), id.clone());
        self.store.write(move |tx| core.pause(tx, &actor, &id, paused)).await
    }
}

impl Core {
    fn put_schedule(&self, tx: &mut Tx<'_>, actor: &Actor, new: NewSchedule) -> Result<Schedule> {
        let now = self.ambient.now();
        check_name(&new.name)?;
        cadence::validate(&new.cadence, self.options.interval_min, now)?;
        let input = payload::seal("input", &new.input)?;
        refuse_unable_agent(tx, &new.agent)?;
        let cadence_json = serde_json::to_string(&new.cadence).map_err(Fault::internal)?;
        let present = tx.query_one(
            "SELECT id, cadence, paused FROM schedule WHERE agent = $1 AND name = $2",
            &[(&new.agent).into(), (&new.name).into()],
            |row| Ok((row.parsed::<ScheduleId>(0)?, row.text(1)?, row.integer(2)?)),
        )?;
        let id = match present {
            None => self.insert(tx, actor, &new, &cadence_json, &input, now)?,
            Some((id, cadence, paused)) => {
                // A pause that came with the agent's end is over when the agent asks again; somebody's own is not.
                let revived = paused == PAUSED_WITH_AGENT;
                let next_at = match cadence == cadence_json && !revived {
                    true => None,
                    false => Some(cadence::first(&new.cadence, now)?),
                };
                tx.execute(
                    "UPDATE schedule SET cadence = $2, input_key = $3, input = $4, next_at = coalesce($5, next_at),
                       paused = CASE WHEN paused = 2 THEN 0 ELSE paused END WHERE id = $1",
                    &[(&id).into(), (&cadence_json).into(), input.key_id.into(), (&input.bytes).into(), next_at.into()],
                )?;
                id
            }
        };
        let schedule = load(tx, &id)?;
        tx.record(self.schedule_fact(actor, "schedule.put", &schedule).fact("cadence", cadence_json));
        tx.announce(Notice::Schedules);
        Ok(schedule)
    }

    fn insert(
        &self,
        tx: &mut Tx<'_>,
        actor: &Actor,
        new: &NewSchedule,
        cadence_json: &String,
        input: &Envelope,
        now: Timestamp,
    ) -> Result<ScheduleId> {
        let count = tx.query_one("SELECT count(*) FROM schedule WHERE agent = $1", &[(&new.agent).into()], |row| {
            row.integer(0)
        })?;
        if count.unwrap_or(0) >= PER_AGENT_MAX {
            return Err(invalid(format!("agent {} has {PER_AGENT_MAX} schedules already", new.agent)));
        }
        let id = self.ambient.schedule_id();
        tx.execute(
            "INSERT INTO schedule (id, agent, name, cadence, input_key, input, created_by, created_at, next_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &[
                (&id).into(),
                (&new.agent).into(),
                (&new.name).into(),
                cadence_json.into(),
                input.key_id.into(),
                (&input.bytes).into(),
                (&actor.label()).into(),
                now.into(),
                cadence::first(&new.cadence, now)?.into(),
            ],
        )?;
        Ok(id)
    }

    fn remove(&self, tx: &mut Tx<'_>, actor: &Actor, schedule: &Schedule) -> Result<()> {
        tx.execute("DELETE FROM schedule_fire WHERE schedule = $1", &[(&schedule.id).into()])?;
        tx.execute("DELETE FROM schedule WHERE id = $1", &[(&schedule.id).into()])?;
        tx.record(self.schedule_fact(actor, "schedule.delete", schedule));
        tx.announce(Notice::Schedules);
        Ok(())
    }

    fn pause(&self, tx: &mut Tx<'_>, actor: &Actor, id: &ScheduleId, paused: bool) -> Result<Schedule> {
        let before = load(tx, id)?;
        if before.paused == paused {
            return Ok(before);
        }
        let now = self.ambient.now();
        let next_at = match paused {
            false if before.next_at <= now => cadence::following(&before.cadence, before.next_at, now)?,
            _ => before.next_at,
        };
        let value = if paused { PAUSED_BY_SOMEBODY } else { ACTIVE };
        tx.execute(
            "UPDATE schedule SET paused = $2, next_at = $3 WHERE id = $1",
            &[id.into(), value.into(), next_at.into()],
        )?;
        let action = if paused { "schedule.pause" } else { "schedule.resume" };
        tx.record(self.schedule_fact(actor, action, &before));
        tx.announce(Notice::Schedules);
        load(tx, id)
    }

    /// An agent that is gone takes no work: its schedules rest until they are put again or resumed.
    pub(crate) fn pause_all_of(&self, tx: &mut Tx<'_>, schedule: &Schedule) -> Result<()> {
        let paused = tx.execute(
            "UPDATE schedule SET paused = $2 WHERE agent = $1 AND paused = 0",
            &[(&schedule.agent).into(), PAUSED_WITH_AGENT.into()],
        )?;
        let fact = self.schedule_fact(&Actor::System, "schedule.pause", schedule);
        tx.record(fact.fact("reason", "the agent is terminated").fact("schedules", paused));
        tx.announce(Notice::Schedules);
        Ok(())
    }

    pub(crate) fn schedule_fact(&self, actor: &Actor, action: &str, schedule: &Schedule) -> AuditEvent {
        let id = self.ambient.event_id();
        AuditEvent::new(id, self.ambient.now(), actor.clone(), action.to_owned(), schedule.id.to_string())
            .fact("agent", schedule.agent.as_str())
            .fact("name", schedule.name.as_str())
    }
}

pub(crate) fn load(conn: &Conn<'_>, id: &ScheduleId) -> Result<Schedule> {
    find(conn, id)?.ok_or_else(|| {
        Fault::new(Code::SCHEDULE_NOT_FOUND, format!("there is no schedule {id}"))
            .hint("list them with: agent-os schedule list")
    })
}

pub(crate) fn find(conn: &Conn<'_>, id: &ScheduleId) -> Result<Option<Schedule>> {
    conn.query_one(concat!("SELECT ", schedule_columns!(), " FROM schedule WHERE id = $1"), &[id.into()], read)
}

fn read(row: &Row<'_>) -> Result<Schedule> {
    let cadence_json = row.text(3)?;
    let cadence: Cadence = serde_json::from_str(&cadence_json).map_err(|_| corrupt("cadence", &cadence_json))?;
    Ok(Schedule {
        id: row.parsed(0)?,
        agent: row.parsed(1)?,
        name: row.text(2)?,
        cadence,
        input: Envelope { key_id: row.integer(4)?, bytes: row.bytes(5)? }.open_value()?,
        paused: row.integer(6)? != ACTIVE,
        created_by: row.text(7)?,
        next_at: row.time(8)?,
        last_at: row.time_or_null(9)?,
        fired: row.integer(10)?,
    })
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(invalid(format!("a schedule's name has 1 to {NAME_BYTES_MAX} bytes and no control characters")));
    }
    Ok(())
}

fn invalid(message: String) -> Fault {
    Fault::new(Code::SCHEDULE_INVALID, message)
}
