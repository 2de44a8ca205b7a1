//! The sending side: a bounded queue of encoded frames, a lane for pongs, and the calls that wait for their replies.
//!
//! The reading side never waits for anything here, so a worker whose handlers are stuck in the queue still answers pings.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use agentos_protocol::{WorkerFrame, frame::Outcome, wire};
use agentos_types::{Code, Fault, Result};
use tokio::{
    io::AsyncWriteExt,
    net::unix::OwnedWriteHalf,
    sync::{Semaphore, mpsc, oneshot, watch},
    time::timeout,
};

/// Frames of at most 4 MiB each; a handler waits when the kernel is that far behind.
const QUEUE_FRAMES: usize = 16;
/// The kernel sends the next ping after the answer to the last, so one would do.
const PONG_FRAMES: usize = 8;
/// Calls that wait for their replies at the same time; more wait in line. Bounds the table below.
const OPEN_CALLS_MAX: usize = 256;
/// What is queued when the session ends is still sent, unless the kernel no longer reads.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Shared by the session and every task context.
pub struct Link {
    frames: mpsc::Sender<Vec<u8>>,
    pongs: mpsc::Sender<Vec<u8>>,
    open_slots: Semaphore,
    open: Mutex<HashMap<u64, oneshot::Sender<Outcome>>>,
    next_id: AtomicU64,
}

/// The other ends of the queues, for [`write`].
pub struct Outbox {
    frames: mpsc::Receiver<Vec<u8>>,
    pongs: mpsc::Receiver<Vec<u8>>,
}

impl Link {
    pub fn new() -> (Self, Outbox) {
        let (frames, frames_out) = mpsc::channel(QUEUE_FRAMES);
        let (pongs, pongs_out) = mpsc::channel(PONG_FRAMES);
        let link = Self {
            frames,
            pongs,
            open_slots: Semaphore::new(OPEN_CALLS_MAX),
            open: Mutex::default(),
            next_id: AtomicU64::new(1),
        };
        (link, Outbox { frames: frames_out, pongs: pongs_out })
    }

    /// Waits for room in the queue. A frame above the limit is refused here, before the kernel ends the worker for it.
    pub async fn send(&self, frame: &WorkerFrame) -> Result<()> {
        self.frames.send(wire::encode(frame)?).await.map_err(|_| closed())
    }

    /// Never waits. A full lane means that the kernel does not read, and then the ping is lost either way.
    pub fn pong(&self, n: u64) -> Result<()> {
        let _ = self.pongs.try_send(wire::encode(&WorkerFrame::Pong { n })?);
        Ok(())
    }

    /// Sends a call and waits for its reply. Dropping the future forgets the call; a late reply is then ignored.
    pub async fn call(&self, frame: impl FnOnce(u64) -> WorkerFrame) -> Result<Outcome> {
        let _slot = self.open_slots.acquire().await.map_err(|_| closed())?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let _forget = Forget { link: self, id };
        self.table().insert(id, reply);
        self.send(&frame(id)).await?;
        answer.await.map_err(|_| closed())
    }

    /// Hands a reply to its call. An unknown id belongs to a call that nobody waits for any more.
    pub fn resolve(&self, id: u64, outcome: Outcome) {
        if let Some(reply) = self.table().remove(&id) {
            let _ = reply.send(outcome);
        }
    }

    /// Fails every open call and all later ones.
    pub fn close(&self) {
        self.open_slots.close();
        self.table().clear();
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Outcome>>> {
        // No code can panic between lock and unlock; a poisoned table would be whole all the same.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Forget<'a> {
    link: &'a Link,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.link.table().remove(&self.id);
    }
}

/// Writes until `stop` is set or dropped, then sends what is queued. Pongs overtake everything else.
pub async fn write(mut socket: OwnedWriteHalf, mut outbox: Outbox, mut stop: watch::Receiver<bool>) {
    loop {
        let bytes = tokio::select! {
            biased;
            Some(bytes) = outbox.pongs.recv() => bytes,
            Some(bytes) = outbox.frames.recv() => bytes,
            // Also when the session is gone without a word.
            _ = stop.wait_for(|stopped| *stopped) => break,
            else => break,
        };
        // The reader sees the end of the socket as well and ends the session.
        if socket.write_all(&bytes).await.is_err() {
            return;
        }
    }
    outbox.frames.close();
    let flush = async {
        while let Some(bytes) = outbox.frames.recv().await {
            if socket.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let _ = timeout(FLUSH_TIMEOUT, flush).await;
}

fn closed() -> Fault {
    Fault::new(Code::WORKER_EXITED, "the session with the kernel has ended")
}
