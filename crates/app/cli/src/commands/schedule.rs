//! `schedule`.

use agentos_api::body::CreateSchedule as Body;
use agentos_types::task::{Cadence, Schedule};

use super::Session;
use crate::{
    args::{CreateSchedule, ScheduleCommands},
    exit::{Exit, Outcome},
    input,
};

pub(super) async fn run(session: &mut Session<'_>, command: ScheduleCommands) -> Outcome {
    let client = session.client()?;
    match command {
        ScheduleCommands::List => {
            session.printer.list(&client.list_schedules().await?)?;
            Ok(Exit::Success)
        }
        ScheduleCommands::Show(args) => shown(session, &client.get_schedule(&args.id).await?),
        ScheduleCommands::Create(args) => {
            let body = body(session, args)?;
            shown(session, &client.create_schedule(&body).await?)
        }
        ScheduleCommands::Pause(args) => shown(session, &client.pause_schedule(&args.id, true).await?),
        ScheduleCommands::Resume(args) => shown(session, &client.pause_schedule(&args.id, false).await?),
        ScheduleCommands::Delete(args) => {
            client.delete_schedule(&args.id).await?;
            session.printer.note(&format!("deleted {}", args.id));
            Ok(Exit::Success)
        }
    }
}

fn shown(session: &mut Session<'_>, schedule: &Schedule) -> Outcome {
    session.printer.one(schedule)?;
    Ok(Exit::Success)
}

fn body(session: &mut Session<'_>, args: CreateSchedule) -> Outcome<Body> {
    // The arguments are a group of which exactly one is given.
    let cadence = match (args.every, args.cron) {
        (Some(span), _) => Cadence::Interval { every_s: span.as_secs() },
        (None, expression) => Cadence::Cron { expression: expression.unwrap_or_default(), timezone: args.timezone },
    };
    let input = input::json(&args.input, &mut session.input)?;
    Ok(Body { agent: args.agent, name: args.name, cadence, input })
}
