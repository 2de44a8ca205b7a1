//! `schedule`: an agent's schedules for itself. It can wake only itself: the target is the caller.

use agentos_protocol::syscall::{
    ScheduleDelete, ScheduleDeleteResult, ScheduleEntry, ScheduleListResult, SchedulePut, SchedulePutResult,
};
use agentos_store::{Conn, Tx};
use agentos_tasks::{NewSchedule, Tasks};
use agentos_types::{Actor, AgentName, Result};

pub(crate) fn put(
    tx: &mut Tx<'_>,
    tasks: &Tasks,
    actor: &Actor,
    agent: AgentName,
    args: SchedulePut,
) -> Result<SchedulePutResult> {
    let new = NewSchedule { agent, name: args.name, cadence: args.cadence, input: args.input };
    let schedule = tasks.put_schedule(tx, actor, new)?;
    Ok(SchedulePutResult { next_at: schedule.next_at })
}

pub(crate) fn delete(
    tx: &mut Tx<'_>,
    tasks: &Tasks,
    actor: &Actor,
    agent: &AgentName,
    args: &ScheduleDelete,
) -> Result<ScheduleDeleteResult> {
    Ok(ScheduleDeleteResult { existed: tasks.delete_schedule(tx, actor, agent, &args.name)? })
}

pub(crate) fn list(conn: &Conn<'_>, tasks: &Tasks, agent: &AgentName) -> Result<ScheduleListResult> {
    let schedules = tasks
        .schedules_of(conn, agent)?
        .into_iter()
        .map(|schedule| ScheduleEntry { name: schedule.name, cadence: schedule.cadence, next_at: schedule.next_at })
        .collect();
    Ok(ScheduleListResult { schedules })
}
