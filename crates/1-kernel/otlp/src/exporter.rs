//! The one consumer of the queue: gathers a batch, sends it, backs off when the collector does not take it.

use std::{sync::atomic::Ordering, time::Duration};

use agentos_base::{
    Ambient,
    redact::Redactor,
    trace::{SpanStats, Spans},
};
use agentos_dialer::{CheckedUrl, Dialer, DialerOptions, Method, Request, Response};
use agentos_types::{Fault, Result};
use prost::Message;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    OtlpOptions,
    encode::Encoder,
    message::{ExportResponse, Span as Wire},
};

/// Bytes of spans in one request; the dialer's limit is twice that.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// An answer of the collector is some words.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Sends of one batch; by then two minutes have passed, and the queue holds what is newer.
const TRIES_MAX: u32 = 6;
/// Between two lines of the log about a collector that does not work.
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);
/// For what still waits when the server stops.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Owns the receiving end of the queue. Run it once.
pub struct Exporter {
    options: OtlpOptions,
    dialer: Dialer,
    encoder: Encoder,
    spans: Spans,
    ambient: Ambient,
    complained_at: Option<Instant>,
}

/// What became of one send.
enum Outcome {
    Taken {
        rejected: u64,
    },
    /// Worth another try, at the earliest after the wait that the collector asked for.
    Later {
        why: String,
        wait: Option<Duration>,
    },
    /// The same bytes will not be taken another time.
    Never {
        why: String,
    },
}

impl Exporter {
    /// Unusable files refuse the start; whether the collector answers is nobody's condition.
    pub fn new(options: OtlpOptions, spans: Spans, ambient: Ambient, redactor: Redactor) -> Result<Self> {
        let dialer = Dialer::new(DialerOptions {
            // The operator named this target; it may well be private, and is the only one of this dialer.
            private_exceptions: vec![options.url.host_port()],
            timeout_default: options.timeout,
            timeout_max: options.timeout,
            response_bytes_default: ANSWER_BYTES_MAX,
            response_bytes_max: ANSWER_BYTES_MAX,
            redirects_max: 0,
            extra_roots: options.certificate.iter().cloned().collect(),
        })?;
        redactor.keep(options.secrets());
        let encoder = Encoder::new(&options.resource, redactor);
        Ok(Self { options, dialer, encoder, spans, ambient, complained_at: None })
    }

