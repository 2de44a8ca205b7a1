//! The connections: reads a request, does what the script says, and notes what became of the client.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{Act, Asked, Inner, reply::Reply};

/// Pieces that lie ready; what does not fit waits for the client.
const PIECES_AHEAD: usize = 1;

/// The connection is to be closed as it is.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the script cuts the connection")
    }
}

impl std::error::Error for Cut {}

type Piece = Result<Bytes, Cut>;

pub async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    let mut number = 0;
    while let Ok((stream, _)) = listener.accept().await {
        // Small pieces must not wait for each other.
        let _ = stream.set_nodelay(true);
        tokio::spawn(serve(stream, number, inner.clone()));
        number += 1;
    }
}

async fn serve(stream: TcpStream, connection: usize, inner: Arc<Inner>) {
    let mut closed = inner.closed.subscribe();
    let service = service_fn(|request| answer(request, connection, inner.clone()));
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = serving => {}
        _ = closed.wait_for(|closed| *closed) => {}
    }
}

/// Notes that the client is gone, unless it had everything. Hyper drops the answer, wherever it is, when the client goes.
struct Client {
    inner: Arc<Inner>,
    number: usize,
    is_done: bool,
}

impl Drop for Client {
    fn drop(&mut self) {
        let is_done = self.is_done;
        self.inner.note(self.number, |asked| match is_done {
            true => asked.is_finished = true,
            false => asked.is_abandoned = true,
        });
    }
}

struct Answer {
    pieces: mpsc::Receiver<Piece>,
    client: Client,
    /// Length of a body that is whole: a client may stop reading at its last byte.
    left: Option<usize>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let piece = std::task::ready!(self.pieces.poll_recv(context));
        let (number, ended) = (self.client.number, !matches!(piece, Some(Ok(_))));
        if let Some(Ok(bytes)) = &piece {
            self.client.inner.note(number, |asked| asked.pieces_sent += 1);
            self.left = self.left.map(|left| left.saturating_sub(bytes.len()));
        }
        self.client.is_done |= ended || self.left == Some(0);
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }
}

async fn answer(request: Request<Incoming>, connection: usize, inner: Arc<Inner>) -> Result<Response<Answer>, Cut> {
    let (head, body) = request.into_parts();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let asked = Asked {
        number: 0,
        method: head.method.to_string(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: body.collect().await.map_err(|_| Cut)?.to_bytes().to_vec(),
        connection,
        pieces_sent: 0,
        is_finished: false,
        is_abandoned: false,
    };
    let (number, act) = inner.take_in(asked.clone());
    let mut client = Client { inner: inner.clone(), number, is_done: false };
    if act == Act::Hangup {
        client.is_done = true;
        return Err(Cut);
    }
    let mut released = inner.released.subscribe();
    released.mark_unchanged();
    let reply = Reply::to(&asked, &act);
    if matches!(act, Act::Hold { after: 0 } | Act::Step { after: 0 }) {
        // Hyper drops this future when the client goes away.
        let _ = released.changed().await;
    }
    if act == (Act::Cut { after: 0 }) {
        client.is_done = true;
        return Err(Cut);
    }
    inner.note(number, |asked| asked.pieces_sent += 1);
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    let length = (!reply.is_stream).then(|| reply.pieces.iter().map(Vec::len).sum::<usize>());
    let mut response = Response::builder().status(reply.status).header(CONTENT_TYPE, reply.kind);
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    if let Some(length) = length {
        response = response.header("content-length", length);
    }
    tokio::spawn(send(reply, act, sender, released));
    response.body(Answer { pieces, client, left: length }).map_err(|_| Cut)
}

/// Ends when the receiver is dropped, which it is with the client.
async fn send(
    reply: Reply,
    act: Act,
    sender: mpsc::Sender<Piece>,
    mut released: tokio::sync::watch::Receiver<u64>,
) -> Option<Infallible> {
    for (index, piece) in reply.pieces.into_iter().enumerate() {
        match act {
            Act::Hold { after } if index == after && after > 0 => {
                tokio::select! {
                    _ = released.changed() => {}
                    () = sender.closed() => return None,
                }
            }
            Act::Step { after } if index >= after && index > 0 => {
                tokio::select! {
                    _ = released.changed() => {}
                    () = sender.closed() => return None,
                }
            }
            Act::Cut { after } if index >= after.max(1) => {
                let half = piece.len() / 2;
                sender.send(Ok(Bytes::from(piece.into_iter().take(half).collect::<Vec<u8>>()))).await.ok()?;
                sender.send(Err(Cut)).await.ok()?;
                return None;
            }
            _ => {}
        }
        if act == Act::Trickle {
            for byte in piece {
                sender.send(Ok(Bytes::from(vec![byte]))).await.ok()?;
            }
        } else {
            sender.send(Ok(Bytes::from(piece))).await.ok()?;
        }
    }
    None
}
