//! From a listener to the code that knows what is spoken there. Whose connection it is, the listener says; where it was
//! meant to go, the socket: every address inside leads here.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use agentos_dialer::HostPort;
use agentos_protocol::egress::{DNS_PORT, HTTP_PORT, HTTPS_PORT, PROXY_PORT, Refusal};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};

use super::{
    dns,
    gate::{self, First},
    guest::{Connection, Guest, Outside},
    http::{self, Door},
    names::is_in_pool,
    stop::Stop,
    target, tls, tunnel,
    wire::Wire,
};

/// After a connection that was one too many, and after an accept that failed: a program that floods does not keep us busy.
const PAUSE: Duration = Duration::from_millis(5);
/// Reports of connections that were too many: one tells it.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Until the sandbox ends, which its token tells.
pub(super) async fn serve(listener: TcpListener, port: u16, guest: Arc<Guest>, outside: Arc<Outside>) {
    let mut reported: Option<Instant> = None;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, or the program has gone again.
                tracing::debug!(%error, "accept");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(turns) = take_turns(&guest.connections, &outside.connections) else {
            if reported.is_none_or(|last| last.elapsed() >= REPORT_EVERY) {
                reported = Some(Instant::now());
                outside.line.refuse(guest.id, None, Refusal::ConnectionLimit).await;
            }
            drop(stream);
            sleep(PAUSE).await;
            continue;
        };
        let (guest, outside) = (Arc::clone(&guest), Arc::clone(&outside));
        tokio::spawn(Box::pin(handle(stream, port, guest, outside, turns)));
    }
}

type Turns = (OwnedSemaphorePermit, OwnedSemaphorePermit);

fn take_turns(own: &Arc<Semaphore>, all: &Arc<Semaphore>) -> Option<Turns> {
    Some((Arc::clone(own).try_acquire_owned().ok()?, Arc::clone(all).try_acquire_owned().ok()?))
}

async fn handle(stream: TcpStream, port: u16, guest: Arc<Guest>, outside: Arc<Outside>, turns: Turns) {
    let connection = Connection::new(&guest, &outside);
    let outcome = tokio::select! {
        biased;
        () = guest.ended.cancelled() => Ok(()),
        outcome = Box::pin(speak(&connection, stream, port)) => outcome,
        // Where a wish is granted this is seen there first; here nothing was.
        () = connection.activity.expired_unguarded() => Err(Refusal::TooSlow.into()),
    };
    if let Err(Stop::Refused { reason, target }) = outcome {
        outside.line.refuse(guest.id, target, reason).await;
    }
    drop(turns);
}

async fn speak(connection: &Connection, stream: TcpStream, port: u16) -> Result<(), Stop> {
    connection.guest.meter.check()?;
    let _ = stream.set_nodelay(true);
    let expected = match port {
        PROXY_PORT | DNS_PORT => None,
        _ => meant_for(connection, original_destination(&stream)?, port)?,
    };
    let client = Wire::new(stream);
    match port {
        PROXY_PORT => http::serve_proxy(connection, client).await,
        DNS_PORT => dns::serve_stream(connection, client.stream).await,
        HTTP_PORT => http::serve_inside(connection, client, Door::Plain(expected)).await,
        HTTPS_PORT => tls::capture(connection, client, expected).await,
        _ => {
            let target = expected.ok_or(Refusal::NoName)?;
            named_port(connection, client, &target).await
        }
    }
}

/// The address that the program has connected to. A listener is bound to all of them, the accepted socket to this one.
fn original_destination(stream: &TcpStream) -> io::Result<IpAddr> {
    Ok(stream.local_addr()?.ip().to_canonical())
}

/// The name that an address of the pool stands for; nothing for other addresses.
fn meant_for(connection: &Connection, address: IpAddr, port: u16) -> Result<Option<HostPort>, Stop> {
    let no_name = || Stop::refused_for(Refusal::NoName, format!("{address}:{port}"));
    match connection.guest.names.name(address) {
        Some(name) => Ok(Some(target::named(&name, port)?)),
        None if is_in_pool(address) => Err(no_name()),
        // On other ports nothing but the address says where it should go.
        None if port != HTTP_PORT && port != HTTPS_PORT => Err(no_name()),
        None => Ok(None),
    }
}

/// Another port that was granted: what is spoken there is not known.
async fn named_port(connection: &Connection, mut client: Wire<TcpStream>, target: &HostPort) -> Result<(), Stop> {
    if tls::is_terminated(connection, target)
        && let First::Tls(hello) = gate::first(connection, &mut client.reader()).await?
    {
        gate::check_name(&hello, target, true)?;
        return tls::terminate(connection, client, target).await;
    }
    let grant = connection.ask(tunnel::wish(target)).await?;
    let work = async {
        let server = connection.dial(target, &grant).await?.stream;
        tunnel::carry_gated(connection, &grant, client, server, target).await
    };
    connection.under(&grant, work).await?;
    grant.end_done();
    Ok(())
}
