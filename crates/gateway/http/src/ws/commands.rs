//! What a message asks of the kernel, and the text of every reply.

use agentos_api::Problem;
use agentos_types::{Fault, RequestId, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    handlers::tasks::{check_submit, task_page},
    identity::Caller,
    shared::Shared,
    ws::messages::Command,
};

/// Runs a command that needs nothing of the session but its rights.
pub(crate) async fn execute(shared: &Shared, caller: &Caller, command: Command) -> Result<Value> {
    let (kernel, context, reach) = (&*shared.kernel, &caller.context, &caller.reach);
    match command {
        Command::Ping => Ok(json!({})),
        Command::ListAgents => result(json!({ "items": kernel.list_agents().await? })),
        Command::GetAgent(name) => result(kernel.get_agent(&name).await?),
        Command::Control(name, command) => result(kernel.command_agent(context, &name, command).await?),
        Command::SubmitTask(body, key) => {
            check_submit(&body, key.as_deref())?;
            shared.require_agent(caller, &body.agent).await?;
            let (task, replayed) = kernel.submit_task(context, body, key).await?;
            result(json!({ "task": task, "replayed": replayed }))
        }
        Command::GetTask(id) => result(reach.task(kernel, &id).await?),
        Command::ListTasks(query) => result(task_page(kernel.list_tasks(reach.narrowed(query.into_query()?)).await?)),
        Command::CancelTask(id) => {
            reach.check(kernel, &id).await?;
            result(kernel.cancel_task(context, &id).await?)
        }
        Command::RetryTask(id) => result(kernel.retry_task(context, &id).await?),
        Command::RedriveTask(id, input) => result(kernel.redrive_task(context, &id, input).await?),
        Command::CancelChat(id) => {
            shared.chats.find(caller, &id)?.cancel();
            Ok(json!({}))
        }
        Command::Authenticate(_)
        | Command::Subscribe(_)
        | Command::Unsubscribe(_)
        | Command::Chat(_)
        | Command::ResumeChat(..) => Err(Fault::internal("a message of the session reached the kernel's commands")),
    }
}

fn result(value: impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(Fault::internal)
}

/// The reply to the message `id`.
pub(crate) fn reply(id: &Value, outcome: &Result<Value>, request_id: RequestId) -> String {
    match outcome {
        Ok(result) => json!({ "id": id, "type": "ok", "result": result }).to_string(),
        Err(fault) => {
            let status = fault.code.entry().http_status;
            let detail = fault.detail.as_deref().unwrap_or("-");
            if status >= 500 {
                tracing::error!(%request_id, code = %fault.code, detail, "message failed");
            } else {
                tracing::debug!(%request_id, code = %fault.code, detail, "message refused");
            }
            json!({ "id": id, "type": "error", "problem": Problem::new(fault, Some(request_id)) }).to_string()
        }
    }
}
