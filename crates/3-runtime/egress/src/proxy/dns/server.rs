//! Answers by datagram and by stream. An answer comes from the address that was asked, whichever that was: in a sandbox
//! every address leads here.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr, UdpSocket as StdUdpSocket},
    sync::Arc,
    time::Duration,
};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use rustix::net::sockopt::set_ip_freebind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpStream, UdpSocket},
};

use super::{
    super::{
        guest::{Connection, Guest, Outside},
        stop::Stop,
        target,
    },
    message::{Kind, Outcome, Question, parse},
};

/// Room for one batch of what the kernel may put together. What does not fit is asked again.
const DATAGRAM_BYTES: usize = 4 * 1024;
/// A program that asks by stream may keep it open for its next question.
const STREAM_QUESTIONS_MAX: usize = 1_000;
/// An answer that takes longer is no use: resolvers ask again after five seconds.
const ANSWER: Duration = Duration::from_secs(30);

/// RFC 9460: where else and how a host can be reached. There is one way.
const SVCB: u16 = 64;
const HTTPS: u16 = 65;

struct Datagrams {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Until the sandbox ends, which its token tells.
pub(in super::super) async fn serve_datagrams(
    socket: StdUdpSocket,
    guest: Arc<Guest>,
    outside: Arc<Outside>,
) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // Addresses inside are all local by a route, and by that alone: the kernel lets us answer from them when it is told so.
    set_ip_freebind(&socket, true)?;
    let state = UdpSocketState::new((&socket).into())?;
    let datagrams = Arc::new(Datagrams { socket: UdpSocket::from_std(socket)?, state });
    let mut buffers = vec![[0_u8; DATAGRAM_BYTES]; BATCH_SIZE];
    loop {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let count = {
            let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            datagrams.receive(&mut slices, &mut metas).await?
        };
        for (buffer, meta) in buffers.iter().zip(&metas).take(count) {
            let received = buffer.get(..meta.len).unwrap_or_default();
            for question in received.chunks(meta.stride.max(1)) {
                // Without a turn the datagram is dropped, as a busy name server does.
                let Ok(turn) = Arc::clone(&guest.lookups).try_acquire_owned() else { continue };
                let (datagrams, question, meta) = (Arc::clone(&datagrams), question.to_vec(), *meta);
                let (guest, outside) = (Arc::clone(&guest), Arc::clone(&outside));
                tokio::spawn(async move {
                    let ended = guest.ended.clone();
                    let work = async {
                        let connection = Connection::new(&guest, &outside);
                        if let Some(answer) = reply(&connection, &question).await {
                            datagrams.send(meta.addr, meta.dst_ip, &answer).await;
                        }
                    };
                    tokio::select! {
                        () = ended.cancelled() => {}
                        _ = tokio::time::timeout(ANSWER, work) => {}
                    }
                    drop(turn);
                });
            }
        }
    }
}

impl Datagrams {
    async fn receive(&self, slices: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> io::Result<usize> {
        loop {
            self.socket.readable().await?;
            let received =
                self.socket.try_io(Interest::READABLE, || self.state.recv((&self.socket).into(), slices, metas));
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received,
            }
        }
    }

    /// An answer that cannot be sent is lost, as answers by datagram are.
    async fn send(&self, to: SocketAddr, from: Option<IpAddr>, answer: &[u8]) {
        let transmit = Transmit { destination: to, ecn: None, contents: answer, segment_size: None, src_ip: from };
        loop {
            if self.socket.writable().await.is_err() {
                return;
            }
            let sent = self.socket.try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), &transmit));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return tracing::debug!(%error, "an answer of the name server was not sent"),
                Ok(()) => return,
            }
        }
    }
}

/// The same by stream: each message with its length before it.
pub(in super::super) async fn serve_stream(connection: &Connection, mut stream: TcpStream) -> Result<(), Stop> {
    for _ in 0..STREAM_QUESTIONS_MAX {
        let length = match connection.word(stream.read_u16()).await {
            Ok(length) => length,
            Err(Stop::Broken) => return Ok(()),
            Err(stop) => return Err(stop),
        };
        let mut question = vec![0; usize::from(length)];
        connection.word(stream.read_exact(&mut question)).await?;
        connection.activity.touch();
        let Some(answer) = reply(connection, &question).await else { return Ok(()) };
        let mut message = u16::try_from(answer.len()).unwrap_or(0).to_be_bytes().to_vec();
        message.extend_from_slice(&answer);
        stream.write_all(&message).await?;
        connection.activity.touch();
    }
    Ok(())
}

async fn reply(connection: &Connection, bytes: &[u8]) -> Option<Vec<u8>> {
    match parse(bytes) {
        Ok(question) => {
            let outcome = outcome(connection, &question).await;
            Some(question.answer(outcome))
        }
        Err(defect) => defect.answer(),
    }
}

async fn outcome(connection: &Connection, question: &Question) -> Outcome {
    if !question.is_plain() {
        return Outcome::Refused;
    }
    let Ok(target) = target::named(&question.name, 1) else { return Outcome::NoName };
    let name = target.name().unwrap_or_default();
    match question.kind {
        // Not asked for: programs ask for these beside A at once, and that question decides.
        Kind::Aaaa | Kind::Other(SVCB | HTTPS) => Outcome::NoData,
        Kind::Other(_) => {
            if connection.guest.names.has(name) {
                Outcome::NoData
            } else {
                Outcome::NoName
            }
        }
        Kind::A => match connection.ask_name(name).await {
            Ok(address) => address.map_or(Outcome::Failed, Outcome::Address),
            Err(Stop::Denied { .. }) => Outcome::NoName,
            Err(_) => Outcome::Failed,
        },
    }
}
