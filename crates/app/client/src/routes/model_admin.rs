//! Models and providers, for operators.

use agentos_api::{
    body::Page,
    model_admin::{
        ExplainModel, ModelCallDecision, ModelConfig, ModelEntry, ModelExplanation, ModelList, ModelReplay, ModelTest,
        ProviderInfo, ProviderTest, ReplayModel, SetModelConfig, SetProvider, TestModel,
    },
};
use agentos_types::{RequestId, Result};
use reqwest::{Method, header::IF_MATCH};
use serde_json::Value;

use crate::{Client, answer, http};

impl Client {
    pub async fn model_config(&self) -> Result<ModelConfig> {
        self.get("/api/v1/model-config", &[]).await
    }

    /// Refused if the document is at another revision by now.
    pub async fn set_model_config(&self, revision: i64, body: &SetModelConfig) -> Result<ModelConfig> {
        let request = self.with_body(Method::PUT, "/api/v1/model-config", body)?;
        answer::json(self, self.send(request.header(IF_MATCH, format!("\"{revision}\""))).await?).await
    }

    pub async fn known_models(&self) -> Result<ModelList> {
        self.get("/api/v1/models", &[]).await
    }

    pub async fn get_model(&self, id: &str) -> Result<ModelEntry> {
        self.get(&format!("/api/v1/models/{}", segment(id)), &[]).await
    }

    pub async fn switch_model(&self, id: &str, disabled: bool) -> Result<ModelEntry> {
        let verb = if disabled { "disable" } else { "enable" };
        self.act(Method::POST, &format!("/api/v1/models/{}/{verb}", segment(id))).await
    }

    pub async fn explain_model(&self, id: &str, query: &ExplainModel) -> Result<ModelExplanation> {
        let query = http::query_of(query)?;
        self.get(&format!("/api/v1/models/{}/explain", segment(id)), &http::borrowed(&query)).await
    }

    pub async fn replay_model(&self, record: Value) -> Result<ModelReplay> {
        self.write(Method::POST, "/api/v1/models/replay", &ReplayModel { record }).await
    }

    /// By the request id of the call.
    pub async fn model_call_decision(&self, id: &RequestId) -> Result<ModelCallDecision> {
        self.get(&format!("/api/v1/model-calls/{id}"), &[]).await
    }

    /// One real generation of a few tokens.
    pub async fn test_model(&self, model: &str) -> Result<ModelTest> {
        let request = self.with_body(Method::POST, "/api/v1/models/test", &TestModel { model: model.to_owned() })?;
        answer::json(self, self.send(request.timeout(http::LONG_ANSWER_TIMEOUT)).await?).await
    }

    pub async fn list_providers(&self) -> Result<Vec<ProviderInfo>> {
        self.get::<Page<ProviderInfo>>("/api/v1/providers", &[]).await.map(|page| page.items)
    }

    pub async fn set_provider(&self, name: &str, provider: Value) -> Result<ProviderInfo> {
        self.write(Method::PUT, &format!("/api/v1/providers/{}", segment(name)), &SetProvider(provider)).await
    }

    pub async fn remove_provider(&self, name: &str) -> Result<()> {
        self.delete(&format!("/api/v1/providers/{}", segment(name))).await
    }

    /// Each of its keys is tried, which may take ten seconds.
    pub async fn test_provider(&self, name: &str) -> Result<ProviderTest> {
        let path = format!("/api/v1/providers/{}/test", segment(name));
        let request = self.request(Method::POST, &path, &[])?.timeout(http::LONG_ANSWER_TIMEOUT);
        answer::json(self, self.send(request).await?).await
    }
}

/// One segment of a path: everything but what a name of ours has is escaped, a slash above all.
fn segment(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut text, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => text.push(char::from(byte)),
            // A segment of dots alone is a step in the path.
            b'.' if name.bytes().any(|other| other != b'.') => text.push('.'),
            other => text.push_str(&format!("%{other:02X}")),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn a_name_is_one_segment_whatever_is_in_it() {
        for (name, text) in [
            ("fast", "fast"),
            ("openai/gpt-4.1", "openai%2Fgpt-4.1"),
            ("a b?c#d%", "a%20b%3Fc%23d%25"),
            ("../tokens", "..%2Ftokens"),
            ("..", "%2E%2E"),
        ] {
            assert_eq!(segment(name), text);
        }
    }
}
