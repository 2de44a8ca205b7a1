//! One granted request and its answer. Both bodies flow at the same time, each at the speed of its slower side.

use std::sync::atomic::{AtomicBool, Ordering};

use agentos_protocol::egress::WishEnd;
use agentos_types::{Code, Fault};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{
    super::{
        grant::{Grant, Way},
        guest::Connection,
        stop::Stop,
        tunnel,
        wire::{Reader, Stream, Wire},
    },
    Target,
    body::Carrier,
    fields,
    head::{self, Framing, RequestHead, ResponseHead, Scan, Version},
    upstream::{self, Kept},
};

/// Answers before the final one, such as 100 and 103.
const INTERIM_MAX: usize = 8;

/// What becomes of the program's connection.
pub(super) enum After {
    GoOn,
    Close,
}

/// The end of an answer.
struct Answered {
    status: u16,
    is_upstream_kept: bool,
    is_client_kept: bool,
    is_websocket: bool,
}

pub(super) async fn run(
    connection: &Connection,
    client: &mut Wire<impl Stream>,
    head: &RequestHead,
    target: &Target,
    grant: &Grant,
    kept: &mut Option<Kept>,
    is_answered: &mut bool,
) -> Result<After, Stop> {
    // A secret goes nowhere but into TLS, whatever was decided, and nothing that is no header goes anywhere.
    if !grant.headers.is_empty() && (!target.is_tls || !fields::are_headers(&grant.headers)) {
        tracing::error!(host = %target.host, "a credential for what cannot carry it safely was not used");
        let message = "the credential of this host cannot be put into this request".to_owned();
        return Err(Stop::Denied { code: Code::CONNECT_FAILED.to_string(), message });
    }
    let mut server = upstream::reach(connection, target, grant, kept).await?;
    let text = request_text(head, target, grant);
    let exchange = Exchange { connection, grant, head, is_sent: AtomicBool::new(false) };
    let (answered, is_sent) = exchange.both_ways(client, &mut server, &text, is_answered).await?;
    if answered.is_websocket {
        // What came behind the head of the answer was charged with it.
        client.stream.write_all(&server.wire.buffer.split()).await?;
        client.stream.flush().await?;
        tunnel::carry(connection, grant, client, &mut server.wire).await?;
        grant.end(WishEnd::Done { status: Some(answered.status) });
        return Ok(After::Close);
    }
    grant.end(WishEnd::Done { status: Some(answered.status) });
    if answered.is_upstream_kept && is_sent {
        *kept = Some(server);
    }
    Ok(if answered.is_client_kept && is_sent { After::GoOn } else { After::Close })
}

/// The head as the target gets it: every line of it is ours. Wiped when it was sent.
fn request_text(head: &RequestHead, target: &Target, grant: &Grant) -> Zeroizing<Vec<u8>> {
    // With room for all, so that no copy of a secret stays behind when it grows.
    let room = if grant.headers.is_empty() { 1024 } else { 2 * head::REQUEST_BYTES_MAX };
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    text.extend_from_slice(format!("{} {} HTTP/1.1\r\n", head.method, target.path_and_query).as_bytes());
    fields::write("Host", target.host_value().as_bytes(), &mut text);
    fields::of_request(head, &grant.headers, &mut text);
    match head.framing {
        Framing::Length(length) => fields::write("Content-Length", length.to_string().as_bytes(), &mut text),
        Framing::Chunked => fields::write("Transfer-Encoding", b"chunked", &mut text),
        Framing::None | Framing::UntilClose => {}
    }
    if head.wants_websocket() {
        fields::write("Connection", b"Upgrade", &mut text);
        fields::write("Upgrade", b"websocket", &mut text);
    }
    text.extend_from_slice(b"\r\n");
    text
}

struct Exchange<'a> {
    connection: &'a Connection,
    grant: &'a Grant,
    head: &'a RequestHead,
    /// The whole request has left.
    is_sent: AtomicBool,
}

