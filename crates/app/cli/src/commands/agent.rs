//! `agent`.

use std::path::Path;

use agentos_api::{body::DeployAgent, kernel::AgentCommand};
use agentos_trust::dsse::ENVELOPE_BYTES_MAX;
use agentos_types::{AgentName, Code, Fault, Result};

use super::{Session, sign::ENVELOPE_FILE};
use crate::{
    args::{AgentCommands, Notifications},
    exit::{Exit, Outcome, local, usage},
    input,
};

pub(super) async fn run(session: &mut Session<'_>, command: AgentCommands) -> Outcome {
    match command {
        AgentCommands::Deploy(args) => deploy(session, &args.package).await,
        AgentCommands::List => {
            let agents = session.client()?.list_agents().await?;
            session.printer.list(&agents)?;
            Ok(Exit::Success)
        }
        AgentCommands::Show(args) => {
            let agent = session.client()?.get_agent(&args.name).await?;
            session.printer.one(&agent)?;
            Ok(Exit::Success)
        }
        AgentCommands::Logs(args) => {
            let logs = session.client()?.agent_logs(&args.name, Some(args.lines)).await?;
            session.printer.list(&logs.lines)?;
            Ok(Exit::Success)
        }
        AgentCommands::Notifications(args) => notifications(session, args).await,
        AgentCommands::Pause(args) => control(session, &args.name, AgentCommand::Pause).await,
        AgentCommands::Resume(args) => control(session, &args.name, AgentCommand::Resume).await,
        AgentCommands::Restart(args) => control(session, &args.name, AgentCommand::Restart).await,
        AgentCommands::Terminate(args) => control(session, &args.name, AgentCommand::Terminate).await,
    }
}

async fn deploy(session: &mut Session<'_>, package: &Path) -> Outcome {
    let body = read_package(package)?;
    let agent = session.client()?.deploy_agent(&body).await?;
    session.printer.one(&agent)?;
    Ok(Exit::Success)
}

/// The server reads the package's files itself, so it gets the directory's absolute path on this machine.
fn read_package(package: &Path) -> Result<DeployAgent> {
    let shown = package.display();
    let directory = package.canonicalize().map_err(|error| {
        usage(format!("{shown} is not a package directory: {error}"), "name the directory that holds agent.toml")
    })?;
    let envelope = directory.join(ENVELOPE_FILE);
    if !envelope.exists() {
        let message = format!("{shown} holds no {ENVELOPE_FILE}, so the package is not signed");
        return Err(Fault::new(Code::SIGNATURE_INVALID, message).hint(format!("sign it with: agent-os sign {shown}")));
    }
    let envelope = input::read_text(&envelope, ENVELOPE_BYTES_MAX)?;
    let package = directory.to_str().ok_or_else(|| local(format!("{shown} is not a UTF-8 path"), "rename it"))?;
    Ok(DeployAgent { envelope, package: package.to_owned() })
}

async fn control(session: &mut Session<'_>, name: &AgentName, command: AgentCommand) -> Outcome {
    let agent = session.client()?.command_agent(name, command).await?;
    session.printer.list(&[agent])?;
    Ok(Exit::Success)
}

async fn notifications(session: &mut Session<'_>, args: Notifications) -> Outcome {
    let Notifications { agent, paging } = args;
    let client = session.client()?;
    let page = client.list_notifications(agent.as_ref(), paging.cursor.as_deref(), Some(paging.limit.into())).await?;
    session.printer.page(&page)?;
    Ok(Exit::Success)
}
