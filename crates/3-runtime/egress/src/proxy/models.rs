//! Connections to providers of models that end at the server: TLS ends here, what is inside of it goes to the socket that came
//! with the verdict, and nothing is looked up or dialed. Who asks, the server knows by the socket; requests are read there.
//!
//! The clocks of the sandbox do not hold here, because an answer of a model is waited for longer than most: the server has its
//! own for both sides. Nothing leaves the machine, so no bytes are charged.

use std::os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream};

use agentos_dialer::HostPort;
use tokio::{
    io::{AsyncWriteExt, copy, split},
    net::{TcpStream, UnixStream},
};

use super::{guest::Connection, http, stop::Stop, tls, wire::Wire};

/// Until the server has said its last word, or one side breaks off.
pub(super) async fn relay(
    connection: &Connection,
    client: Wire<TcpStream>,
    target: &HostPort,
    end: OwnedFd,
) -> Result<(), Stop> {
    let (_hold, _guard) = (connection.activity.hold(), connection.activity.guard());
    let end = StdUnixStream::from(end);
    end.set_nonblocking(true)?;
    let (mut from_server, mut to_server) = UnixStream::from_std(end)?.into_split();
    let stream = Box::pin(tls::handshake(connection, client, target)).await?;
    let (mut from_client, mut to_client) = split(stream);
    {
        // Whatever ends this side: the server takes it for the end of the program, as at every other door, and what it still
        // says is passed on, such as why it reads no more.
        let asked = async {
            let _ = copy(&mut from_client, &mut to_server).await;
            let _ = to_server.shutdown().await;
        };
        let told = copy(&mut from_server, &mut to_client);
        tokio::pin!(told);
        tokio::select! {
            told = &mut told => told.map(drop)?,
            () = asked => told.await.map(drop)?,
        }
    }
    http::end(&mut Wire::new(from_client.unsplit(to_client))).await;
    Ok(())
}
