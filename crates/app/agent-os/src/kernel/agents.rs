//! Deploying and steering agents, and what they published.

use std::path::PathBuf;

use agentos_api::{
    body::{AgentLogs, Context, DeployAgent, LogLine, Notification, Page},
    kernel::AgentCommand,
};
use agentos_authority::{Credential, GrantSet};
use agentos_base::fs;
use agentos_failpoint::{Point, hit};
use agentos_store::{Arg, Tx};
use agentos_supervisor::Deployment;
use agentos_trust::package;
use agentos_types::{AgentName, Code, Envelope, EventId, Fault, Result, agent::Agent, audit::Decision};

use super::{ServerKernel, budgets, page};

/// Verify ▸ compile grants ▸ install the files ▸ hand to the supervisor. A refusal is recorded with its code.
pub(super) async fn deploy(kernel: &ServerKernel, context: &Context, body: DeployAgent) -> Result<Agent> {
    let shown = body.package.clone();
    // From the first file to the row that names it: nobody takes it away in between.
    let _installing = kernel.installing.read().await;
    match verify_and_install(kernel, body).await {
        Ok(deployment) => hand_over(kernel, context, deployment).await,
        Err(fault) => {
            let event = kernel.event(context, "agent.deploy", shown).decision(Decision::Denied);
            kernel.store.record(event.fact("code", fault.code.to_string())).await?;
            Err(fault)
        }
    }
}

/// The budgets of the manifest are written with it, and hold before the first process of it lives.
async fn hand_over(kernel: &ServerKernel, context: &Context, deployment: Deployment) -> Result<Agent> {
    let name = deployment.manifest.name.clone();
    let budgets = budgets::of_manifest(&deployment.manifest, &context.actor, kernel.ambient.now());
    let announced = kernel.ledger.announce(budgets.clone());
    budgets::enrol(&kernel.ledger, &deployment.manifest);
    let agent = name.clone();
    let alongside = move |tx: &mut Tx<'_>| agentos_ledger::write_manifests(tx, &agent, &budgets);
    let deployed = kernel.supervisor.deploy_with(&context.actor, deployment, alongside).await;
    if deployed.is_err() {
        // The one before goes on; whose budgets it shares is in its own manifest.
        budgets::renew(&kernel.ledger, &kernel.store, &name).await?;
    }
    kernel.ledger.refresh().await?;
    drop(announced);
    deployed
}

async fn verify_and_install(kernel: &ServerKernel, body: DeployAgent) -> Result<Deployment> {
    let (trust, now, packages) = (kernel.trust.clone(), kernel.ambient.now(), kernel.layout.packages());
    let work = move || {
        let source = PathBuf::from(&body.package);
        if !source.is_absolute() {
            return Err(Fault::new(Code::BODY_INVALID, format!("package '{}' is not an absolute path", body.package)));
        }
        let envelope = body.envelope.into_bytes();
        let signed = package::verify_package(&envelope, Some(&source), &trust, now)?;
        let grants = GrantSet::compile(&signed.manifest.grants)?;
        Credential::compile(&signed.manifest, &grants)?;
        let versions = packages.join(signed.manifest.name.as_str());
        fs::create_private_directory(&versions)?;
        let destination = versions.join(&signed.manifest.version);
        package::install_package(&source, &signed.manifest, &destination)?;
        hit(Point::KernelFilesInstalled);
        Ok(Deployment {
            manifest: signed.manifest,
            manifest_sha256: signed.manifest_sha256,
            signed_by: signed.keyid,
            envelope,
        })
    };
    tokio::task::spawn_blocking(work).await.map_err(Fault::internal)?
}

pub(super) async fn command(
    kernel: &ServerKernel,
    context: &Context,
    name: &AgentName,
    command: AgentCommand,
) -> Result<Agent> {
    let command = match command {
        AgentCommand::Pause => agentos_supervisor::AgentCommand::Pause,
        AgentCommand::Resume => agentos_supervisor::AgentCommand::Resume,
        AgentCommand::Restart => agentos_supervisor::AgentCommand::Restart,
        AgentCommand::Terminate => agentos_supervisor::AgentCommand::Terminate,
    };
    kernel.supervisor.command(&context.actor, name, command).await
}

pub(super) async fn logs(kernel: &ServerKernel, name: &AgentName, lines: usize) -> Result<AgentLogs> {
    let lines = kernel.supervisor.logs(name, lines).await?;
    let lines = lines
        .into_iter()
        .map(|line| LogLine { at: line.at, stream: line.stream.to_owned(), text: line.text })
        .collect();
    Ok(AgentLogs { lines })
}

/// Newest first by id, which sorts by time.
pub(super) async fn notifications(
    kernel: &ServerKernel,
    agent: Option<AgentName>,
    cursor: Option<String>,
    limit: usize,
) -> Result<Page<Notification>> {
    let cursor: Option<EventId> = cursor.map(|text| text.parse()).transpose()?;
    let rows = i64::try_from(limit + 1).map_err(Fault::internal)?;
    let found = kernel
        .store
        .read(move |conn| {
            conn.query(
                "SELECT id, agent, task, at, kind, data_key, data FROM notification
                 WHERE (agent = $1 OR $1 IS NULL) AND (id < $2 OR $2 IS NULL) ORDER BY id DESC LIMIT $3",
                &[agent.as_ref().into(), cursor.as_ref().into(), Arg::Integer(rows)],
                |row| {
                    let data = Envelope { key_id: row.integer(5)?, bytes: row.bytes(6)? };
                    Ok(Notification {
                        id: row.parsed(0)?,
                        agent: row.parsed(1)?,
                        task: row.parsed(2)?,
                        at: row.time(3)?,
                        kind: row.text(4)?,
                        data: data.open_value()?,
                    })
                },
            )
        })
        .await?;
    Ok(page(found, limit, |notification| notification.id.to_string()))
}
