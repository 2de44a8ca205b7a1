//! One request: where it goes, what it carries, how long it may take.

use std::time::Duration;

use agentos_api::body::Page;
use agentos_types::{Code, Fault, Result};
use bytes::Bytes;
use reqwest::{
    Method, RequestBuilder, Response, Url,
    header::{AUTHORIZATION, HeaderValue},
    redirect,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{answer, tls};

/// A server on the same machine accepts at once; a remote one within a few round trips.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Every ordinary route answers from one database; only verification and export read a whole log.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Verification runs at 100,000 records a second, so this is a log of sixty million.
pub(crate) const LONG_ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest silence inside a download.
const DOWNLOAD_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A client of one server. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// `extra_root_pem` is trusted beside the system's certificate authorities. Makes no connection yet.
    pub fn new(base_url: impl AsRef<str>, token: Option<String>, extra_root_pem: Option<Vec<u8>>) -> Result<Self> {
        let base = parse_base(base_url.as_ref())?;
        let authorization = token.map(|token| bearer(&token)).transpose()?;
        let secure = base.scheme() == "https";
        if authorization.is_some() && !secure && !is_loopback(&base) {
            return Err(Fault::new(
                Code::USAGE,
                format!("'{base}' would carry the token over the network in the clear"),
            )
            .hint("use the https address of the server"));
        }
        // A redirect could carry a request body to somebody else; the API never sends one.
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(secure, extra_root_pem.as_deref())?)
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("agent-os/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(Fault::internal)?;
        Ok(Self { http, base, authorization })
    }

    /// The server's address as it was given, without a slash at its end.
    pub fn base_url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T> {
        answer::json(self, self.send(self.request(Method::GET, path, query)?.timeout(ANSWER_TIMEOUT)).await?).await
    }

    /// A listing that fits one page always.
    pub(crate) async fn get_items<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<Vec<T>> {
        self.get::<Page<T>>(path, query).await.map(|page| page.items)
    }

    pub(crate) async fn get_slowly<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        answer::json(self, self.send(self.request(Method::GET, path, &[])?.timeout(LONG_ANSWER_TIMEOUT)).await?).await
    }

    pub(crate) async fn get_text(&self, path: &str) -> Result<String> {
        let response = self.send(self.request(Method::GET, path, &[])?.timeout(ANSWER_TIMEOUT)).await?;
        let bytes = answer::bytes(self, answer::success(self, response).await?).await?;
        String::from_utf8(bytes).map_err(|_| answer::malformed(self, "text that is not UTF-8"))
    }

    /// A request with a JSON body.
    pub(crate) async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        answer::json(self, self.send(self.with_body(method, path, body)?).await?).await
    }

    pub(crate) fn with_body(&self, method: Method, path: &str, body: &impl Serialize) -> Result<RequestBuilder> {
        Ok(self.request(method, path, &[])?.timeout(ANSWER_TIMEOUT).json(body))
    }

    /// A request without a body, whose answer matters.
    pub(crate) async fn act<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T> {
        answer::json(self, self.send(self.request(method, path, &[])?.timeout(ANSWER_TIMEOUT)).await?).await
    }

    /// A deletion, whose answer is empty.
    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        let response = self.send(self.request(Method::DELETE, path, &[])?.timeout(ANSWER_TIMEOUT)).await?;
        answer::success(self, response).await.map(drop)
    }

    pub(crate) fn request(&self, method: Method, path: &str, query: &[(&str, String)]) -> Result<RequestBuilder> {
        let mut url = Url::parse(&format!("{}{path}", self.base_url())).map_err(Fault::internal)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        Ok(match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        })
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(|error| answer::unreached(self, &error))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.base_url()).finish()
    }
}

/// A body of any size, taken chunk by chunk.
#[derive(Debug)]
pub struct Download {
    pub(crate) client: Client,
    pub(crate) response: Response,
}

impl Download {
    /// The next bytes, or `None` at the end. A body that was cut is an error, not an end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        match tokio::time::timeout(DOWNLOAD_IDLE_TIMEOUT, self.response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| answer::unreached(&self.client, &error)),
            Err(_) => Err(answer::silent(&self.client)),
        }
    }
}

