//! A stream whose first bytes may have been read already, because somebody had to look at them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, ReadHalf, WriteHalf, split};

/// Read at once where the size is not known.
const PIECE_BYTES: usize = 16 * 1024;

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(super) struct Wire<S> {
    pub stream: S,
    /// Read from the stream and not used yet.
    pub buffer: BytesMut,
}

/// The side of a wire that is read.
pub(super) struct Reader<'a, R> {
    pub stream: R,
    pub buffer: &'a mut BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    pub fn reader(&mut self) -> Reader<'_, &mut S> {
        Reader { stream: &mut self.stream, buffer: &mut self.buffer }
    }

    pub fn split(&mut self) -> (Reader<'_, ReadHalf<&mut S>>, WriteHalf<&mut S>) {
        let (read, write) = split(&mut self.stream);
        (Reader { stream: read, buffer: &mut self.buffer }, write)
    }
}

impl<R: AsyncRead + Unpin> Reader<'_, R> {
    /// Reads some more into the buffer; 0 at the end of the stream.
    pub async fn more(&mut self) -> io::Result<usize> {
        self.buffer.reserve(PIECE_BYTES);
        self.stream.read_buf(self.buffer).await
    }

    /// Waits until there is at least one byte; false at the end of the stream.
    pub async fn has_some(&mut self) -> io::Result<bool> {
        Ok(!self.buffer.is_empty() || self.more().await? > 0)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let ready = self.buffer.len().min(into.remaining());
        into.put_slice(self.buffer.get(..ready).unwrap_or_default());
        self.buffer.advance(ready);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    // Records of TLS go out together: apart, the alert behind the first of them would be left behind at the end.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
