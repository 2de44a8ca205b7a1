//! `notify.webhook`: a signed POST. The receiver checks origin and age by the signature and drops repeats by the key.

use agentos_authority::Authorized;
use agentos_dialer::{CheckedUrl, Header, Method, Request};
use agentos_failpoint::{Point, hit};
use agentos_monitor::Call;
use agentos_protocol::syscall::{NotifyWebhook, NotifyWebhookResult};
use agentos_secrets::{Secrets, WEBHOOK_SIGNATURE_HEADER, webhook_signature};
use agentos_types::{Code, Fault, Result, limits::PAYLOAD_BYTES_MAX};

use crate::Outgoing;

pub(crate) async fn deliver(
    outgoing: &Outgoing,
    secrets: &Secrets,
    call: &Authorized<Call>,
    args: NotifyWebhook,
) -> Result<NotifyWebhookResult> {
    let body = args.body.to_string();
    if body.len() > PAYLOAD_BYTES_MAX {
        return Err(Fault::new(
            Code::PAYLOAD_TOO_LARGE,
            format!("the body has {} bytes, more than {PAYLOAD_BYTES_MAX}", body.len()),
        ));
    }
    let secret = secrets.reveal(&args.secret).await?;
    let seconds = outgoing.ambient.now().as_millis() / 1_000;
    let signature = webhook_signature(&secret, seconds, &body)?;
    let mut request = Request::new(Method::Post, CheckedUrl::parse(&args.url)?);
    request.headers = vec![
        Header::new("content-type", "application/json"),
        Header::new("idempotency-key", call.get().idempotency_key()),
        Header::sensitive(WEBHOOK_SIGNATURE_HEADER, signature),
    ];
    request.body = Some(body.into_bytes());
    // A webhook that moves must be named where it is now: its body was signed for one receiver.
    hit(Point::ToolsWebhookReady);
    let response = outgoing.send(&call.get().traceparent, request, &|_: &CheckedUrl| false).await?;
    hit(Point::ToolsWebhookReturned);
    if (200..300).contains(&response.status) {
        return Ok(NotifyWebhookResult { status: response.status });
    }
    Err(Fault::new(Code::REMOTE_STATUS, format!("the receiver answered {}", response.status)))
}
