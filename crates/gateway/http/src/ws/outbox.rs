//! The way out of a session: a queue bounded by messages and bytes, and the one writer behind it.
//!
//! A full queue makes its producers wait, so a slow reader slows its own session down and costs no memory. A reader that
//! takes nothing at all for a while is closed.

use std::{sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{Sink, SinkExt, stream::SplitSink};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Messages that may wait.
const QUEUE_MAX: usize = 256;
/// Bytes that may wait; one larger message may wait alone.
const QUEUE_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// A last chance for the close frame of a reader that stopped reading.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a session ends, as its close frame says it. Codes above 4000 are ours; the last digits are those of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    GoingAway,
    TooLarge,
    Protocol,
    Unauthenticated,
    TooSlow,
    Idle,
    TooFast,
    /// A session without a token, whose place was needed.
    Displaced,
    /// The peer closed or is gone: nothing to tell it.
    Gone,
}

impl Close {
    fn frame(self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Close::Gone => return None,
            Close::GoingAway => (1001, "the server is shutting down"),
            Close::TooLarge => (1009, "the message is too large"),
            Close::Protocol => (4400, "too many messages that are not of the protocol"),
            Close::Unauthenticated => (4401, "not authenticated, or the token is no longer valid"),
            Close::TooSlow => (4408, "messages were not read in time"),
            Close::Idle => (4410, "nothing was heard for too long"),
            Close::TooFast => (4429, "too many messages"),
            Close::Displaced => (4503, "too many connections without a token"),
        };
        Some(CloseFrame { code, reason: reason.into() })
    }
}

struct Queued {
    message: Message,
    /// The message's share of the bytes that may wait, given back when it is written.
    _room: Option<OwnedSemaphorePermit>,
}

/// The producers' end.
pub(crate) struct Outbox {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
}

impl Outbox {
    /// Waits for room. Fails when the writer has ended, which ends the session.
    pub async fn send(&self, text: String) -> Result<(), Close> {
        let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX).min(QUEUE_BYTES_MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| Close::Gone)?;
        self.push(Message::Text(text.into()), Some(room)).await
    }

    pub async fn ping(&self) -> Result<(), Close> {
        self.push(Message::Ping(bytes::Bytes::new()), None).await
    }

    /// The last message of a session.
    pub async fn close(self, close: Close) {
        if let Some(frame) = close.frame() {
            // If the writer is gone, so is the peer.
            let _ = self.push(Message::Close(Some(frame)), None).await;
        }
    }

    async fn push(&self, message: Message, room: Option<OwnedSemaphorePermit>) -> Result<(), Close> {
        self.queue.send(Queued { message, _room: room }).await.map_err(|_| Close::Gone)
    }
}

/// The queue and its writer, which ends when the outbox is dropped or the reader stalls for `patience`.
pub(crate) fn open(
    sink: SplitSink<WebSocket, Message>,
    patience: Duration,
) -> (Outbox, impl Future<Output = ()> + Send) {
    let (queue, waiting) = mpsc::channel(QUEUE_MAX);
    let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX as usize));
    (Outbox { queue, room }, write(sink, waiting, patience))
}

async fn write(
    mut sink: impl Sink<Message, Error = axum::Error> + Unpin,
    mut waiting: mpsc::Receiver<Queued>,
    patience: Duration,
) {
    while let Some(queued) = waiting.recv().await {
        match tokio::time::timeout(patience, sink.send(queued.message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                let farewell = sink.send(Message::Close(Close::TooSlow.frame()));
                let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::sink::unfold;

    use super::*;

    /// A peer that takes `takes` messages and then stops.
    fn peer(takes: usize) -> (impl Sink<Message, Error = axum::Error> + Unpin, mpsc::UnboundedReceiver<Message>) {
        let (taken, seen) = mpsc::unbounded_channel();
        let sink = unfold(0, move |count, message| {
            let taken = taken.clone();
            async move {
                if count >= takes {
                    std::future::pending::<()>().await;
                }
                taken.send(message).map_err(axum::Error::new)?;
                Ok(count + 1)
            }
        });
        (Box::pin(sink), seen)
    }

    #[tokio::test(start_paused = true)]
    async fn the_writer_gives_up_on_a_reader_that_stopped() {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let outbox = Outbox { queue, room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX as usize)) };
        let (sink, mut seen) = peer(3);
        let mut sent_mib = 0;
        let producing = async {
            while outbox.send("x".repeat(1024 * 1024)).await.is_ok() {
                sent_mib += 1;
            }
        };
        tokio::select! {
            () = producing => {}
            () = write(sink, waiting, Duration::from_secs(5)) => {}
        }
        assert!((4..=3 + 1 + 4).contains(&sent_mib), "{sent_mib} MiB were taken in for a reader of 3");
        for _ in 0..3 {
            assert!(matches!(seen.try_recv(), Ok(Message::Text(_))));
        }
        assert!(seen.try_recv().is_err(), "the reader took three and no farewell");
        assert_eq!(outbox.send(String::new()).await, Err(Close::Gone));
    }
}
