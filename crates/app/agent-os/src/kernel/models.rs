//! Models and providers through the API: the document, what it names, and what is known of it.

mod entries;
mod provider_test;

use std::{collections::BTreeSet, time::Duration};

use super::ServerKernel;
use crate::model_config::{Change, Stored};
use agentos_api::{
    body::Context,
    model_admin::{
        ExplainModel, ModelAdmin, ModelCallDecision, ModelConfig, ModelEntry, ModelExplanation, ModelList, ModelReplay,
        ProviderInfo, ProviderKey, ProviderTest, ReplayModel, SetModelConfig, SetProvider,
    },
};
use agentos_models::{KeptDecision, decision_of};
use agentos_router::{Asked, DecisionRecord, Document, NoTarget, Operation, Provider, replay};
use agentos_types::{Code, Fault, RequestId, Result};
use agentos_wire::Needs;
use async_trait::async_trait;

/// Of a request that is only explained.
const EXPLAINED_DEADLINE: Duration = Duration::from_secs(60);

#[async_trait]
impl ModelAdmin for ServerKernel {
    async fn model_config(&self) -> Result<ModelConfig> {
        config_of(self.models.stored().await?)
    }

    async fn set_model_config(
        &self,
        context: &Context,
        revision: Option<i64>,
        body: SetModelConfig,
    ) -> Result<ModelConfig> {
        let document = match (body.document, body.toml) {
            (Some(document), None) => Document::from_json(&document.to_string())?,
            (None, Some(text)) => Document::from_toml(&text)?,
            _ => return Err(Fault::new(Code::BODY_INVALID, "the body needs either `document` or `toml`")),
        };
        let change = change_of(context, "models.set", "document", revision);
        let stored = self.models.change(change, |current| {
            document.clone_into(current);
            Ok(())
        });
        config_of(stored.await?)
    }

    async fn list_models(&self) -> Result<ModelList> {
        Ok(entries::list(&self.models.router, self.ambient.now()))
    }

    async fn get_model(&self, id: &str) -> Result<ModelEntry> {
        entries::get(&self.models.router, id, self.ambient.now())
    }

    async fn switch_model(&self, context: &Context, id: &str, disabled: bool) -> Result<ModelEntry> {
        self.get_model(id).await?;
        let action = if disabled { "model.disable" } else { "model.enable" };
        let change = change_of(context, action, id, None);
        self.models.change(change, |document| switch(document, id, disabled)).await?;
        self.get_model(id).await
    }

    async fn explain_model(&self, id: &str, query: ExplainModel) -> Result<ModelExplanation> {
        let now = self.ambient.now();
        let (needs, stream) = needs_of(query.needs.as_deref().unwrap_or_default())?;
        let asked = Asked {
            model: id,
            operation: Operation::Chat,
            needs,
            stream,
            input_tokens: query.input_tokens,
            max_output_tokens: query.max_output_tokens,
            budgeted: query.budgeted,
            now,
            deadline: now.after(EXPLAINED_DEADLINE),
            seed: self.ambient.random_up_to(u64::MAX),
        };
        let record = self.models.router.explain(&asked).map_err(refused)?;
        let text = record.to_string();
        Ok(ModelExplanation { text, record: serde_json::to_value(record).map_err(Fault::internal)? })
    }

    async fn replay_model(&self, body: ReplayModel) -> Result<ModelReplay> {
        let record: DecisionRecord = serde_json::from_value(body.record)
            .map_err(|error| Fault::new(Code::BODY_INVALID, format!("this is no record of a choice: {error}")))?;
        let told = record.to_string();
        Ok(match replay(&record) {
            Ok(()) => ModelReplay { same: true, text: told },
            Err(mismatch) => ModelReplay { same: false, text: format!("{mismatch}\n{told}") },
        })
    }

    async fn model_call_decision(&self, id: &RequestId) -> Result<ModelCallDecision> {
        let call = id.clone();
        let found = self.store.read(move |conn| decision_of(conn, &call)).await?;
        let KeptDecision { at, node, record } = found.ok_or_else(|| not_kept(id))?;
        let (same, text) = match replay(&record) {
            Ok(()) => (true, record.to_string()),
            Err(mismatch) => (false, format!("{mismatch}\n{record}")),
        };
        let record = serde_json::to_value(record).map_err(Fault::internal)?;
        Ok(ModelCallDecision { id: id.to_string(), at, node, same, text, record })
    }

    async fn list_providers(&self) -> Result<Vec<ProviderInfo>> {
        let active = self.active_secrets().await?;
        let config = self.models.router.config();
        Ok(config.document().providers.iter().map(|(name, said)| provider_info(name, said, &active)).collect())
    }

    async fn set_provider(
        &self,
        context: &Context,
        name: &str,
        revision: Option<i64>,
        SetProvider(body): SetProvider,
    ) -> Result<ProviderInfo> {
        let provider: Provider = serde_json::from_value(body)
            .map_err(|error| Fault::new(Code::MODELS_INVALID, format!("providers.{name}: {error}")))?;
        let change = change_of(context, "provider.set", name, revision);
        let edit = |document: &mut Document| {
            document.providers.insert(name.to_owned(), provider.clone());
            Ok(())
        };
        self.models.change(change, edit).await?;
        Ok(provider_info(name, &provider, &self.active_secrets().await?))
    }

