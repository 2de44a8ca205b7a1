//! One life of a worker on its socket: handshake, then frames until the kernel shuts down or is gone.

use std::{ops::ControlFlow, sync::Arc};

use agentos_protocol::{
    KernelFrame, PROTOCOL_VERSION, WorkerFrame,
    wire::{self, FrameBuffer},
};
use agentos_types::{Code, Fault, Result};
use tokio::{
    io::AsyncReadExt,
    net::{UnixStream, unix::OwnedReadHalf},
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    context::Assignment,
    link::{self, Link},
    tasks::{Handler, Tasks, usable},
};

const READ_BYTES: usize = 64 * 1024;

pub async fn serve(stream: UnixStream, handler: Handler) -> Result<()> {
    let (reading, writing) = stream.into_split();
    let (link, outbox) = Link::new();
    let link = Arc::new(link);
    let (stop_writer, writer_stopped) = watch::channel(false);
    let writer = tokio::spawn(link::write(writing, outbox, writer_stopped));
    let tasks = Tasks::new(handler, link.clone());
    let session = Session { frames: Frames::new(reading), tasks, link: link.clone(), exit_at: None };
    // Ends with all handlers dropped, whatever they were doing.
    let outcome = session.run().await;
    link.close();
    stop_writer.send_replace(true);
    // The writer does not panic, and if it did there would be nothing left to send.
    let _ = writer.await;
    outcome
}

struct Session {
    frames: Frames,
    tasks: Tasks,
    link: Arc<Link>,
    /// Set by `shutdown`: no new work, and the end whatever still runs.
    exit_at: Option<Instant>,
}

impl Session {
    async fn run(mut self) -> Result<()> {
        self.shake_hands().await?;
        loop {
            let exit_at = self.exit_at;
            tokio::select! {
                frame = self.frames.next() => match frame? {
                    Some(frame) => if self.obey(frame)?.is_break() { return Ok(()) },
                    None => return Ok(()),
                },
                () = self.tasks.reap() => {}
                () = sleep_until(exit_at.unwrap_or_else(Instant::now)), if exit_at.is_some() => return Ok(()),
            }
            if self.exit_at.is_some() && self.tasks.is_empty() {
                return Ok(());
            }
        }
    }

    async fn shake_hands(&mut self) -> Result<()> {
        let sdk = concat!("agentos-sdk/", env!("CARGO_PKG_VERSION")).to_owned();
        self.link.send(&WorkerFrame::Hello { protocol: PROTOCOL_VERSION, sdk }).await?;
        match self.frames.next().await? {
            Some(KernelFrame::Welcome { protocol: PROTOCOL_VERSION, .. }) => {
                self.link.send(&WorkerFrame::Ready {}).await
            }
            Some(KernelFrame::Welcome { protocol, .. }) => Err(Fault::new(
                Code::PROTOCOL_VERSION,
                format!("the kernel speaks protocol {protocol}, this SDK {PROTOCOL_VERSION}"),
            )),
            Some(KernelFrame::Fatal { code, message }) => Err(Fault::new(code, message)),
            Some(_) => Err(Fault::new(Code::PROTOCOL_ORDER, "the kernel's first frame is not 'welcome'")),
            None => Err(Fault::new(Code::PROTOCOL_ORDER, "the kernel closed the socket before 'welcome'")),
        }
    }

    /// Never waits: while this returns at once, pings are answered.
    fn obey(&mut self, frame: KernelFrame) -> Result<ControlFlow<()>> {
        match frame {
            KernelFrame::Ping { n } => self.link.pong(n)?,
            KernelFrame::Reply { id, outcome } => self.link.resolve(id, outcome),
            // After `shutdown` nothing is begun; the kernel hands the task to the next worker.
            KernelFrame::Task { .. } if self.exit_at.is_some() => {}
            KernelFrame::Task { task, input, attempt, deadline_at, traceparent } => {
                self.tasks.start(Assignment { task, attempt, deadline_at, traceparent }, input)?;
            }
            KernelFrame::Cancel { task, grace_ms } => self.tasks.cancel(&task, grace_ms),
            KernelFrame::Shutdown { grace_ms } => {
                self.tasks.finish_all();
                self.exit_at = Some(Instant::now() + usable(grace_ms));
                if self.tasks.is_empty() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            KernelFrame::Fatal { code, message } => return Err(Fault::new(code, message)),
            KernelFrame::Welcome { .. } => {
                return Err(Fault::new(Code::PROTOCOL_ORDER, "the kernel said 'welcome' twice"));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The receiving side of the socket, frame by frame.
struct Frames {
    socket: OwnedReadHalf,
    buffer: FrameBuffer,
    chunk: Box<[u8]>,
}

impl Frames {
    fn new(socket: OwnedReadHalf) -> Self {
        Self { socket, buffer: FrameBuffer::default(), chunk: vec![0; READ_BYTES].into() }
    }

    /// `None` when the kernel is gone, even in the middle of a frame. Cancel-safe: bytes stay in the buffer.
    async fn next(&mut self) -> Result<Option<KernelFrame>> {
        loop {
            if let Some(payload) = self.buffer.next_payload()? {
                return wire::decode(payload).map(Some);
            }
            let count = match self.socket.read(&mut self.chunk).await {
                Ok(count) => count,
                // A unix socket reports this when the peer closes with our frames unread.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
                Err(error) => return Err(Fault::internal(error)),
            };
            match self.chunk.get(..count) {
                Some(bytes) if !bytes.is_empty() => self.buffer.extend(bytes),
                _ => return Ok(None),
            }
        }
    }
}
