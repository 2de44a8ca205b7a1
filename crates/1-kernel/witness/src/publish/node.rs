//! Another node as a witness: it gets the newest checkpoint with the proof that it continues the one that it holds, and
//! answers with its cosignature.

use std::time::Duration;

use agentos_dialer::{CheckedUrl, Header, Method, Request};
use agentos_proof::{Frontier, checkpoint};
use agentos_secrets::ExposeSecret;
use agentos_types::{
    Code, Fault, Result,
    witness::{HeldCheckpoint, SubmitCheckpoint},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;

use super::Publisher;
use crate::{
    head::{self, Head},
    judge::ROTATIONS_SENT_MAX,
    options::NodeTarget,
    rows::TargetRow,
};

/// A witness answers within milliseconds; one that needs longer is in trouble, and is asked again.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// A cosigned note with the changes of the key in JSON, or a problem document.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// What is repeated of a remote text.
const TEXT_CHARS_MAX: usize = 300;

impl Publisher {
    /// Returns the cosigned note.
    pub(super) async fn show(&self, node: &NodeTarget, head: &Head, row: Option<&TargetRow>) -> Result<String> {
        let known = row.map(|row| row.frontier.clone()).unwrap_or_default();
        let answer = self.submit(node, head, known).await;
        let held = match answer {
            // It holds more than this side remembers: an answer was lost, or somebody else speaks for this log.
            // And what this side remembers may be pruned, and the witness may hold something else by now.
            Err(fault) if [Code::CHECKPOINT_STALE, Code::CHECKPOINT_PRUNED].contains(&fault.code) => {
                let old = self.frontier_held_by(node, head).await?;
                self.submit(node, head, old).await?
            }
            answer => answer?,
        };
        if checkpoint::parse_unverified(&held.note)? != checkpoint::parse_unverified(&head.note)? {
            return Err(malformed(node, "it is about another checkpoint"));
        }
        node.key.seen_at(&held.note)?;
        Ok(held.note)
    }

    /// The right edge of the own log at the size that the node holds; the empty one where it holds nothing.
    async fn frontier_held_by(&self, node: &NodeTarget, head: &Head) -> Result<Frontier> {
        let size = match self.held_by(node).await {
            Err(fault) if fault.code == Code::WITNESS_LOG_NOT_FOUND => return Ok(Frontier::new()),
            held => held?.size.min(head.size()),
        };
        let log = self.shared.parts.identity.log().to_owned();
        self.shared.parts.store.read(move |conn| head::frontier_at(conn, &log, size)).await
    }

    /// The checkpoint that the node holds of this log.
    pub(super) async fn held_by(&self, node: &NodeTarget) -> Result<HeldCheckpoint> {
        let log = self.shared.parts.identity.log();
        self.ask(node, Method::Get, &format!("/api/v1/witness/checkpoints/{log}"), None).await
    }

    async fn submit(&self, node: &NodeTarget, head: &Head, old: Frontier) -> Result<HeldCheckpoint> {
        let (log, old_size, shown) = (self.shared.parts.identity.log().to_owned(), old.size(), head.clone());
        let proof = self.shared.parts.store.read(move |conn| head::proof(conn, &log, &old, &shown)).await?;
        let proof = proof.iter().map(|hash| BASE64.encode(hash)).collect();
        let missing = head.rotations.len().saturating_sub(ROTATIONS_SENT_MAX);
        let rotations = head.rotations.iter().skip(missing).cloned().collect();
        let body = SubmitCheckpoint { note: head.note.clone(), old_size, proof, rotations };
        let body = serde_json::to_vec(&body).map_err(Fault::internal)?;
        self.ask(node, Method::Post, "/api/v1/witness/checkpoints", Some(body)).await
    }

    async fn ask(
        &self,
        node: &NodeTarget,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<HeldCheckpoint> {
        let parts = &self.shared.parts;
        let token = parts.secrets.reveal(&node.secret).await?;
        let mut request = Request::new(method, CheckedUrl::parse(&format!("{}{path}", node.base))?);
        request.headers = vec![Header::sensitive("authorization", format!("Bearer {}", token.expose_secret()))];
        if body.is_some() {
            request.headers.push(Header::new("content-type", "application/json"));
        }
        request.body = body;
        request.timeout = Some(ANSWER_TIMEOUT.min(parts.dialer.options().timeout_max));
        request.max_bytes = Some(ANSWER_BYTES_MAX.min(parts.dialer.options().response_bytes_max));
        // The token is meant for this node alone.
        let answer = parts.dialer.send(request, &|_: &CheckedUrl| false).await?;
        if (200..300).contains(&answer.status) {
            return serde_json::from_slice(&answer.body).map_err(|_| malformed(node, "it has another shape"));
        }
        Err(refused(node, answer.status, &answer.body))
    }
}

/// The node's own problem document, as far as it is one.
fn refused(node: &NodeTarget, status: u16, body: &[u8]) -> Fault {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let code = problem["code"].as_str().and_then(|text| text.parse().ok());
    let detail: String = problem["detail"].as_str().unwrap_or_default().chars().take(TEXT_CHARS_MAX).collect();
    let detail: String = detail.chars().filter(|character| !character.is_control()).collect();
    match code {
        Some(code) => Fault::new(code, format!("{} answered {status}: {detail}", node.target)),
        None => Fault::new(Code::REMOTE_STATUS, format!("{} answered {status}", node.target)),
    }
}

fn malformed(node: &NodeTarget, why: &str) -> Fault {
    Fault::new(Code::RESPONSE_MALFORMED, format!("the answer of {} cannot be used: {why}", node.target))
}

pub(super) fn silent(node: &NodeTarget, patience: Duration) -> Fault {
    let message = format!("{} did not tell within {} s what it holds", node.target, patience.as_secs());
    Fault::new(Code::REMOTE_TIMEOUT, message)
}