/// Name and value of every field that is set: the query of a filter.
pub(crate) fn query_of(filter: &impl Serialize) -> Result<Vec<(String, String)>> {
    let Value::Object(fields) = serde_json::to_value(filter).map_err(Fault::internal)? else { return Ok(Vec::new()) };
    let text = |value| match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    Ok(fields.into_iter().filter_map(|(name, value)| Some((name, text(value)?))).collect())
}

pub(crate) fn borrowed(query: &[(String, String)]) -> Vec<(&str, String)> {
    query.iter().map(|(name, value)| (name.as_str(), value.clone())).collect()
}

fn parse_base(text: &str) -> Result<Url> {
    let refuse = |why: &str| {
        Err(Fault::new(Code::USAGE, format!("'{text}' is not the address of a server: {why}"))
            .hint("an address looks like http://127.0.0.1:18800"))
    };
    let Ok(url) = Url::parse(text) else { return refuse("it is not a URL") };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return refuse("it is not an http or https URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("it carries credentials");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("it has a query or a fragment");
    }
    Ok(url)
}

/// Whether requests to this address stay on this machine. Judged by the address alone: a name could lead anywhere, and
/// `localhost` is the one that cannot.
pub fn is_on_this_machine(base_url: &str) -> bool {
    parse_base(base_url).is_ok_and(|url| is_loopback(&url))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn bearer(token: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        Fault::new(Code::UNAUTHENTICATED, "the token has characters that no token has")
            .hint("check AGENT_OS_TOKEN, or the token file")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, token: Option<&str>, expected: Result<(), &str>) {
        let outcome = Client::new(url, token.map(str::to_owned), None).map(drop).map_err(|fault| fault.message);
        match expected {
            Ok(()) => assert_eq!(outcome, Ok(()), "{url}"),
            Err(part) => assert!(outcome.clone().unwrap_err().contains(part), "{url}: {outcome:?} lacks {part}"),
        }
    }

    #[test]
    fn addresses() {
        check("http://127.0.0.1:18800", Some("t"), Ok(()));
        check("http://[::1]:18800/", Some("t"), Ok(()));
        check("http://localhost:18800/base", Some("t"), Ok(()));
        check("http://os.example", None, Ok(()));
        check("http://os.example", Some("t"), Err("in the clear"));
        check("http://localhost.example", Some("t"), Err("in the clear"));
        check("http://127.0.0.1.example", Some("t"), Err("in the clear"));
        check("127.0.0.1:18800", None, Err("not a"));
        check("file:///etc/passwd", None, Err("http or https"));
        check("http://a:b@127.0.0.1", None, Err("credentials"));
        check("http://127.0.0.1/?a=b", None, Err("query"));
        check("http://127.0.0.1", Some("line\nbreak"), Err("characters"));
    }

    #[test]
    fn this_machine_is_told_by_its_address() {
        for url in ["http://127.0.0.1:18800", "http://127.9.9.9", "https://[::1]:1/x", "http://localhost:1"] {
            assert!(is_on_this_machine(url), "{url}");
        }
        for url in [
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "http://localhost@evil.example",
            "http://127.0.0.1:1@evil.example",
            "http://evil.example/127.0.0.1",
            "http://evil.example?localhost",
            "http://10.0.0.1",
            "http://[::1",
        ] {
            assert!(!is_on_this_machine(url), "{url}");
        }
    }

    #[test]
    fn a_debug_line_shows_no_token() {
        let client = Client::new("http://127.0.0.1:1", Some("very-secret".into()), None).unwrap();
        assert!(!format!("{client:?}").contains("very-secret"));
    }

    #[test]
    fn a_filter_becomes_a_query_of_its_set_fields() {
        let filter = agentos_api::body::AuditFilter {
            action: Some("net.fetch".into()),
            cursor: Some(7),
            decision: Some(agentos_types::audit::Decision::Denied),
            ..Default::default()
        };
        let expected = [("action", "net.fetch"), ("ascending", "false"), ("cursor", "7"), ("decision", "denied")];
        assert_eq!(query_of(&filter).unwrap(), expected.map(|(name, value)| (name.into(), value.into())));
    }
}
