//! The first bytes of a connection: are they TLS, and for which name? Compared with what the program has said elsewhere.

use std::time::Duration;

use agentos_dialer::HostPort;
use agentos_protocol::egress::Refusal;
use tokio::io::AsyncRead;

use super::{
    client_hello::{self, ClientHello, Progress},
    guest::Connection,
    stop::Stop,
    target,
    wire::Reader,
};

/// From the first byte of a hello to its last. It fits into two packets.
const HELLO: Duration = Duration::from_secs(10);
/// Content type of a handshake; no other protocol of note begins with it.
const TLS_HANDSHAKE: u8 = 22;

pub(super) enum First {
    Tls(ClientHello),
    Other,
    /// The program has closed its side without a word.
    Nothing,
}

/// Reads until it is known what this is. The bytes stay in the buffer.
pub(super) async fn first(
    connection: &Connection,
    reader: &mut Reader<'_, impl AsyncRead + Unpin>,
) -> Result<First, Stop> {
    if !connection.word(reader.has_some()).await? {
        return Ok(First::Nothing);
    }
    connection.activity.touch();
    if reader.buffer.first() != Some(&TLS_HANDSHAKE) {
        return Ok(First::Other);
    }
    let hello = async {
        loop {
            match client_hello::parse(reader.buffer) {
                Progress::Complete(hello) => return Ok(First::Tls(hello)),
                Progress::Malformed => return Err(Stop::refused(Refusal::NotUnderstood)),
                Progress::Incomplete(needed) => {
                    while reader.buffer.len() < needed {
                        if reader.more().await? == 0 {
                            return Err(Stop::refused(Refusal::NotUnderstood));
                        }
                    }
                }
            }
        }
    };
    connection.within(HELLO, hello).await
}

/// The name that a hello asks for.
pub(super) fn server_name(hello: &ClientHello, port: u16) -> Result<HostPort, Stop> {
    let Some(name) = &hello.server_name else { return Err(Refusal::NoServerName.into()) };
    if hello.is_hidden {
        return Err(Stop::refused_for(Refusal::HiddenServerName, name));
    }
    target::named(name, port).map_err(|reason| Stop::refused_for(reason, name))
}

/// Whether a hello asks for `target` and nothing else. On other ports than that of HTTPS a hello may name nobody: many
/// clients of databases do not, and the target is known from elsewhere.
pub(super) fn check_name(hello: &ClientHello, target: &HostPort, is_name_needed: bool) -> Result<(), Stop> {
    if hello.server_name.is_none() && !hello.is_hidden && !is_name_needed {
        return Ok(());
    }
    let named = server_name(hello, target.port()).map_err(|stop| stop.naming(|| target.to_string()))?;
    if named == *target { Ok(()) } else { Err(Stop::refused_for(Refusal::NamesDiffer, target.to_string())) }
}
