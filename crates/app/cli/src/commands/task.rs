//! `task`.

use agentos_api::body::SubmitTask;
use agentos_client::{Client, TaskFilter};
use agentos_types::{
    TaskId,
    task::{Task, TaskEvent, TaskState},
};

use super::Session;
use crate::{
    args::{ListTasks, Redrive, Submit, TaskCommands, Watch},
    exit::{Exit, Outcome},
    input, table,
    views::View,
};

pub(super) async fn run(session: &mut Session<'_>, command: TaskCommands) -> Outcome {
    match command {
        TaskCommands::Submit(args) => submit(session, args).await,
        TaskCommands::List(args) => list(session, args).await,
        TaskCommands::Show(args) if args.steps => {
            let steps = session.client()?.task_steps(&args.id).await?;
            session.printer.list(&steps)?;
            Ok(Exit::Success)
        }
        TaskCommands::Show(args) => {
            let task = session.client()?.get_task(&args.id).await?;
            shown(session, &task)
        }
        TaskCommands::Watch(args) => watch(session, args).await,
        TaskCommands::Cancel(args) => {
            let task = session.client()?.cancel_task(&args.id).await?;
            shown(session, &task)
        }
        TaskCommands::Retry(args) => {
            let task = session.client()?.retry_task(&args.id).await?;
            shown(session, &task)
        }
        TaskCommands::Redrive(args) => redrive(session, args).await,
    }
}

fn shown(session: &mut Session<'_>, task: &Task) -> Outcome {
    session.printer.one(task)?;
    Ok(Exit::Success)
}

/// With `--wait` the events are remarks, and the finished task is the data.
async fn submit(session: &mut Session<'_>, args: Submit) -> Outcome {
    let now = session.ambient.now();
    let body = SubmitTask {
        agent: args.agent,
        input: input::json(&args.input, &mut session.input)?,
        run_at: args.run_at.map(|when| when.after(now)),
        deadline_at: args.deadline.map(|when| when.after(now)),
        attempts_max: args.attempts,
        traceparent: None,
    };
    let client = session.client()?;
    let task = client.submit_task(&body, args.idempotency_key.as_deref()).await?;
    if !args.wait {
        return shown(session, &task);
    }
    session.printer.note(&format!("submitted {}", task.id));
    let mut events = client.watch_task(&task.id, 0);
    while let Some(event) = events.next().await? {
        session.printer.note(table::line(&event.cells()).trim_end());
        note_waiting(session, &event);
    }
    let task = client.get_task(&task.id).await?;
    session.printer.one(&task)?;
    Ok(exit_of(&task))
}

async fn watch(session: &mut Session<'_>, args: Watch) -> Outcome {
    let client = session.client()?;
    let mut events = client.watch_task(&args.id, args.after);
    while let Some(event) = events.next().await? {
        session.printer.stream(&event)?;
        note_waiting(session, &event);
    }
    session.printer.end_stream()?;
    ended(session, &client, &args.id).await
}

async fn ended(session: &mut Session<'_>, client: &Client, id: &TaskId) -> Outcome {
    let task = client.get_task(id).await?;
    if let Some(failure) = &task.failure {
        let code = failure.code.map(|code| format!("{code}: ")).unwrap_or_default();
        session.printer.note(&format!("{}: {code}{}", task.state, failure.message));
    }
    Ok(exit_of(&task))
}

/// A task that waits for a person would otherwise look as if it hung.
fn note_waiting(session: &mut Session<'_>, event: &TaskEvent) {
    if matches!(event.state(), Some(TaskState::InputRequired | TaskState::AuthRequired)) {
        session.printer.note(&format!(
            "the task waits for a person: agent-os task retry {id}, or agent-os task cancel {id}",
            id = event.task
        ));
    }
}

fn exit_of(task: &Task) -> Exit {
    match task.state {
        TaskState::Completed => Exit::Success,
        _ => Exit::TaskNotCompleted,
    }
}

async fn list(session: &mut Session<'_>, args: ListTasks) -> Outcome {
    let ListTasks { agent, state, paging } = args;
    let filter = TaskFilter { agent, state, cursor: paging.cursor, limit: Some(paging.limit.into()) };
    let page = session.client()?.list_tasks(&filter).await?;
    session.printer.page(&page)?;
    Ok(Exit::Success)
}

async fn redrive(session: &mut Session<'_>, args: Redrive) -> Outcome {
    let input = args.input.map(|text| input::json(&text, &mut session.input)).transpose()?;
    let task = session.client()?.redrive_task(&args.id, input).await?;
    shown(session, &task)
}
