//! The connection to the target of requests: dialed for the first, kept for the next ones of the same program to the same
//! target, as long as neither side has said that it is over.

use std::time::Duration;

use agentos_dialer::HostPort;
use agentos_types::{Code, Fault};
use tokio::{io::AsyncReadExt, time::timeout};

use super::{
    super::{
        grant::Grant,
        guest::Connection,
        stop::Stop,
        wire::{Stream, Wire},
    },
    Target,
};

const HANDSHAKE: Duration = Duration::from_secs(15);

/// Of one connection of one program; no other ever gets it.
pub(super) struct Kept {
    pub wire: Wire<Box<dyn Stream>>,
    target: HostPort,
    is_tls: bool,
    private_allowed: bool,
}

/// The kept connection if it fits and lives, otherwise a new one: looked up, filtered and dialed for this grant.
pub(super) async fn reach(
    connection: &Connection,
    target: &Target,
    grant: &Grant,
    kept: &mut Option<Kept>,
) -> Result<Kept, Stop> {
    if let Some(mut known) = kept.take() {
        let fits = known.target == target.host
            && known.is_tls == target.is_tls
            && known.private_allowed == grant.private_allowed;
        if fits && is_quiet(&mut known).await {
            return Ok(known);
        }
    }
    let reached = connection.dial(&target.host, grant).await?;
    let address = reached.address;
    let stream: Box<dyn Stream> = if target.is_tls {
        let _hold = connection.activity.hold();
        let wrapped = timeout(HANDSHAKE, connection.outside.tls.wrap(reached.stream, &target.host)).await;
        let too_slow =
            |_| Err(Fault::new(Code::CONNECT_FAILED, format!("no TLS with {} in {HANDSHAKE:?}", target.host)));
        let wrapped = wrapped.unwrap_or_else(too_slow);
        Box::new(wrapped.map_err(|fault| Stop::Unreachable { fault: Box::new(fault), address: Some(address) })?)
    } else {
        Box::new(reached.stream)
    };
    Ok(Kept {
        wire: Wire::new(stream),
        target: target.host.clone(),
        is_tls: target.is_tls,
        private_allowed: grant.private_allowed,
    })
}

/// Nothing may have come since the last answer: neither the end, nor an answer to a question that nobody asked.
async fn is_quiet(kept: &mut Kept) -> bool {
    let mut byte = [0];
    let is_silent = tokio::select! {
        biased;
        _ = kept.wire.stream.read(&mut byte) => false,
        () = std::future::ready(()) => true,
    };
    is_silent && kept.wire.buffer.is_empty()
}
