//! `model` and `provider`.

use std::path::Path;

use agentos_api::model_admin::{ExplainModel, SetModelConfig};
use agentos_types::{Code, Fault, RequestId, Result};
use serde_json::{Map, Value, json};

use super::Session;
use crate::{
    args::{
        AddProvider, ApplyModels, ExplainModel as ExplainArgs, ModelCommands, ModelConfigCommands, ProviderCommands,
    },
    exit::{Exit, Outcome, local},
    input,
    views::model_list_note,
};

/// Of a document; the server has the same limit.
const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;

pub(super) async fn run(session: &mut Session<'_>, command: ModelCommands) -> Outcome {
    let client = session.client()?;
    match command {
        ModelCommands::List => {
            let list = client.known_models().await?;
            session.printer.list(&list.items)?;
            session.printer.note(&model_list_note(&list));
        }
        ModelCommands::Show(args) => session.printer.one(&client.get_model(&args.id).await?)?,
        ModelCommands::Test(args) => {
            let test = client.test_model(&args.id).await?;
            session.printer.one(&test)?;
            return Ok(if test.ok { Exit::Success } else { Exit::Refused });
        }
        ModelCommands::Explain(args) => explain(session, args).await?,
        ModelCommands::Disable(args) => session.printer.one(&client.switch_model(&args.id, true).await?)?,
        ModelCommands::Enable(args) => session.printer.one(&client.switch_model(&args.id, false).await?)?,
        ModelCommands::Replay(args) => return replay(session, &args.what).await,
        ModelCommands::Config(ModelConfigCommands::Show) => {
            let config = client.model_config().await?;
            let text = serde_json::to_string_pretty(&config.document).map_err(Fault::internal)?;
            session.printer.report(&config, &format!("{text}\n"))?;
            session.printer.note(&format!("revision {}", config.revision));
        }
        ModelCommands::Config(ModelConfigCommands::Apply(args)) => apply(session, args).await?,
    }
    Ok(Exit::Success)
}

async fn explain(session: &mut Session<'_>, args: ExplainArgs) -> Outcome<()> {
    let query = ExplainModel {
        input_tokens: args.tokens,
        max_output_tokens: args.max_tokens,
        needs: args.needs,
        budgeted: args.budgeted,
    };
    let explanation = session.client()?.explain_model(&args.id, &query).await?;
    if let Some(file) = &args.record {
        let text = serde_json::to_string_pretty(&explanation.record).map_err(Fault::internal)?;
        std::fs::write(file, text).map_err(|error| local(format!("{} cannot be written", file.display()), error))?;
    }
    session.printer.report(&explanation, &explanation.text)
}

/// A file whose name reads as a request id is written with its directory.
async fn replay(session: &mut Session<'_>, what: &str) -> Outcome {
    let client = session.client()?;
    let same = match what.parse::<RequestId>() {
        Ok(id) => {
            let decision = client.model_call_decision(&id).await?;
            let text = format!("{} on {}\n{}\n", decision.id, decision.node, decision.text.trim_end());
            session.printer.report(&decision, &text)?;
            decision.same
        }
        Err(_) => {
            let replay = client.replay_model(json_file(Path::new(what))?).await?;
            session.printer.report(&replay, &format!("{}\n", replay.text.trim_end()))?;
            replay.same
        }
    };
    Ok(if same { Exit::Success } else { Exit::Refused })
}

async fn apply(session: &mut Session<'_>, args: ApplyModels) -> Outcome<()> {
    let client = session.client()?;
    let is_json = args.file.extension().is_some_and(|ending| ending == "json");
    let body = match is_json {
        true => SetModelConfig { document: Some(json_file(&args.file)?), toml: None },
        false => SetModelConfig { document: None, toml: Some(input::read_text(&args.file, DOCUMENT_BYTES_MAX)?) },
    };
    let revision = match args.revision {
        Some(revision) => revision,
        None => client.model_config().await?.revision,
    };
    let config = client.set_model_config(revision, &body).await?;
    session.printer.report(&config, &format!("in force as revision {}\n", config.revision))
}

fn json_file(path: &Path) -> Result<Value> {
    let text = input::read_text(path, DOCUMENT_BYTES_MAX)?;
    serde_json::from_str(&text)
        .map_err(|error| Fault::new(Code::USAGE, format!("{} is not JSON: {error}", path.display())))
}

pub(super) async fn run_provider(session: &mut Session<'_>, command: ProviderCommands) -> Outcome {
    let client = session.client()?;
    match command {
        ProviderCommands::Add(args) => {
            let name = args.name.clone();
            session.printer.one(&client.set_provider(&name, provider_of(args)).await?)?;
        }
        ProviderCommands::List => session.printer.list(&client.list_providers().await?)?,
        ProviderCommands::Test(args) => {
            let test = client.test_provider(&args.name).await?;
            session.printer.list(&test.keys)?;
            return Ok(if test.ok { Exit::Success } else { Exit::Refused });
        }
        ProviderCommands::Remove(args) => {
            client.remove_provider(&args.name).await?;
            session.printer.note(&format!("removed {}", args.name));
        }
    }
    Ok(Exit::Success)
}

fn provider_of(args: AddProvider) -> Value {
    let mut provider = Map::new();
    provider.insert("kind".into(), args.kind.as_str().into());
    if let Some(url) = args.base_url {
        provider.insert("base_url".into(), url.into());
    }
    if !args.keys.is_empty() {
        provider.insert("keys".into(), args.keys.iter().map(|name| name.as_str()).collect::<Vec<_>>().into());
    }
    if !args.models.is_empty() {
        let listed = args.models.iter().map(|model| match model.split_once('=') {
            Some((name, known)) => (name.to_owned(), json!({"like": known})),
            None => (model.clone(), json!({})),
        });
        provider.insert("models".into(), listed.collect::<Map<String, Value>>().into());
    }
    for (field, value) in [("api_version", args.api_version), ("sigv4_region", args.sigv4_region)] {
        if let Some(value) = value {
            provider.insert(field.into(), value.into());
        }
    }
    provider.into()
}
