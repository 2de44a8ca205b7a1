//! `notify.webhook`: a signed POST. The receiver checks origin and age by the signature and drops repeats by the key.
//!
//! `AgentOS-Signature: t=<unix seconds>,v1=<hex HMAC-SHA-256 of "t.body">`, the form that webhook receivers already know.

use agentos_authority::Authorized;
use agentos_dialer::{CheckedUrl, Header, Method, Request};
use agentos_failpoint::{Point, hit};
use agentos_monitor::Call;
use agentos_protocol::syscall::{NotifyWebhook, NotifyWebhookResult};
use agentos_secrets::{ExposeSecret, Secrets};
use agentos_types::{Code, Fault, Result, hex, limits::PAYLOAD_BYTES_MAX};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

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
    let signature = sign(secret.expose_secret(), seconds, &body)?;
    let mut request = Request::new(Method::Post, CheckedUrl::parse(&args.url)?);
    request.headers = vec![
        Header::new("content-type", "application/json"),
        Header::new("idempotency-key", call.get().idempotency_key()),
        Header::sensitive("agentos-signature", format!("t={seconds},v1={signature}")),
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

fn sign(secret: &str, seconds: i64, body: &str) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(Fault::internal)?;
    mac.update(format!("{seconds}.{body}").as_bytes());
    Ok(hex::encode(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_signature_is_plain_hmac_sha256() {
        // Computed independently: printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'topsecret1'
        let expected = "116d889ed3000dcc97cb8707544c338db45539b062029c3c335300088798bd10";
        assert_eq!(super::sign("topsecret1", 1_700_000_000, r#"{"a":1}"#).unwrap(), expected);
    }
}
