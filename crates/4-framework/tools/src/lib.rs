//! The built-in tools. Each takes an `Authorized<Call>` and nothing else, so none can run without the monitor.
//!
//! Local tools (`kv`, `notify.event`, schedules) change our own store inside the transaction that records them. Outward
//! ones (`net.fetch`, `notify.webhook`, files, commands, models) touch the world after their intent is durable.

mod commands;
mod content;
mod fetch;
mod files;
mod kv;
mod models;
mod notify;
mod outgoing;
mod schedules;
mod webhook;

use std::sync::Arc;

use agentos_authority::Authorized;
use agentos_base::Ambient;
use agentos_monitor::{Call, Executors};
use agentos_protocol::Syscall;
use agentos_secrets::Secrets;
use agentos_store::Tx;
use agentos_tasks::Tasks;
use agentos_types::{Actor, Fault, Result};
use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;

pub use commands::{Captured, Finished, Job, Workshop};
pub use models::{ModelAccess, ModelAsk};
pub use outgoing::Outgoing;

/// Everything that the tools reach the world with.
pub struct BuiltinTools {
    pub outgoing: Outgoing,
    pub secrets: Secrets,
    pub tasks: Tasks,
    pub ambient: Ambient,
    pub workshop: Arc<dyn Workshop>,
    pub models: Arc<dyn ModelAccess>,
}

#[async_trait]
impl Executors for BuiltinTools {
    fn local(&self, tx: &mut Tx<'_>, call: Authorized<Call>) -> Result<Value> {
        let caller = call.caller().clone();
        let Call { syscall, lease, .. } = call.into_inner();
        let task = lease.task;
        let actor = Actor::Agent { agent: caller.agent.clone(), instance: caller.instance, task: Some(task.clone()) };
        match syscall {
            Syscall::KvGet(args) => answer(kv::get(tx, &caller.agent, &args)?),
            Syscall::KvPut(args) => answer(kv::put(tx, &caller.agent, &args, self.ambient.now())?),
            Syscall::KvDelete(args) => answer(kv::delete(tx, &caller.agent, &args)?),
            Syscall::KvList(args) => answer(kv::list(tx, &caller.agent, &args)?),
            Syscall::NotifyEvent(args) => {
                answer(notify::event(tx, &self.tasks, &self.ambient, &caller.agent, &task, &args)?)
            }
            Syscall::SchedulePut(args) => answer(schedules::put(tx, &self.tasks, &actor, caller.agent, args)?),
            Syscall::ScheduleDelete(args) => answer(schedules::delete(tx, &self.tasks, &actor, &caller.agent, &args)?),
            Syscall::ScheduleList(_) => answer(schedules::list(tx, &self.tasks, &caller.agent)?),
            other => Err(Fault::internal(format!("{} is not a local call", other.name()))),
        }
    }

    async fn outward(&self, call: Authorized<Call>) -> Result<Value> {
        match call.get().syscall.clone() {
            Syscall::NetFetch(args) => answer(fetch::fetch(&self.outgoing, &self.secrets, &call, args).await?),
            Syscall::NotifyWebhook(args) => answer(webhook::deliver(&self.outgoing, &self.secrets, &call, args).await?),
            Syscall::FileRead(args) => answer(files::read(&call, args).await?),
            Syscall::FileList(args) => answer(files::list(&call, args).await?),
            Syscall::ShellExec(args) => answer(commands::exec(self.workshop.as_ref(), &call, args).await?),
            Syscall::CodeRun(args) => answer(commands::run(self.workshop.as_ref(), &call, args).await?),
            Syscall::ModelCall(args) => answer(models::call(self.models.as_ref(), &self.tasks, &call, args).await?),
            other => Err(Fault::internal(format!("{} is not an outward call", other.name()))),
        }
    }
}

fn answer<T: Serialize>(result: T) -> Result<Value> {
    serde_json::to_value(result).map_err(Fault::internal)
}
