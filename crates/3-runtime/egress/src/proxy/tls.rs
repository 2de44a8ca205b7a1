//! Transparent TLS on port 443, and TLS that ends here because a credential is put in or models are called.

use std::time::Duration;

use agentos_dialer::HostPort;
use agentos_protocol::egress::{HTTPS_PORT, Refusal};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    gate::{self, First},
    guest::Connection,
    http::{self, Door},
    line::Allowed,
    models,
    stop::Stop,
    tunnel,
    wire::Wire,
};

const HANDSHAKE: Duration = Duration::from_secs(10);
/// A fatal alert "access denied" in a record of its own: programs say so instead of "connection reset".
const ACCESS_DENIED: &[u8] = &[21, 3, 3, 0, 2, 2, 49];

/// Port 443: the name in the hello is the target. `expected` is the name whose address was dialed, if it was one of the pool.
pub(super) async fn capture(
    connection: &Connection,
    mut client: Wire<TcpStream>,
    expected: Option<HostPort>,
) -> Result<(), Stop> {
    let target = match target_of(connection, &mut client, expected).await {
        Ok(Some(target)) => target,
        Ok(None) => return Ok(()),
        Err(stop) => {
            deny(&mut client).await;
            return Err(stop);
        }
    };
    if is_terminated(connection, &target) {
        return terminate(connection, client, &target).await;
    }
    let outcome = match connection.ask_either(tunnel::wish(&target)).await {
        Ok(Allowed::Models(end)) => return models::relay(connection, client, &target, end).await,
        Ok(Allowed::Out(grant)) => tunnel::open(connection, &mut client, &target, grant).await,
        Err(stop) => Err(stop),
    };
    // In the middle of somebody else's TLS there is nothing to be said any more.
    if matches!(outcome, Err(Stop::Denied { .. } | Stop::Unreachable { .. } | Stop::Refused { .. })) {
        deny(&mut client).await;
    }
    outcome.map_err(|stop| stop.naming(|| target.to_string()))
}

async fn target_of(
    connection: &Connection,
    client: &mut Wire<TcpStream>,
    expected: Option<HostPort>,
) -> Result<Option<HostPort>, Stop> {
    match gate::first(connection, &mut client.reader()).await? {
        First::Tls(hello) => {
            let target = gate::server_name(&hello, HTTPS_PORT)?;
            match expected {
                Some(other) if other != target => Err(Stop::refused_for(Refusal::NamesDiffer, other.to_string())),
                _ => Ok(Some(target)),
            }
        }
        First::Other => Err(Refusal::NotUnderstood.into()),
        First::Nothing => Ok(None),
    }
}

pub(super) async fn deny(client: &mut Wire<TcpStream>) {
    let told = async {
        client.stream.write_all(ACCESS_DENIED).await?;
        client.stream.shutdown().await
    };
    let _ = timeout(Duration::from_secs(1), told).await;
}

pub(super) fn is_terminated(connection: &Connection, target: &HostPort) -> bool {
    target.name().is_some_and(|name| connection.guest.terminated.contains(name))
}

/// Answers as the host, reads requests, and sends each on by a connection of our own.
pub(super) async fn terminate(connection: &Connection, client: Wire<TcpStream>, target: &HostPort) -> Result<(), Stop> {
    let stream = Box::pin(handshake(connection, client, target)).await?;
    http::serve_inside(connection, Wire::new(stream), Door::Inside(target.clone())).await
}

pub(super) async fn handshake(
    connection: &Connection,
    client: Wire<TcpStream>,
    target: &HostPort,
) -> Result<TlsStream<Wire<TcpStream>>, Stop> {
    let not_understood = || Stop::refused_for(Refusal::NotUnderstood, target.to_string());
    let authority = connection.guest.authority.as_ref().ok_or_else(not_understood)?;
    let config = authority.config(target.name().unwrap_or_default(), &connection.outside.ambient);
    let config = config.map_err(|fault| {
        tracing::error!(%fault, detail = fault.detail, "no certificate for a host");
        Stop::Broken
    })?;
    let accepted = async {
        // Programs that do not trust the authority end here, and those that speak nothing but HTTP/2: there was no wish.
        TlsAcceptor::from(config).accept(client).into_fallible().await.map_err(|(_, client)| client)
    };
    match connection.within(HANDSHAKE, async { Ok(accepted.await) }).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(mut client)) => {
            // The alert has been written; closing at once would take it with it.
            http::end(&mut client).await;
            Err(not_understood())
        }
        Err(stop) => Err(stop.naming(|| target.to_string())),
    }
}
