//! Asks a provider for its list of models, once with each key: whether it is reached, and whether it takes the key. Never a
//! generation, so that a look costs nothing.

use std::time::Duration;

use super::ServerKernel;
use agentos_api::{
    body::Context,
    model_admin::{ProviderKeyTest, ProviderTest},
};
use agentos_dialer::{CheckedUrl, Header, Method, Request};
use agentos_models::{ToSign, key_headers, models_url};
use agentos_router::{Kind, Provider};
use agentos_secrets::SecretString;
use agentos_types::{
    Result, SecretName,
    audit::{Decision, Phase},
};
use serde_json::Value;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Lists of models grow; the largest known is a tenth of this.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Of a provider's own words.
const TEXT_CHARS_MAX: usize = 200;
/// What Anthropic wants to be told with each request.
const ANTHROPIC_VERSION: &str = "2023-06-01";

pub(super) async fn run(kernel: &ServerKernel, context: &Context, name: &str, said: &Provider) -> Result<ProviderTest> {
    let secrets: Vec<Option<&String>> = match said.keys.iter().flat_map(|group| group.secrets()).collect::<Vec<_>>() {
        none if none.is_empty() => vec![None],
        some => some.into_iter().map(Some).collect(),
    };
    let mut keys = Vec::with_capacity(secrets.len());
    for secret in secrets {
        // The log has it before anything leaves, as with every outward act.
        let record = |phase, decision, text: &str| {
            let event = kernel.event(context, "provider.test", name).phase(phase, decision).fact("outcome", text);
            kernel.store.record(event)
        };
        record(Phase::Intent, Decision::Allowed, "asked").await?;
        let test = ask(kernel, said, secret).await;
        if let Some(secret) = secret.filter(|_| test.ok) {
            // On another node than the one where the secret was replaced this is how calls hear of it at once.
            kernel.models.router.forgive_key(secret);
        }
        let decision = if test.ok { Decision::Succeeded } else { Decision::Failed };
        let status = test.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        record(Phase::Outcome, decision, &status).await?;
        keys.push(test);
    }
    Ok(ProviderTest { ok: keys.iter().all(|key| key.ok), keys })
}

async fn ask(kernel: &ServerKernel, said: &Provider, secret: Option<&String>) -> ProviderKeyTest {
    let begun = kernel.ambient.now();
    let answered = match key_of(kernel, secret).await {
        Ok(key) => send(kernel, said, key).await,
        Err(fault) => Err(fault),
    };
    let duration_ms = u64::try_from(kernel.ambient.now().since(begun).as_millis()).unwrap_or(u64::MAX);
    let told = ProviderKeyTest { secret: secret.cloned(), duration_ms, ..ProviderKeyTest::default() };
    match answered {
        Ok((status, body)) => {
            let ok = (200..300).contains(&status);
            let models = if ok { count(&body) } else { None };
            let text = if ok { String::new() } else { words(&body) };
            ProviderKeyTest { ok, status: Some(status), models, text, ..told }
        }
        Err(fault) => {
            let hint = fault.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            ProviderKeyTest { text: fault.message + &hint, ..told }
        }
    }
}

async fn key_of(kernel: &ServerKernel, secret: Option<&String>) -> Result<Option<SecretString>> {
    let Some(secret) = secret else { return Ok(None) };
    let name: SecretName = secret.parse()?;
    kernel.secrets.reveal(&name).await.map(Some)
}

async fn send(kernel: &ServerKernel, said: &Provider, key: Option<SecretString>) -> Result<(u16, Vec<u8>)> {
    let dialer = &kernel.dialer;
    let url = CheckedUrl::parse(&models_url(said))?;
    let mut headers: Vec<Header> = said.headers.iter().map(|(name, value)| Header::new(name, value)).collect();
    if let Some(key) = key {
        let to_sign = ToSign { method: "GET", url: &url, body: b"", at: kernel.ambient.now() };
        let known = key_headers(said.kind, said.sigv4_region.as_deref(), &key, to_sign)?;
        headers.extend(known.into_iter().map(|(name, value)| Header::sensitive(name, value)));
    }
    let mut request = Request::new(Method::Get, url);
    request.headers = headers;
    if said.kind == Kind::Anthropic {
        request.headers.push(Header::new("anthropic-version", ANTHROPIC_VERSION));
    }
    request.timeout = Some(ANSWER_TIMEOUT.min(dialer.options().timeout_max));
    request.max_bytes = Some(ANSWER_BYTES_MAX.min(dialer.options().response_bytes_max));
    // The key is meant for this host alone.
    let answer = dialer.send(request, &|_: &CheckedUrl| false).await?;
    Ok((answer.status, answer.body))
}

/// `data` of OpenAI and Anthropic, `models` of Gemini, `modelSummaries` of Bedrock.
fn count(body: &[u8]) -> Option<u64> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let list = ["data", "models", "modelSummaries"].into_iter().find_map(|name| body.get(name))?.as_array()?;
    u64::try_from(list.len()).ok()
}

/// The provider's own words, without what a terminal would obey.
fn words(body: &[u8]) -> String {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = parsed.pointer("/error/message").or_else(|| parsed.get("message")).and_then(Value::as_str);
    let text = message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    text.chars().filter(|character| !character.is_control()).take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provider_says_is_short_and_harmless() {
        assert_eq!(words(br#"{"error":{"message":"no\u001b[31m such key"}}"#), "no[31m such key");
        assert_eq!(words(b"<html>gone</html>"), "<html>gone</html>");
        assert_eq!(count(br#"{"data":[{},{}]}"#), Some(2));
        assert_eq!(count(br#"{"models":[{}]}"#), Some(1));
        assert_eq!(count(br#"{"modelSummaries":[{},{},{}]}"#), Some(3));
        assert_eq!(count(b"[]"), None);
    }
}
