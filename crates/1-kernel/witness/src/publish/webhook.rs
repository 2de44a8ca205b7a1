//! A checkpoint as a webhook: `{"kind":"audit.checkpoint","log","size","note","verifier_key","rotations"}`, signed like every
//! webhook of the product. The receiver drops repeats by the idempotency key, which names log and size.

use agentos_dialer::{CheckedUrl, Header, Method, Request};
use agentos_secrets::{WEBHOOK_SIGNATURE_HEADER, webhook_signature};
use agentos_types::{Code, Fault, Result};
use serde_json::json;

use super::{Publisher, node::ANSWER_TIMEOUT};
use crate::{head::Head, options::Webhook};

impl Publisher {
    /// Returns the note that has arrived.
    pub(super) async fn post(&self, hook: &Webhook, head: &Head) -> Result<String> {
        let parts = &self.shared.parts;
        let (log, size) = (parts.identity.log(), head.size());
        let body = json!({
            "kind": "audit.checkpoint", "log": log, "size": size, "note": head.note,
            "verifier_key": head.key.to_string(), "rotations": head.rotations,
        })
        .to_string();
        let secret = parts.secrets.reveal(&hook.secret).await?;
        let seconds = parts.ambient.now().as_millis() / 1_000;
        let mut request = Request::new(Method::Post, hook.url.clone());
        request.headers = vec![
            Header::new("content-type", "application/json"),
            Header::new("idempotency-key", format!("{log}-{size}")),
            Header::sensitive(WEBHOOK_SIGNATURE_HEADER, webhook_signature(&secret, seconds, &body)?),
        ];
        request.body = Some(body.into_bytes());
        request.timeout = Some(ANSWER_TIMEOUT.min(parts.dialer.options().timeout_max));
        // A body that was signed for one receiver follows no redirect to another.
        let answer = parts.dialer.send(request, &|_: &CheckedUrl| false).await?;
        if (200..300).contains(&answer.status) {
            return Ok(head.note.clone());
        }
        Err(Fault::new(Code::REMOTE_STATUS, format!("the receiver answered {}", answer.status)))
    }
}
