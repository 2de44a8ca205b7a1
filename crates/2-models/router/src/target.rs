//! Whom the engine asks, and how.

use std::{sync::Arc, time::Duration};

use agentos_catalog::Price;
use agentos_types::SecretName;
use agentos_wire::{Protocol, emulate::Lacks};

use crate::{Kind, Timeouts};

/// How long is waited for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Name, connection and TLS.
    pub connect: Duration,
    /// From the request to the first event of a stream.
    pub first_byte: Duration,
    /// Between two pieces of a stream.
    pub idle: Duration,
    /// From the request to the head of an answer that is no stream: the model has written it all by then.
    pub whole: Duration,
}

impl From<Timeouts> for Waits {
    fn from(timeouts: Timeouts) -> Self {
        let [connect, first_byte, idle, whole] =
            [timeouts.connect_ms, timeouts.first_byte_ms, timeouts.idle_ms, timeouts.whole_ms]
                .map(Duration::from_millis);
        Self { connect, first_byte, idle, whole }
    }
}

/// One model of one provider with one of its keys, for one attempt.
#[derive(Clone, Debug)]
pub struct Target {
    /// `PROVIDER/MODEL`.
    pub id: String,
    /// The alias that led here, if one did.
    pub route: Option<String>,
    pub provider: String,
    pub kind: Kind,
    pub base_url: String,
    /// As the provider calls it.
    pub model: String,
    /// What it is spoken to in: the client's protocol if it can be.
    pub protocol: Protocol,
    pub api_version: Option<String>,
    /// Signed for this region, with an access key.
    pub sigv4_region: Option<String>,
    pub key: Option<SecretName>,
    pub key_group: String,
    pub headers: Arc<Vec<(String, String)>>,
    /// `None`: nobody knows, and the operator has set no worst case.
    pub price: Option<Arc<Price>>,
    /// The price is the operator's worst case for models that have none.
    pub price_is_assumed: bool,
    /// Tokens of the model's window.
    pub context: Option<u64>,
    pub output_max: Option<u64>,
    /// The most that one image costs.
    pub image_tokens: u64,
    /// What is done by prompt because the model has it not.
    pub emulate: Lacks,
    /// Taken out of the request, and named in the answer.
    pub drop_fields: Arc<Vec<String>>,
    /// Answers only as a whole.
    pub is_whole_only: bool,
    pub waits: Waits,
    /// Of this request, from 1.
    pub attempt: u32,
    /// To be waited before it is asked.
    pub pause: Duration,
    /// It writes on where a stream broke off, with what was passed on as its prefill.
    pub is_continuation: bool,
    /// Where its stream breaks off, [`Plan::next`](crate::Plan::next) may name one that writes on.
    pub may_continue: bool,
    /// When [`Plan::hedge`](crate::Plan::hedge) may be asked for another one, if nothing has come by then.
    pub hedge_after: Option<Duration>,
}