    /// Until the shutdown; then what waits is sent within three seconds, and the rest is counted as dropped.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut backoff = BACKOFF_FIRST;
        while let Some(batch) = self.gather(&shutdown).await {
            let mut tries = 0;
            let body = self.encoder.request(&batch);
            loop {
                tries += 1;
                let sent = tokio::select! {
                    () = shutdown.cancelled() => return self.flush(batch).await,
                    sent = self.send(&body) => sent,
                };
                let (why, wait, again) = match sent {
                    Outcome::Taken { rejected } => {
                        self.settle(batch.len() as u64, rejected);
                        backoff = BACKOFF_FIRST;
                        break;
                    }
                    Outcome::Later { why, wait } => (why, wait, tries < TRIES_MAX),
                    Outcome::Never { why } => (why, None, false),
                };
                self.complain(&why);
                if !again {
                    count(&self.spans.stats.failed, batch.len() as u64);
                }
                let pause = wait.unwrap_or(backoff).min(BACKOFF_MAX) + self.jitter(backoff);
                backoff = (backoff * 2).min(BACKOFF_MAX);
                tokio::select! {
                    () = shutdown.cancelled() => return self.flush(if again { batch } else { Vec::new() }).await,
                    () = sleep(pause) => {}
                }
                if !again {
                    break;
                }
            }
        }
        self.flush(Vec::new()).await;
    }

    /// The next batch: full, or as old as the delay allows. `None` at the shutdown.
    async fn gather(&mut self, shutdown: &CancellationToken) -> Option<Vec<Wire>> {
        let first = tokio::select! {
            () = shutdown.cancelled() => return None,
            first = self.spans.queue.recv() => first?,
        };
        let mut batch = vec![self.encoder.span(&first)];
        let mut bytes = 0;
        let until = Instant::now() + self.options.batch_delay;
        while batch.len() < self.options.batch_max && bytes < BATCH_BYTES_MAX {
            let next = tokio::select! {
                () = shutdown.cancelled() => break,
                next = timeout_at(until, self.spans.queue.recv()) => next,
            };
            let Ok(Some(span)) = next else { break };
            let wire = self.encoder.span(&span);
            bytes += wire.encoded_len();
            batch.push(wire);
        }
        Some(batch)
    }

    async fn send(&self, body: &[u8]) -> Outcome {
        let mut request = Request::new(Method::Post, self.options.url.clone());
        request.headers = self.options.headers.clone();
        request.headers.push(agentos_dialer::Header::new("content-type", "application/x-protobuf"));
        request.body = Some(body.to_vec());
        match self.dialer.send(request, &|_: &CheckedUrl| false).await {
            Ok(response) => judge(&response),
            Err(fault) => Outcome::Later { why: cause(&fault), wait: None },
        }
    }

    /// The last words, one try each.
    async fn flush(mut self, pending: Vec<Wire>) {
        self.spans.queue.close();
        let until = Instant::now() + FLUSH_LIMIT;
        let mut batch = pending;
        loop {
            while batch.len() < self.options.batch_max {
                let Ok(span) = self.spans.queue.try_recv() else { break };
                batch.push(self.encoder.span(&span));
            }
            if batch.is_empty() {
                return;
            }
            let body = self.encoder.request(&batch);
            let count_of = batch.len() as u64;
            batch.clear();
            match timeout_at(until, self.send(&body)).await {
                Ok(Outcome::Taken { rejected }) => self.settle(count_of, rejected),
                Ok(Outcome::Later { why, .. } | Outcome::Never { why }) => {
                    self.give_up(count_of, &why);
                    return;
                }
                Err(_) => {
                    self.give_up(count_of, "the time for the last export was over");
                    return;
                }
            }
        }
    }

    fn give_up(&mut self, in_hand: u64, why: &str) {
        let lost = in_hand + self.spans.queue.len() as u64;
        count(&self.spans.stats.dropped, lost);
        tracing::warn!(spans = lost, why, "the server stops before all spans were exported");
    }

    fn settle(&mut self, sent: u64, rejected: u64) {
        let rejected = rejected.min(sent);
        count(&self.spans.stats.exported, sent - rejected);
        count(&self.spans.stats.failed, rejected);
        if rejected > 0 {
            self.complain(&format!("{rejected} of {sent} spans were rejected"));
        }
    }

    fn complain(&mut self, why: &str) {
        let now = Instant::now();
        if self.complained_at.is_some_and(|at| now.duration_since(at) < COMPLAINT_EVERY) {
            return;
        }
        self.complained_at = Some(now);
        let SpanStats { exported, dropped, failed } = &*self.spans.stats;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        tracing::warn!(
            collector = %self.options.url.host_port(),
            why,
            exported = read(exported),
            dropped = read(dropped),
            failed = read(failed),
            "traces are not exported; work goes on"
        );
    }

    /// Up to half of the pause, so that many servers do not come back to one collector at once.
    fn jitter(&self, pause: Duration) -> Duration {
        let half = u64::try_from(pause.as_millis() / 2).unwrap_or(0);
        Duration::from_millis(self.ambient.random_up_to(half))
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("options", &self.options).finish_non_exhaustive()
    }
}

/// By the specification of OTLP over HTTP: 429, 502, 503 and 504 may be sent again, nothing else.
fn judge(response: &Response) -> Outcome {
    let why = format!("it answered {}", response.status);
    match response.status {
        // A body that is no answer of the protocol takes nothing back of the status.
        200..=299 => Outcome::Taken { rejected: rejected(&response.body) },
        429 | 502..=504 => Outcome::Later { why, wait: retry_after(response) },
        _ => Outcome::Never { why },
    }
}

fn rejected(body: &[u8]) -> u64 {
    let partial = ExportResponse::decode(body).ok().and_then(|answer| answer.partial_success);
    partial.and_then(|partial| u64::try_from(partial.rejected_spans).ok()).unwrap_or(0)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let (_, value) = response.headers.iter().find(|(name, _)| name == "retry-after")?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// The message for people, with the cause that the dialer keeps for the log.
fn cause(fault: &Fault) -> String {
    match &fault.detail {
        Some(detail) => format!("{} ({detail})", fault.message),
        None => fault.message.clone(),
    }
}

fn count(counter: &std::sync::atomic::AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
