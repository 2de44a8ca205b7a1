//! A provider's answer, read piece by piece. Dropped before its end it takes its connection with it, which is how a provider is
//! told to stop.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{HeaderMap, body::Incoming};
use tokio::time::{Instant, timeout_at};

use super::pool::{Idle, Pool};

/// Most that is read of an answer that is no stream. Embeddings of two thousand inputs have some sixty megabytes.
const WHOLE_BYTES_MAX: usize = 96 << 20;

pub(crate) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: AnswerBody,
}

pub(crate) struct AnswerBody {
    /// `None` once it was stopped.
    incoming: Option<Incoming>,
    /// Goes back to the pool at the end.
    lease: Option<(Pool, Idle)>,
}

/// Why there is no more.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// Nothing came in time.
    Idle,
    Cut(String),
    TooLarge,
}

impl AnswerBody {
    pub(super) fn new(incoming: Incoming, pool: Pool, idle: Idle) -> Self {
        Self { incoming: Some(incoming), lease: Some((pool, idle)) }
    }

    /// Nothing more is wanted: the connection ends, and with it the provider's work.
    pub fn stop(&mut self) {
        (self.incoming, self.lease) = (None, None);
    }

    /// The next piece, or the end that the provider meant.
    pub async fn piece(&mut self, until: Instant) -> Result<Option<Bytes>, Stopped> {
        loop {
            let Some(incoming) = &mut self.incoming else { return Ok(None) };
            let frame = timeout_at(until, incoming.frame()).await.map_err(|_| Stopped::Idle)?;
            match frame {
                None => {
                    if let Some((pool, idle)) = self.lease.take() {
                        pool.give_back(idle);
                    }
                    return Ok(None);
                }
                Some(Err(error)) => return Err(Stopped::Cut(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
            }
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