    async fn remove_provider(&self, context: &Context, name: &str, revision: Option<i64>) -> Result<()> {
        let change = change_of(context, "provider.remove", name, revision);
        let edit = |document: &mut Document| match document.providers.remove(name) {
            Some(_) => Ok(()),
            None => Err(no_provider(name)),
        };
        self.models.change(change, edit).await.map(drop)
    }

    async fn test_provider(&self, context: &Context, name: &str) -> Result<ProviderTest> {
        let config = self.models.router.config();
        let said = config.document().providers.get(name).ok_or_else(|| no_provider(name))?;
        provider_test::run(self, context, name, said).await
    }
}

impl ServerKernel {
    async fn active_secrets(&self) -> Result<BTreeSet<String>> {
        let rows = self.secrets.list().await?.into_iter();
        Ok(rows.filter(|row| row.state == "active").map(|row| row.name.to_string()).collect())
    }
}

fn change_of(context: &Context, action: &'static str, resource: &str, from: Option<i64>) -> Change {
    let (actor, request_id) = (context.actor.clone(), context.request_id.to_string());
    Change { actor, request_id, action, resource: resource.to_owned(), from }
}

fn config_of(stored: Stored) -> Result<ModelConfig> {
    let Stored { revision, text, set_by, set_at } = stored;
    let document = if revision == 0 { serde_json::to_value(Document::default()) } else { serde_json::from_str(&text) };
    Ok(ModelConfig { revision, document: document.map_err(Fault::internal)?, set_by, set_at })
}

fn not_kept(id: &RequestId) -> Fault {
    Fault::new(Code::MODEL_DECISION_NOT_KEPT, format!("how the target of {id} was chosen is not kept"))
        .hint("see what became of the call: agent-os audit query --action model.call")
}

fn no_provider(name: &str) -> Fault {
    Fault::new(Code::PROVIDER_NOT_FOUND, format!("the document has no provider '{}'", name.escape_debug()))
}

pub(super) fn refused(refusal: NoTarget) -> Fault {
    refusal.into()
}

/// An alias, or a model of a provider, which is listed from then on.
fn switch(document: &mut Document, id: &str, disabled: bool) -> Result<()> {
    if let Some(route) = document.routes.get_mut(id) {
        route.disabled = disabled;
        return Ok(());
    }
    let model = id.split_once('/').and_then(|(provider, model)| Some((document.providers.get_mut(provider)?, model)));
    let (provider, model) =
        model.ok_or_else(|| Fault::new(Code::MODEL_UNKNOWN, format!("there is no model '{}'", id.escape_debug())))?;
    provider.models.entry(model.to_owned()).or_default().disabled = disabled;
    Ok(())
}

/// Unknown words are refused: an explanation of something else than was asked misleads.
fn needs_of(text: &str) -> Result<(Needs, bool)> {
    let (mut needs, mut stream) = (Needs::default(), false);
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let need = match word {
            "tools" => &mut needs.tools,
            "images" => &mut needs.images,
            "json_schema" => &mut needs.json_schema,
            "json_object" => &mut needs.json_object,
            "thinking" => &mut needs.thinking,
            "logprobs" => &mut needs.logprobs,
            "audio" => &mut needs.audio,
            "files" => &mut needs.files,
            "stream" => &mut stream,
            other => {
                let what = format!("'{}' is nothing that a request needs", other.escape_debug());
                return Err(Fault::new(Code::MODEL_REQUEST_INVALID, what));
            }
        };
        *need = true;
    }
    Ok((needs, stream))
}

fn provider_info(name: &str, said: &Provider, active: &BTreeSet<String>) -> ProviderInfo {
    let keys = said.keys.iter().flat_map(|group| {
        group.secrets().iter().map(|secret| ProviderKey {
            group: group.group().to_owned(),
            secret: secret.clone(),
            present: active.contains(secret),
        })
    });
    ProviderInfo {
        name: name.to_owned(),
        kind: said.kind.as_str().to_owned(),
        base_url: said.base_url.as_deref().or(said.kind.base_url()).unwrap_or_default().to_owned(),
        disabled: said.disabled,
        keys: keys.collect(),
        models: said.models.keys().cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_needs_is_read_or_refused() {
        let (needs, stream) = needs_of("tools, images,stream").unwrap();
        assert!(needs.tools && needs.images && stream && !needs.audio);
        assert_eq!(needs_of("").unwrap(), (Needs::default(), false));
        assert_eq!(needs_of("teleportation").unwrap_err().code, Code::MODEL_REQUEST_INVALID);
    }

    #[test]
    fn an_alias_and_a_model_are_switched_and_nothing_else() {
        let text = "[providers.own]\nkind = \"ollama\"\n[routes.fast]\ntargets = [{ model = \"own/a\" }]";
        let mut document = Document::from_toml(text).unwrap();
        switch(&mut document, "fast", true).unwrap();
        switch(&mut document, "own/b", true).unwrap();
        assert!(document.routes["fast"].disabled && document.providers["own"].models["b"].disabled);
        switch(&mut document, "own/b", false).unwrap();
        assert!(!document.providers["own"].models["b"].disabled);
        for unknown in ["slow", "other/a", ""] {
            assert_eq!(switch(&mut document, unknown, true).unwrap_err().code, Code::MODEL_UNKNOWN, "{unknown}");
        }
    }
}
