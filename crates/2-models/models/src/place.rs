//! Where a provider of each kind is asked, and how it knows us. Nothing else knows addresses of operations or names of headers
//! with keys; `agent-os provider test` asks here, too.

use agentos_dialer::CheckedUrl;
use agentos_router::{Kind, Operation, Provider, Target};
use agentos_secrets::{ExposeSecret, SecretString};
use agentos_types::{Code, Fault, Result, Timestamp};
use agentos_wire::{
    Protocol,
    sigv4::{self, Credentials, Scope, Unsigned},
};

/// Azure's list of models where nothing is said: it has been the same since.
const AZURE_LIST_VERSION: &str = "2024-10-21";

/// Which of Azure's two families of addresses a provider has.
fn is_dated(api_version: Option<&str>) -> bool {
    api_version.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
}

/// The base of a provider is written with its version where its own documents do so, and without it elsewhere.
pub(crate) fn address_of(operation: Operation, target: &Target, protocol: Protocol, is_stream: bool) -> Result<String> {
    let base = target.base_url.trim_end_matches('/');
    let version = target.api_version.as_deref();
    let address = match target.kind {
        Kind::Azure => format!("{}{}", root(base), azure(operation, target, protocol)?),
        Kind::Bedrock => format!("{}{}", root(base), bedrock(target, protocol, is_stream)?),
        _ => format!("{base}{}", path(operation, base, target, protocol, is_stream)?),
    };
    let query = [
        (protocol == Protocol::Gemini && is_stream).then(|| "alt=sse".to_owned()),
        version.map(|version| format!("api-version={}", encoded(version))),
    ];
    let marks = ['?', '&'].into_iter();
    Ok(query.into_iter().flatten().zip(marks).fold(address, |address, (part, mark)| format!("{address}{mark}{part}")))
}

fn path(operation: Operation, base: &str, target: &Target, protocol: Protocol, is_stream: bool) -> Result<String> {
    let version = |version: &'static str| if base.ends_with(version) { "" } else { version };
    Ok(match (protocol, operation) {
        (Protocol::Messages, Operation::CountTokens) => format!("{}/messages/count_tokens", version("/v1")),
        (Protocol::Messages, _) => format!("{}/messages", version("/v1")),
        (Protocol::Gemini, _) => {
            let verb = if is_stream { "streamGenerateContent" } else { "generateContent" };
            format!("{}/models/{}:{verb}", version("/v1beta"), segment(&target.model)?)
        }
        (Protocol::Chat | Protocol::Responses, _) => format!("/{}", openai(operation, protocol)),
    })
}

fn openai(operation: Operation, protocol: Protocol) -> &'static str {
    match (operation, protocol) {
        (Operation::Embeddings, _) => "embeddings",
        (_, Protocol::Responses) => "responses",
        _ => "chat/completions",
    }
}

/// With a dated version, each deployment has its own address, but Responses, which names it in the body; else the name is in
/// every body.
fn azure(operation: Operation, target: &Target, protocol: Protocol) -> Result<String> {
    let name = openai(operation, protocol);
    Ok(match (is_dated(target.api_version.as_deref()), protocol) {
        (false, _) => format!("/openai/v1/{name}"),
        (true, Protocol::Responses) => format!("/openai/{name}"),
        (true, _) => format!("/openai/deployments/{}/{name}", segment(&target.model)?),
    })
}

fn bedrock(target: &Target, protocol: Protocol, is_stream: bool) -> Result<String> {
    Ok(match protocol {
        Protocol::Messages => {
            let verb = if is_stream { "invoke-with-response-stream" } else { "invoke" };
            format!("/model/{}/{verb}", segment(&target.model)?)
        }
        other => format!("/openai/v1/{}", openai(Operation::Chat, other)),
    })
}

/// Where the list of a provider's models is. Asking for it costs nothing.
pub fn models_url(said: &Provider) -> String {
    let base = said.base_url.as_deref().or(said.kind.base_url()).unwrap_or_default().trim_end_matches('/');
    match said.kind {
        Kind::Anthropic => format!("{base}/v1/models"),
        Kind::Gemini => format!("{base}/v1beta/models"),
        Kind::Azure if said.is_dated() => {
            let version = said.api_version.as_deref().unwrap_or(AZURE_LIST_VERSION);
            format!("{}/openai/models?api-version={version}", root(base))
        }
        Kind::Azure => format!("{}/openai/v1/models", root(base)),
        // The list is the other service's, at the host beside.
        Kind::Bedrock => format!("{}/foundation-models", root(base).replacen("://bedrock-runtime", "://bedrock", 1)),
        Kind::Openai | Kind::Ollama | Kind::OpenaiCompatible => format!("{base}/models"),
    }
}

/// A base that was written with the path of the vendor's examples.
fn root(base: &str) -> &str {
    base.strip_suffix("/openai/v1").or_else(|| base.strip_suffix("/openai")).unwrap_or(base)
}

/// Everything of a request that a key may have to vouch for.
#[derive(Clone, Copy, Debug)]
pub struct ToSign<'a> {
    pub method: &'a str,
    pub url: &'a CheckedUrl,
    pub body: &'a [u8],
    pub at: Timestamp,
}

/// Headers by which a provider knows us. The first value is a secret, the rest goes with it.
pub fn key_headers(
    kind: Kind,
    sigv4_region: Option<&str>,
    key: &SecretString,
    request: ToSign<'_>,
) -> Result<Vec<(&'static str, String)>> {
    let key = key.expose_secret();
    Ok(vec![match (kind, sigv4_region) {
        (Kind::Anthropic, _) => ("x-api-key", key.to_owned()),
        (Kind::Gemini, _) => ("x-goog-api-key", key.to_owned()),
        (Kind::Azure, _) => ("api-key", key.to_owned()),
        (Kind::Bedrock, Some(region)) => return signed(region, key, request),
        (Kind::Openai | Kind::Ollama | Kind::Bedrock | Kind::OpenaiCompatible, _) => {
            ("authorization", format!("Bearer {key}"))
        }
    }])
}

fn signed(region: &str, key: &str, request: ToSign<'_>) -> Result<Vec<(&'static str, String)>> {
    let ToSign { method, url, body, at } = request;
    // Not in the message: the value is a secret.
    let key = Credentials::parse(key).ok_or_else(|| {
        Fault::new(Code::SECRET_KEY_UNUSABLE, "the provider's key is no access key")
            .hint("with `sigv4_region` the secret holds ID:SECRET, or ID:SECRET:TOKEN for a key that ends by itself")
    })?;
    let (path, query) = url.target().split_once('?').unwrap_or((url.target(), ""));
    let headers = [("host", url.authority())];
    let unsigned = Unsigned { method, path, query, headers: &headers, body };
    let signature = sigv4::sign(&unsigned, key, Scope { region, service: "bedrock" }, at)?;
    let token = key.session_token.map(|token| ("x-amz-security-token", token.to_owned()));
    let rest = [("authorization", signature.authorization), ("x-amz-date", signature.date)];
    Ok(rest.into_iter().chain(token).collect())
}

/// A name as one segment of a path. Two of them mean another path to everyone who reads one, in any spelling.
fn segment(name: &str) -> Result<String> {
    if matches!(name, "." | "..") {
        return Err(Fault::new(Code::MODEL_REQUEST_INVALID, format!("'{name}' is no name of a model")));
    }
    Ok(encoded(name))
}

fn encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests;
