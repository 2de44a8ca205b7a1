//! Connections whose content stays closed to us: what comes on one side goes out on the other, counted, at the speed of the
//! slower one.

use agentos_dialer::HostPort;
use agentos_protocol::egress::{HTTPS_PORT, Refusal, Wish};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::TcpStream,
};

use super::{
    gate::{self, First},
    grant::{Grant, Way},
    guest::Connection,
    stop::Stop,
    wire::{Stream, Wire},
};

/// A direction begins with the small buffer, and takes the large one once it has filled the small.
const BUFFER_BYTES: usize = 8 * 1024;
const BUFFER_BYTES_MAX: usize = 64 * 1024;

pub(super) fn wish(target: &HostPort) -> Wish {
    Wish::Connect { host: target.name().unwrap_or_default().to_owned(), port: target.port() }
}

/// Carries what is already known to be for `target`, such as TLS whose hello was read.
pub(super) async fn open(
    connection: &Connection,
    client: &mut Wire<TcpStream>,
    target: &HostPort,
    grant: Grant,
) -> Result<(), Stop> {
    let work = async {
        let mut server = Wire::new(connection.dial(target, &grant).await?.stream);
        carry(connection, &grant, client, &mut server).await
    };
    connection.under(&grant, work).await?;
    grant.end_done();
    Ok(())
}

/// Carries what a program has yet to begin. Who speaks first is left open; if it is TLS, it has to be for `target`.
pub(super) async fn carry_gated(
    connection: &Connection,
    grant: &Grant,
    mut client: Wire<TcpStream>,
    server: TcpStream,
    target: &HostPort,
) -> Result<(), Stop> {
    let is_https = target.port() == HTTPS_PORT;
    let (mut from_client, to_client) = client.split();
    let (from_server, to_server) = split(server);
    let out = async {
        match gate::first(connection, &mut from_client).await? {
            First::Tls(hello) => gate::check_name(&hello, target, is_https)?,
            First::Other if is_https => {
                return Err(Stop::refused_for(Refusal::NotUnderstood, target.to_string()));
            }
            First::Other | First::Nothing => {}
        }
        let mut to_server = to_server;
        let begun = from_client.buffer.split();
        connection.carry(grant, Way::Out, begun.len()).await?;
        to_server.write_all(&begun).await?;
        pour(connection, grant, Way::Out, from_client.stream, to_server).await
    };
    tokio::try_join!(out, pour(connection, grant, Way::In, from_server, to_client))?;
    Ok(())
}

/// Both directions, until both are done or one breaks.
pub(super) async fn carry(
    connection: &Connection,
    grant: &Grant,
    client: &mut Wire<impl Stream>,
    server: &mut Wire<impl Stream>,
) -> Result<(), Stop> {
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    tokio::try_join!(
        pour(connection, grant, Way::Out, from_client, to_server),
        pour(connection, grant, Way::In, from_server, to_client)
    )?;
    Ok(())
}

async fn pour(
    connection: &Connection,
    grant: &Grant,
    way: Way,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Result<(), Stop> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        connection.activity.touch();
        if count == 0 {
            // One side may be done while the other still speaks.
            let _ = to.shutdown().await;
            return Ok(());
        }
        connection.carry(grant, way, count).await?;
        to.write_all(buffer.get(..count).unwrap_or_default()).await?;
        to.flush().await?;
        connection.activity.touch();
        if count == buffer.len() && count < BUFFER_BYTES_MAX {
            buffer.resize(BUFFER_BYTES_MAX, 0);
        }
    }
}
