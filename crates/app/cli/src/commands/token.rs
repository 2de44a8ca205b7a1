//! `token`.

use agentos_api::body::{CreateToken as Body, CreatedToken, RotateToken};

use super::Session;
use crate::{
    args::TokenCommands,
    exit::{Exit, Outcome},
    table,
    views::View,
};

pub(super) async fn run(session: &mut Session<'_>, command: TokenCommands) -> Outcome {
    let client = session.client()?;
    match command {
        TokenCommands::Create(args) => {
            let expires_in_s = args.expires_in.map(|span| span.as_secs());
            let (role, scopes, agents, models) = (args.role, args.scopes, args.agents, args.models);
            let body = Body { name: args.name, role, scopes, agents, models, expires_in_s };
            let created = client.create_token(&body).await?;
            print_created(session, &created)?;
        }
        TokenCommands::Rotate(args) => {
            let seconds = |span: std::time::Duration| span.as_secs();
            let (overlap_s, expires_in_s) = (args.overlap.map(seconds), args.expires_in.map(seconds));
            let successor = client.rotate_token(&args.id, &RotateToken { overlap_s, expires_in_s }).await?;
            print_created(session, &successor)?;
        }
        TokenCommands::List => {
            let tokens = client.list_tokens().await?;
            session.printer.list(&tokens)?;
        }
        TokenCommands::Revoke(args) => {
            let token = client.revoke_token(&args.id).await?;
            session.printer.one(&token)?;
        }
    }
    Ok(Exit::Success)
}

/// Quiet output is the token alone, for `AGENT_OS_TOKEN=$(agent-os token create … --quiet)`.
fn print_created(session: &mut Session<'_>, created: &CreatedToken) -> Outcome<()> {
    let text = if session.printer.is_quiet() {
        table::line(std::slice::from_ref(&created.token))
    } else {
        let mut fields = vec![("token", created.token.clone())];
        fields.extend(created.info.fields());
        table::details(&fields)
    };
    session.printer.report(created, &text)?;
    session.printer.note("keep the token now: it is not shown again");
    Ok(())
}
