//! `retention`.

use std::time::Duration;

use agentos_client::Client;
use agentos_types::Result;

use super::Session;
use crate::{
    args::{RetentionCommands, RetentionRun},
    exit::{Exit, Outcome},
};

/// A run takes seconds to minutes; nobody is kept waiting by looking twice a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn run(session: &mut Session<'_>, command: RetentionCommands) -> Outcome {
    let client = session.client()?;
    match command {
        RetentionCommands::Show => session.printer.one(&client.retention().await?)?,
        RetentionCommands::Run(RetentionRun { dry_run: true, .. }) => {
            session.printer.list(&client.preview_retention().await?)?;
            session.printer.note("nothing was taken away");
        }
        RetentionCommands::Run(RetentionRun { wait, .. }) => {
            let mut status = client.run_retention().await?;
            if wait {
                status = finished(&client).await?;
            } else {
                session.printer.note("the run goes on; look at it with: agent-os retention show");
            }
            session.printer.one(&status)?;
        }
    }
    Ok(Exit::Success)
}

/// Ends with the run, or with the error of a server that went away.
async fn finished(client: &Client) -> Result<agentos_api::body::RetentionStatus> {
    loop {
        let status = client.retention().await?;
        if !status.running {
            return Ok(status);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
