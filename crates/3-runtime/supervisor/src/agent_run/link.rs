//! The socket of one worker: frames in, frames out. Writing has a task and queues of its own, so that a worker that does
//! not read delays nobody but itself.

use std::os::unix::net::UnixStream;

use agentos_protocol::{
    KernelFrame, WorkerFrame,
    wire::{self, FrameBuffer},
};
use agentos_types::{Code, Fault, Result};
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    sync::mpsc,
    task::JoinSet,
    time::{Duration, timeout},
};

const READ_BYTES: usize = 64 * 1024;
/// Frames that the actor may have waiting: twice the most tasks of an agent (a task and its cancel), refusals, a ping. A
/// worker that lets them pile up above this does not read.
const CONTROL_MAX: usize = 1_024;
/// Answers to calls that may wait. While it is full no further frame of the worker is read.
const REPLIES_MAX: usize = 64;
/// For the last frame to a worker that is killed right after; one that does not read does not get it.
const LAST_WORD: Duration = Duration::from_millis(100);

pub(crate) struct Link {
    reading: OwnedReadHalf,
    buffer: FrameBuffer,
    chunk: Box<[u8]>,
    control: mpsc::Sender<Outgoing>,
    replies: mpsc::Sender<Vec<u8>>,
    /// One task; dropped with the link.
    writer: JoinSet<()>,
}

/// What came from the worker.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    Frame(WorkerFrame),
    /// The worker's end is closed; `partial`: in the middle of a frame.
    Closed {
        partial: bool,
    },
}

enum Outgoing {
    Frame(Vec<u8>),
    /// The socket closes after it.
    Last(Vec<u8>),
}

impl Link {
    /// `socket` is non-blocking.
    pub(crate) fn open(socket: UnixStream) -> Result<Self> {
        let socket = tokio::net::UnixStream::from_std(socket).map_err(Fault::internal)?;
        let (reading, writing) = socket.into_split();
        let (control, control_queue) = mpsc::channel(CONTROL_MAX);
        let (replies, reply_queue) = mpsc::channel(REPLIES_MAX);
        let mut writer = JoinSet::new();
        writer.spawn(write(writing, control_queue, reply_queue));
        Ok(Self {
            reading,
            buffer: FrameBuffer::default(),
            chunk: vec![0; READ_BYTES].into(),
            control,
            replies,
            writer,
        })
    }

    /// The queue for answers to calls.
    pub(crate) fn replies(&self) -> mpsc::Sender<Vec<u8>> {
        self.replies.clone()
    }

    /// The next frame. Cancel-safe: bytes stay in the buffer.
    pub(crate) async fn next(&mut self) -> Result<Received> {
        // First room for an answer: whoever does not read may not ask on.
        drop(self.replies.reserve().await);
        loop {
            if let Some(payload) = self.buffer.next_payload()? {
                return wire::decode(payload).map(Received::Frame);
            }
            // A unix socket reports a reset when the worker closed it with frames of ours unread.
            let count = self.reading.read(&mut self.chunk).await.unwrap_or(0);
            match self.chunk.get(..count) {
                Some(bytes) if !bytes.is_empty() => self.buffer.extend(bytes),
                _ => return Ok(Received::Closed { partial: self.buffer.has_partial() }),
            }
        }
    }

    /// Queues a frame. Fails when the worker has not read for a long time.
    pub(crate) fn send(&self, frame: &KernelFrame) -> Result<()> {
        self.put(frame)
    }

    /// Sends a frame and closes.
    pub(crate) async fn send_last(&mut self, frame: &KernelFrame) {
        let Ok(bytes) = wire::encode(frame) else { return };
        if self.control.try_send(Outgoing::Last(bytes)).is_ok() {
            // Late or in vain is all the same: the worker is killed next.
            let _ = timeout(LAST_WORD, self.writer.join_next()).await;
        }
    }

    fn put<F: Serialize>(&self, frame: &F) -> Result<()> {
        match self.control.try_send(Outgoing::Frame(wire::encode(frame)?)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Fault::new(
                Code::WORKER_SILENT,
                format!("the worker has left {CONTROL_MAX} frames unread on its socket"),
            )),
            // The worker has closed its end, which the reading side tells as well.
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }
}

/// Ends when the socket does not take any more, or with the last frame.
async fn write(
    mut socket: OwnedWriteHalf,
    mut control: mpsc::Receiver<Outgoing>,
    mut replies: mpsc::Receiver<Vec<u8>>,
) {
    loop {
        let (bytes, last) = tokio::select! {
            biased;
            next = control.recv() => match next {
                Some(Outgoing::Frame(bytes)) => (bytes, false),
                Some(Outgoing::Last(bytes)) => (bytes, true),
                None => return,
            },
            Some(bytes) = replies.recv() => (bytes, false),
        };
        if socket.write_all(&bytes).await.is_err() || last {
            return;
        }
    }
}
