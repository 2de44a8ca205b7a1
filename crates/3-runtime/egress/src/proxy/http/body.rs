//! Bodies on their way through: read by the framing that was declared, written by one of our own, so that nothing of theirs
//! (extensions of chunks, trailers, odd numbers) reaches the other side.
//!
//! What counts against the limits is what crosses the way to the target, framing and all: what comes from there as it is
//! read, what goes there as it is written.

use agentos_protocol::egress::Refusal;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    super::{
        grant::{Grant, Way},
        guest::Connection,
        stop::Stop,
        wire::Reader,
    },
    head::{Framing, read_field},
};

/// Size of a chunk with its extensions, in one line. Nobody uses extensions.
const CHUNK_LINE_BYTES_MAX: usize = 256;
const CHUNK_DIGITS_MAX: usize = 8;
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Its size, of at most 16 digits, and two line ends.
const CHUNK_AROUND_BYTES: usize = 20;
const TRAILERS_BYTES_MAX: usize = 8 * 1024;

/// One body, from one side to the other.
pub(super) struct Carrier<'a> {
    pub connection: &'a Connection,
    pub grant: &'a Grant,
    pub way: Way,
    /// Written in chunks; otherwise as it is.
    pub is_chunked_out: bool,
}

/// Where a chunked body stands.
enum Line {
    Size(u64),
    Incomplete,
}

impl Carrier<'_> {
    pub async fn carry(
        &self,
        from: &mut Reader<'_, impl AsyncRead + Unpin>,
        to: &mut (impl AsyncWrite + Unpin),
        framing: Framing,
    ) -> Result<(), Stop> {
        match framing {
            Framing::None => {}
            Framing::Length(length) => self.exactly(from, to, length).await?,
            Framing::Chunked => loop {
                let size = self.chunk_size(from).await?;
                if size == 0 {
                    self.skip_trailers(from).await?;
                    break;
                }
                self.exactly(from, to, size).await?;
                self.expect_line_end(from).await?;
            },
            Framing::UntilClose => {
                while self.has_some(from).await? {
                    let piece = from.buffer.split();
                    self.write(to, &piece).await?;
                }
            }
        }
        if self.is_chunked_out && framing != Framing::None {
            self.charge_written(LAST_CHUNK.len()).await?;
            to.write_all(LAST_CHUNK).await.map_err(|_| Stop::Stuck)?;
        }
        to.flush().await.map_err(|_| Stop::Stuck)
    }

    async fn exactly(
        &self,
        from: &mut Reader<'_, impl AsyncRead + Unpin>,
        to: &mut (impl AsyncWrite + Unpin),
        length: u64,
    ) -> Result<(), Stop> {
        let mut left = length;
        while left > 0 {
            if !self.has_some(from).await? {
                return Err(Stop::Broken);
            }
            let ready = from.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let piece = from.buffer.split_to(ready);
            left -= ready as u64;
            self.write(to, &piece).await?;
        }
        Ok(())
    }

    async fn write(&self, to: &mut (impl AsyncWrite + Unpin), piece: &[u8]) -> Result<(), Stop> {
        let mut chunk = BytesMut::new();
        let bytes = if self.is_chunked_out {
            chunk.reserve(piece.len() + CHUNK_AROUND_BYTES);
            chunk.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            &chunk
        } else {
            piece
        };
        self.charge_written(bytes.len()).await?;
        let written = async {
            to.write_all(bytes).await?;
            // TLS keeps what it is given until it is told; a stream of events must not wait for its next one.
            to.flush().await
        };
        written.await.map_err(|_| Stop::Stuck)?;
        self.connection.activity.touch();
        Ok(())
    }

    async fn charge_written(&self, bytes: usize) -> Result<(), Stop> {
        if self.way == Way::Out { self.connection.carry(self.grant, Way::Out, bytes).await } else { Ok(()) }
    }

    /// Reads some more into the buffer; 0 at the end of the stream.
    pub async fn more(&self, from: &mut Reader<'_, impl AsyncRead + Unpin>) -> Result<usize, Stop> {
        let count = from.more().await?;
        if self.way == Way::In {
            self.connection.carry(self.grant, Way::In, count).await?;
        }
        Ok(count)
    }

    async fn has_some(&self, from: &mut Reader<'_, impl AsyncRead + Unpin>) -> Result<bool, Stop> {
        Ok(!from.buffer.is_empty() || self.more(from).await? > 0)
    }

    async fn chunk_size(&self, from: &mut Reader<'_, impl AsyncRead + Unpin>) -> Result<u64, Stop> {
        loop {
            match read_chunk_line(from.buffer)? {
                Line::Size(size) => return Ok(size),
                Line::Incomplete if self.more(from).await? == 0 => return Err(Stop::Broken),
                Line::Incomplete => {}
            }
        }
    }

    async fn expect_line_end(&self, from: &mut Reader<'_, impl AsyncRead + Unpin>) -> Result<(), Stop> {
        while from.buffer.len() < 2 {
            if self.more(from).await? == 0 {
                return Err(Stop::Broken);
            }
        }
        if !from.buffer.starts_with(b"\r\n") {
            return Err(Refusal::Smuggling.into());
        }
        from.buffer.advance(2);
        Ok(())
    }

    /// Trailers are read, have to be well formed, and are dropped: what is in them was asked for by nobody.
    async fn skip_trailers(&self, from: &mut Reader<'_, impl AsyncRead + Unpin>) -> Result<(), Stop> {
        let mut skipped = 0;
        loop {
            let Some(at) = from.buffer.windows(2).position(|window| window == b"\r\n") else {
                if from.buffer.len() + skipped > TRAILERS_BYTES_MAX {
                    return Err(Refusal::Smuggling.into());
                }
                if self.more(from).await? == 0 {
                    return Err(Stop::Broken);
                }
                continue;
            };
            let line = from.buffer.split_to(at + 2);
            skipped += line.len();
            if at == 0 {
                return Ok(());
            }
            let line = line.get(..at).unwrap_or_default();
            if skipped > TRAILERS_BYTES_MAX || line.contains(&b'\n') || read_field(line).is_err() {
                return Err(Refusal::Smuggling.into());
            }
        }
    }
}

/// Takes the line with the size of the next chunk from the front of the buffer.
fn read_chunk_line(buffer: &mut BytesMut) -> Result<Line, Stop> {
    let window = buffer.get(..buffer.len().min(CHUNK_LINE_BYTES_MAX)).unwrap_or_default();
    let Some(at) = window.iter().position(|byte| *byte == b'\n') else {
        let is_too_long = window.len() == CHUNK_LINE_BYTES_MAX;
        return if is_too_long { Err(Refusal::Smuggling.into()) } else { Ok(Line::Incomplete) };
    };
    let size = window.get(..at).and_then(chunk_size).ok_or(Refusal::Smuggling)?;
    buffer.advance(at + 1);
    Ok(Line::Size(size))
}

/// `1a3` or `1a3;name=value`, with its carriage return. No white space: readers differ on it.
pub fn chunk_size(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\r")?;
    let digits = line.split(|byte| *byte == b';').next()?;
    let extension = line.get(digits.len()..)?;
    let is_number = (1..=CHUNK_DIGITS_MAX).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    if !is_number || !extension.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
