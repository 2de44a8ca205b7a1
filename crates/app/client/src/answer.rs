//! What came back: a body, a problem, or nothing. Every way in which that can fail has its own words, because the person
//! at the terminal must know whether the server is down, unreachable, or refuses.

use std::error::Error;

use agentos_api::{Problem, problem::PROBLEM_JSON};
use agentos_types::{Code, Fault, Result};
use reqwest::{Response, header::CONTENT_TYPE};
use serde::{Deserialize, de::DeserializeOwned};

use crate::Client;

/// Largest answer that is held in memory: a page of large tasks fits, a runaway server does not.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest problem document.
const PROBLEM_BYTES_MAX: usize = 256 * 1024;

/// The body of a successful answer as `T`.
pub(crate) async fn json<T: DeserializeOwned>(client: &Client, response: Response) -> Result<T> {
    let bytes = bytes(client, success(client, response).await?).await?;
    serde_json::from_slice(&bytes).map_err(|error| malformed(client, "JSON of another shape").detail(error))
}

/// The answer itself if its status is a success, else the problem in it as a fault.
pub(crate) async fn success(client: &Client, response: Response) -> Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_problem = content_type.split(';').next() == Some(PROBLEM_JSON);
    let bytes = bounded(client, response, PROBLEM_BYTES_MAX).await?;
    if is_problem {
        if let Ok(problem) = serde_json::from_slice::<Problem>(&bytes) {
            return Err(problem.into_fault());
        }
        if let Ok(newer) = serde_json::from_slice::<NewerProblem>(&bytes) {
            return Err(newer.into_fault());
        }
    }
    let what = format!("status {} without a problem document", status.as_u16());
    // What a proxy says while the server behind it is away.
    if matches!(status.as_u16(), 502..=504) {
        let message = format!("{} answered with {what}", client.base_url());
        return Err(Fault::new(Code::CONNECT_FAILED, message).hint("a proxy in front of the server does not reach it"));
    }
    Err(malformed(client, &what))
}

/// The whole body.
pub(crate) async fn bytes(client: &Client, response: Response) -> Result<Vec<u8>> {
    bounded(client, response, ANSWER_BYTES_MAX).await
}

async fn bounded(client: &Client, mut response: Response, bytes_max: usize) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreached(client, &error))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(Fault::new(Code::RESPONSE_TOO_LARGE, format!("the answer is larger than {bytes_max} bytes"))
                .hint("ask for fewer items"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A problem of a release that knows more codes than this one.
#[derive(Deserialize)]
struct NewerProblem {
    code: String,
    detail: String,
    #[serde(default)]
    hint: Option<String>,
}

impl NewerProblem {
    fn into_fault(self) -> Fault {
        let code: String = self.code.chars().take(16).collect();
        let mut fault = Fault::new(Code::INTERNAL, format!("{code}: {}", self.detail));
        fault.hint = self.hint.or_else(|| Some("the server is newer than this program; update it".to_owned()));
        fault
    }
}

/// A request that got no answer.
pub(crate) fn unreached(client: &Client, error: &reqwest::Error) -> Fault {
    let server = client.base_url();
    if let Some(tls) = find_tls_error(error) {
        let fault = Fault::new(Code::CONNECT_FAILED, format!("no trusted TLS connection to {server}: {tls}"));
        return fault.hint("name the server's certificate authority with --ca FILE").detail(error);
    }
    if error.is_timeout() && !error.is_connect() {
        return silent(client).detail(chain(error));
    }
    if error.is_connect() {
        return Fault::new(Code::NOT_RUNNING, format!("no server answers at {server}"))
            .hint("start it with: agent-os up --detach")
            .detail(chain(error));
    }
    Fault::new(Code::CONNECT_FAILED, format!("the connection to {server} broke before the answer was complete"))
        .hint("the request may have been carried out; look before you repeat it")
        .detail(chain(error))
}

/// A server that took the request and says nothing.
pub(crate) fn silent(client: &Client) -> Fault {
    Fault::new(Code::NOT_RUNNING, format!("the server at {} did not answer in time", client.base_url()))
        .hint("the request may have been carried out; `agent-os status` tells whether the server is well")
}

/// A server that ends each stream before it brings anything.
pub(crate) fn closed(client: &Client) -> Fault {
    Fault::new(Code::CONNECT_FAILED, format!("{} closes the stream again and again", client.base_url()))
        .hint("look whether the server, or a proxy in front of it, is well")
}

/// An answer that an AgentOS server of this version does not give.
pub(crate) fn malformed(client: &Client, what: &str) -> Fault {
    Fault::new(Code::RESPONSE_MALFORMED, format!("{} answered with {what}", client.base_url()))
        .hint("check that this is the address of an AgentOS server of the same version")
}

/// The TLS error below a connection error; an I/O error hides its own cause from `source`.
fn find_tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause = error.source();
    // Error chains are short; the bound only guards against one that loops.
    for _ in 0..16 {
        let current = cause?;
        if let Some(found) = current.downcast_ref() {
            return Some(found);
        }
        cause = match current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => current.source(),
        };
    }
    None
}

fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    for _ in 0..16 {
        let Some(current) = cause else { break };
        text.push_str(": ");
        text.push_str(&current.to_string());
        cause = current.source();
    }
    text
}
