//! The judge of the server: the monitor decides, and for what it has granted the secrets are revealed, one grant at a time.

use agentos_authority::Authorized;
use agentos_monitor::{
    Monitor,
    egress::{Closing, Exit, Way},
};
use agentos_protocol::egress::{Refusal, Verdict, Wish, WishEnd};
use agentos_secrets::{ExposeSecret, Secrets};
use agentos_types::{Code, Fault, Result};
use async_trait::async_trait;

use super::{Guest, Judge, Judgement};

/// Binds the door to the proxy.
pub struct MonitorJudge {
    pub monitor: Monitor,
    pub secrets: Secrets,
}

#[async_trait]
impl Judge for MonitorJudge {
    async fn judge(&self, who: &Guest, wish: &Wish) -> Judgement {
        let is_provider = |host: &str| who.is_provider(host);
        let passage = match self.monitor.egress(&who.caller, &who.decided_by(&is_provider), wish).await {
            Err(fault) => return Judgement::denied(&fault),
            Ok(Way::Known) => return Judgement::without_passage(allowed(Vec::new(), false)),
            Ok(Way::Models(captured)) => {
                return who.serve(&captured).map_or_else(|fault| Judgement::denied(&fault), Judgement::models);
            }
            Ok(Way::Out(passage)) => passage,
        };
        match headers(&self.secrets, passage.exit()).await {
            Ok(headers) => {
                let verdict = allowed(headers, passage.exit().get().private_allowed);
                Judgement { verdict, passage: Some(passage), models: None }
            }
            Err(fault) => {
                tracing::warn!(agent = %who.caller.agent, %fault, "a credential could not be put in");
                // Granted and not carried out: the intent stands in the log, so its outcome does too.
                let end = WishEnd::Unreachable { code: fault.code.to_string(), address: None };
                passage.close(Closing { bytes_out: 0, bytes_in: 0, duration_ms: 0, end }).await;
                Judgement::denied(&fault)
            }
        }
    }

    async fn refused(&self, who: &Guest, target: Option<&str>, reason: Refusal) {
        told(self.monitor.egress_refused(&who.caller, target, &reason).await);
    }

    async fn ended(&self, who: &Guest) {
        told(self.monitor.egress_ended(&who.caller).await);
    }

    async fn tidy(&self) {
        told(self.monitor.egress_summaries().await);
    }
}

fn allowed(headers: Vec<(String, String)>, private_allowed: bool) -> Verdict {
    Verdict::Allowed { headers, private_allowed }
}

/// A refusal that cannot be recorded is a refusal all the same; the count of repeated ones is kept.
fn told(written: Result<()>) {
    if let Err(fault) = written {
        tracing::warn!(%fault, "a refusal of the egress proxy is not recorded yet");
    }
}

/// Of all credentials of a request: twice as much, as JSON, fits into one packet to the proxy with room to spare, and servers
/// take no more.
const HEADERS_BYTES_MAX: usize = 32 * 1024;

/// Takes the proof and nothing else, so that no secret is revealed for what was not granted.
async fn headers(secrets: &Secrets, exit: &Authorized<Exit>) -> Result<Vec<(String, String)>> {
    let (mut headers, mut bytes) = (Vec::new(), 0);
    for credential in &exit.get().credentials {
        let secret = secrets.reveal(&credential.secret).await?;
        let value = credential.filled(secret.expose_secret());
        // A line end would let the secret write headers of its own.
        if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(Fault::new(
                Code::SECRET_INVALID,
                format!("the secret '{}' cannot be sent in a header", credential.secret),
            )
            .hint("set it again without line ends and other characters than visible ASCII"));
        }
        bytes += credential.header.len() + value.len();
        if bytes > HEADERS_BYTES_MAX {
            return Err(Fault::new(
                Code::SECRET_INVALID,
                format!("the credentials of one host are more than {HEADERS_BYTES_MAX} bytes of headers together"),
            )
            .hint("grant fewer credentials for the host, or store shorter secrets"));
        }
        headers.push((credential.header.clone(), value));
    }
    Ok(headers)
}
