//! Asks providers for their lists of models while nobody asks them for anything else: never a generation, so that a look costs
//! nothing. One at a time, at instants that no two nodes share.
//!
//! Not here: who is due and what follows (the router).

use std::time::Duration;

use agentos_dialer::CheckedUrl;
use agentos_router::{Kind, Probe, Probed, Router};
use agentos_types::Result;
use agentos_wire::Phase;
use hyper::{
    HeaderMap, Method,
    header::{ACCEPT, HeaderValue, USER_AGENT},
};
use tokio::time::{Instant, sleep};

use crate::{
    Engine,
    engine::Inner,
    place::models_url,
    prepare::{ANTHROPIC_VERSION, put, put_key},
    upstream::{Answer, Outgoing},
};

/// A list comes at once, or its provider is ill.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of a list, so that its connection can be used again. The largest known has a tenth of it.
const LIST_BYTES_MAX: usize = 4 << 20;

impl Engine {
    /// Looks every `interval`, shortened by chance, until the server ends. Nothing else waits for it.
    pub async fn look_around(self, router: Router, interval: Duration) {
        let inner = self.inner();
        let shutdown = inner.background.shutdown();
        let longest_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        loop {
            // Between half of it and all of it.
            let pause = longest_ms / 2 + inner.ambient.random_up_to(longest_ms / 2);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(Duration::from_millis(pause)) => {}
            }
            // As many as the document has keys.
            for probe in router.probes(interval, inner.ambient.now()) {
                let probed = tokio::select! {
                    () = shutdown.cancelled() => return,
                    probed = look(inner, &probe) => probed,
                };
                if probed != Probed::Answered {
                    tracing::debug!(
                        provider = probe.provider,
                        outcome = probed.as_str(),
                        "a provider's list of models did not come"
                    );
                }
                router.probed(&probe, probed, inner.ambient.now());
            }
        }
    }
}

async fn look(inner: &Inner, probe: &Probe) -> Probed {
    // A key that cannot be read says nothing about its provider; who calls is told.
    let Ok(outgoing) = outgoing(inner, probe).await else { return Probed::Unsupported };
    match inner.upstream.send(outgoing, probe.connect, ANSWER_TIMEOUT).await {
        Ok(answer) => judged(answer).await,
        Err(unanswered) => {
            tracing::debug!(provider = probe.provider, detail = unanswered.detail, "no list of models");
            match unanswered.phase {
                Phase::Connect | Phase::TimedOut | Phase::Cut => Probed::Failed,
                Phase::Answered | Phase::Streaming => Probed::Unsupported,
            }
        }
    }
}

/// A refusal of the list is none of the models: a key may be good for them alone, and a limit of its rate is another one.
async fn judged(mut answer: Answer) -> Probed {
    let probed = match answer.status {
        200..300 => Probed::Answered,
        500.. => Probed::Failed,
        _ => Probed::Unsupported,
    };
    let until = Instant::now() + ANSWER_TIMEOUT;
    let mut read = 0;
    loop {
        match answer.body.piece(until).await {
            Ok(Some(piece)) if read + piece.len() <= LIST_BYTES_MAX => read += piece.len(),
            // A longer one is a list all the same.
            Ok(_) => return probed,
            Err(_) => return Probed::Failed,
        }
    }
}

async fn outgoing(inner: &Inner, probe: &Probe) -> Result<Outgoing> {
    let said = probe.said();
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("agent-os/", env!("CARGO_PKG_VERSION"))));
    if said.kind == Kind::Anthropic {
        headers.insert("anthropic-version", HeaderValue::from_static(ANTHROPIC_VERSION));
    }
    for (name, value) in &said.headers {
        put(&mut headers, name, value)?;
    }
    let mut outgoing = Outgoing::new(Method::GET, CheckedUrl::parse(&models_url(said))?, headers, &probe.key_group);
    if let Some(name) = &probe.key {
        let key = inner.keys.reveal(name).await?;
        put_key(&mut outgoing, (said.kind, said.sigv4_region.as_deref()), &key, inner.ambient.now())?;
    }
    Ok(outgoing)
}
