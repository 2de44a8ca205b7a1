//! The pipes of a command: its input is written, both outputs are read to their end and kept up to a bound, all at the same
//! time, so that no program waits for us and none can fill our memory.

use std::{future::Future, os::fd::OwnedFd, time::Duration};

use agentos_protocol::sandbox::Descriptor;
use agentos_types::{Fault, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::{Receiver, Sender},
    sync::Mutex,
    time::timeout,
};

const READ_BYTES: usize = 16 * 1024;

/// The beginning of a stream, and how long all of it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    pub kept: Vec<u8>,
    pub bytes: u64,
}

/// Our ends.
pub(super) struct Pipes {
    stdin: Sender,
    input: Vec<u8>,
    stdout: Receiver,
    stderr: Receiver,
    kept_max: usize,
}

impl Pipes {
    /// And the ends for the sandbox.
    pub(super) fn make(input: Vec<u8>, kept_max: u64) -> Result<(Self, Vec<(Descriptor, OwnedFd)>)> {
        let (stdin_theirs, stdin) = std::io::pipe().map_err(Fault::internal)?;
        let (stdout, stdout_theirs) = std::io::pipe().map_err(Fault::internal)?;
        let (stderr, stderr_theirs) = std::io::pipe().map_err(Fault::internal)?;
        let given = vec![
            (Descriptor::Stdin, stdin_theirs.into()),
            (Descriptor::Stdout, stdout_theirs.into()),
            (Descriptor::Stderr, stderr_theirs.into()),
        ];
        let pipes = Self {
            stdin: Sender::from_owned_fd(stdin.into()).map_err(Fault::internal)?,
            input,
            stdout: Receiver::from_owned_fd(stdout.into()).map_err(Fault::internal)?,
            stderr: Receiver::from_owned_fd(stderr.into()).map_err(Fault::internal)?,
            kept_max: usize::try_from(kept_max).unwrap_or(usize::MAX),
        };
        Ok((pipes, given))
    }

    /// Serves the pipes until `end` and, for what was still in them, a little longer.
    pub(super) async fn carry<T>(
        self,
        end: impl Future<Output = (T, bool)>,
        drain: Duration,
    ) -> (T, bool, (Captured, Captured)) {
        let Self { mut stdin, input, stdout, stderr, kept_max } = self;
        let (out, err) = (Mutex::new(Captured::default()), Mutex::new(Captured::default()));
        let feed = async move {
            // A program need not read its input; its end closes the pipe.
            let _ = stdin.write_all(&input).await;
        };
        let serve = async { tokio::join!(feed, read(stdout, &out, kept_max), read(stderr, &err, kept_max)) };
        tokio::pin!(serve, end);
        let mut is_served = false;
        let (ended, timed_out) = loop {
            tokio::select! {
                ended = &mut end => break ended,
                _ = &mut serve, if !is_served => is_served = true,
            }
        };
        if !is_served {
            // What was written before the end is still in the pipes. Nobody writes any more.
            let _ = timeout(drain, serve.as_mut()).await;
        }
        let taken = (std::mem::take(&mut *out.lock().await), std::mem::take(&mut *err.lock().await));
        (ended, timed_out, taken)
    }
}

async fn read(mut pipe: Receiver, captured: &Mutex<Captured>, kept_max: usize) {
    let mut chunk = vec![0; READ_BYTES];
    // Ends with the pipe.
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        let mut captured = captured.lock().await;
        let room = kept_max.saturating_sub(captured.kept.len()).min(count);
        captured.kept.extend_from_slice(chunk.get(..room).unwrap_or_default());
        captured.bytes = captured.bytes.saturating_add(count as u64);
    }
}
