//! A provider's answer, read piece by piece. Dropped before its end it takes its connection with it, which is how a provider is
//! told to stop.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use agentos_wire::eventstream::Decoder;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{
    HeaderMap,
    body::{Body, Frame, Incoming},
};
use tokio::time::{Instant, timeout_at};

use super::pool::{Idle, Pool};

/// Most that is read of an answer that is no stream. Embeddings of two thousand inputs have some sixty megabytes.
const WHOLE_BYTES_MAX: usize = 96 << 20;

pub(crate) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: AnswerBody,
}

/// How Bedrock frames the events of Messages.
pub(crate) const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

pub(crate) struct AnswerBody {
    /// `None` once it was stopped.
    incoming: Option<Incoming>,
    /// For a body in [`EVENT_STREAM`], which leaves here as server-sent events.
    decoder: Option<Decoder>,
    /// Goes back to the pool at the end.
    lease: Option<(Pool, Idle)>,
}

impl Answer {
    /// It is a stream of events, in either framing.
    pub fn begins_events(&mut self) -> bool {
        let kind = self.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_framed = kind.starts_with(EVENT_STREAM);
        self.body.decoder = is_framed.then(Decoder::default);
        is_framed || kind.starts_with("text/event-stream")
    }
}

/// Why there is no more.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// Nothing came in time.
    Idle,
    Cut(String),
    TooLarge,
}

/// A piece, or the end.
pub(crate) type Next = Result<Option<Bytes>, Stopped>;

impl AnswerBody {
    pub(super) fn new(incoming: Incoming, pool: Pool, idle: Idle) -> Self {
        Self { incoming: Some(incoming), decoder: None, lease: Some((pool, idle)) }
    }

    /// Nothing more is wanted: the connection ends, and with it the provider's work.
    pub fn stop(&mut self) {
        (self.incoming, self.lease) = (None, None);
    }

    /// The next piece, or the end that the provider meant.
    pub async fn piece(&mut self, until: Instant) -> Next {
        loop {
            let raw = self.raw(until).await;
            if let Some(next) = self.decoded(raw) {
                return next;
            }
        }
    }

    /// What came over the wire as the rest of us reads it. `None` of a piece that ends inside of a message.
    fn decoded(&mut self, raw: Next) -> Option<Next> {
        let Some(decoder) = &mut self.decoder else { return Some(raw) };
        match raw {
            Ok(Some(piece)) => match decoder.events(&piece) {
                Ok(events) => (!events.is_empty()).then_some(Ok(Some(events))),
                Err(damaged) => Some(Err(Stopped::Cut(damaged.to_string()))),
            },
            Ok(None) if decoder.is_torn() => Some(Err(Stopped::Cut("the stream ended inside of a message".into()))),
            ended => Some(ended),
        }
    }

    /// As it comes over the wire.
    async fn raw(&mut self, until: Instant) -> Next {
        loop {
            let Some(incoming) = &mut self.incoming else { return Ok(None) };
            let frame = timeout_at(until, incoming.frame()).await.map_err(|_| Stopped::Idle)?;
            if let Some(next) = self.next(frame) {
                return next;
            }
        }
    }

    /// The same if it is here already. Waits for nothing.
    pub async fn come(&mut self) -> Option<Next> {
        loop {
            let incoming = self.incoming.as_mut()?;
            let polled = poll_fn(|context| Poll::Ready(Pin::new(&mut *incoming).poll_frame(context))).await;
            let Poll::Ready(frame) = polled else { return None };
            let raw = self.next(frame);
            if let Some(next) = raw.and_then(|raw| self.decoded(raw)) {
                return Some(next);
            }
        }
    }

    /// `None` of a frame that holds nothing of the answer.
    fn next(&mut self, frame: Option<hyper::Result<Frame<Bytes>>>) -> Option<Next> {
        match frame {
            None => {
                if let Some((pool, idle)) = self.lease.take() {
                    pool.give_back(idle);
                }
                Some(Ok(None))
            }
            Some(Err(error)) => Some(Err(Stopped::Cut(error.to_string()))),
            Some(Ok(frame)) => frame.into_data().ok().filter(|data| !data.is_empty()).map(|data| Ok(Some(data))),
        }
    }

    /// All of it, with at most `idle` between two pieces.
    pub async fn whole(&mut self, idle: Duration) -> Result<Bytes, Stopped> {
        let Some(first) = self.piece(Instant::now() + idle).await? else { return Ok(Bytes::new()) };
        let Some(second) = self.piece(Instant::now() + idle).await? else { return Ok(first) };
        let mut whole = BytesMut::from(&first[..]);
        whole.extend_from_slice(&second);
        while let Some(piece) = self.piece(Instant::now() + idle).await? {
            if whole.len() + piece.len() > WHOLE_BYTES_MAX {
                return Err(Stopped::TooLarge);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}
