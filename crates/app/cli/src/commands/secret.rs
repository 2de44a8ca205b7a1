//! `secret`: a value passes from standard input into one request body and is never printed.

use agentos_api::body::SecretValue;

use super::Session;
use crate::{
    args::SecretCommands,
    exit::{Exit, Outcome},
    input,
};

pub(super) async fn run(session: &mut Session<'_>, command: SecretCommands) -> Outcome {
    match command {
        SecretCommands::Set(args) => {
            let value = SecretValue { value: input::secret(&mut session.input)? };
            let info = session.client()?.set_secret(&args.name, &value).await?;
            session.printer.one(&info)?;
        }
        SecretCommands::Rotate(args) => {
            let value = SecretValue { value: input::secret(&mut session.input)? };
            let info = session.client()?.rotate_secret(&args.name, &value).await?;
            session.printer.one(&info)?;
        }
        SecretCommands::List => {
            let secrets = session.client()?.list_secrets().await?;
            session.printer.list(&secrets)?;
        }
        SecretCommands::Revoke(args) => {
            session.client()?.revoke_secret(&args.name).await?;
            session.printer.note(&format!("revoked {}", args.name));
        }
    }
    Ok(Exit::Success)
}