impl Exchange<'_> {
    /// The answer, and whether the whole request was sent: an answer may come before that.
    async fn both_ways(
        &self,
        client: &mut Wire<impl Stream>,
        server: &mut Kept,
        text: &[u8],
        is_answered: &mut bool,
    ) -> Result<(Answered, bool), Stop> {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.wire.split();
        let send = async {
            self.connection.carry(self.grant, Way::Out, text.len()).await?;
            to_server.write_all(text).await.map_err(|_| Stop::Stuck)?;
            to_server.flush().await.map_err(|_| Stop::Stuck)?;
            let carrier = self.carrier(Way::Out, self.head.framing == Framing::Chunked);
            carrier.carry(&mut from_client, &mut to_server, self.head.framing).await?;
            self.is_sent.store(true, Ordering::Relaxed);
            Ok(())
        };
        let receive = self.receive(&mut from_server, &mut to_client, is_answered);
        tokio::pin!(send, receive);
        tokio::select! {
            answered = &mut receive => Ok((answered?, false)),
            sent = &mut send => match sent {
                Ok(()) => Ok((receive.await?, true)),
                // Perhaps the target has stopped reading because it has answered.
                Err(Stop::Stuck) => Ok((receive.await?, false)),
                Err(stop) => Err(stop),
            },
        }
    }

    fn carrier(&self, way: Way, is_chunked_out: bool) -> Carrier<'_> {
        Carrier { connection: self.connection, grant: self.grant, way, is_chunked_out }
    }

    async fn receive(
        &self,
        from: &mut Reader<'_, impl AsyncRead + Unpin>,
        to: &mut (impl AsyncWrite + Unpin),
        is_answered: &mut bool,
    ) -> Result<Answered, Stop> {
        for _ in 0..INTERIM_MAX {
            let response = self.response_head(from).await?;
            let is_websocket = self.head.wants_websocket() && response.is_websocket();
            if response.status == 101 && !is_websocket {
                return Err(malformed("it changes the protocol without being asked"));
            }
            if response.status < 200 && !is_websocket {
                if self.head.version == Version::Http11 {
                    self.write_head(to, &interim_text(&response)).await?;
                }
                continue;
            }
            let framing =
                response.framing(&self.head.method).map_err(|_| malformed("its length can be read in two ways"))?;
            let is_whole = self.is_sent.load(Ordering::Relaxed) && framing != Framing::UntilClose;
            let is_client_kept = self.head.keeps_alive() && is_whole && !is_websocket;
            let is_chunked_out = framing == Framing::Chunked && self.head.version == Version::Http11;
            let text = response_text(&response, framing, is_chunked_out, is_client_kept, is_websocket);
            *is_answered = true;
            self.write_head(to, &text).await?;
            self.carrier(Way::In, is_chunked_out).carry(from, to, framing).await.map_err(|stop| match stop {
                // The program is not to blame for the framing of the answer.
                Stop::Refused { reason: agentos_protocol::egress::Refusal::Smuggling, .. } => Stop::Broken,
                other => other,
            })?;
            let is_upstream_kept = response.keeps_alive() && framing != Framing::UntilClose;
            // HTTP/1.0 knows the end of a body that was chunked by the end of the connection.
            let is_client_kept = is_client_kept && (framing != Framing::Chunked || is_chunked_out);
            return Ok(Answered { status: response.status, is_upstream_kept, is_client_kept, is_websocket });
        }
        Err(malformed("it never comes to its end"))
    }

    async fn response_head(&self, from: &mut Reader<'_, impl AsyncRead + Unpin>) -> Result<ResponseHead, Stop> {
        let mut seen = 0;
        loop {
            match head::scan(from.buffer, seen) {
                Scan::End(end) if end <= head::RESPONSE_BYTES_MAX => {
                    let bytes = from.buffer.split_to(end);
                    self.connection.activity.touch();
                    return ResponseHead::parse(&bytes).map_err(|_| malformed("its head is not valid"));
                }
                Scan::Incomplete if from.buffer.len() < head::RESPONSE_BYTES_MAX => {}
                Scan::Hopeless(_) => return Err(malformed("its head is not valid")),
                Scan::End(_) | Scan::Incomplete => return Err(malformed("its head is too large")),
            }
            seen = from.buffer.len();
            if self.carrier(Way::In, false).more(from).await? == 0 {
                return Err(Stop::Broken);
            }
        }
    }

    async fn write_head(&self, to: &mut (impl AsyncWrite + Unpin), text: &[u8]) -> Result<(), Stop> {
        to.write_all(text).await?;
        to.flush().await?;
        self.connection.activity.touch();
        Ok(())
    }
}

fn interim_text(response: &ResponseHead) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {} {}\r\n", response.status, response.reason).into_bytes();
    fields::of_response(response, &mut text);
    text.extend_from_slice(b"\r\n");
    text
}

fn response_text(
    response: &ResponseHead,
    framing: Framing,
    is_chunked_out: bool,
    is_client_kept: bool,
    is_websocket: bool,
) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {} {}\r\n", response.status, response.reason).into_bytes();
    fields::of_response(response, &mut text);
    match framing {
        Framing::Length(length) => fields::write("Content-Length", length.to_string().as_bytes(), &mut text),
        Framing::Chunked if is_chunked_out => fields::write("Transfer-Encoding", b"chunked", &mut text),
        // What HEAD and 304 tell about a body that is not there is kept for who asked.
        Framing::None => {
            let told = response.fields.iter().find(|field| field.is("content-length"));
            if let Some(field) = told.filter(|_| response.status != 204 && !is_websocket) {
                fields::write("Content-Length", &field.value, &mut text);
            }
        }
        Framing::Chunked | Framing::UntilClose => {}
    }
    if is_websocket {
        fields::write("Connection", b"Upgrade", &mut text);
        fields::write("Upgrade", b"websocket", &mut text);
    } else if !is_client_kept {
        fields::write("Connection", b"close", &mut text);
    }
    text.extend_from_slice(b"\r\n");
    text
}

fn malformed(reason: &str) -> Stop {
    let fault = Fault::new(Code::RESPONSE_MALFORMED, format!("the answer of the target is not valid HTTP: {reason}"));
    Stop::Unreachable { fault: Box::new(fault), address: None }
}
