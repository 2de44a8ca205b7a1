//! CONNECT: a tunnel that a program asks for by name.

use agentos_dialer::HostPort;
use agentos_protocol::egress::{HTTPS_PORT, Refusal};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    super::{
        gate::{self, First},
        guest::Connection,
        line::Allowed,
        models,
        stop::Stop,
        target, tls, tunnel,
        wire::Wire,
    },
    Door, answer,
    head::{Framing, RequestHead},
};

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// The target of a CONNECT request, which must come to the proxy's own port, without a body, with one name.
pub(super) fn target_of(head: &RequestHead, door: &Door) -> Result<HostPort, Stop> {
    if !matches!(door, Door::Proxy) {
        return Err(Refusal::NotUnderstood.into());
    }
    if !matches!(head.framing, Framing::None | Framing::Length(0)) {
        return Err(Refusal::Smuggling.into());
    }
    let named = |reason| Stop::refused_for(reason, head.target.clone());
    let target = target::authority(&head.target, None).map_err(named)?;
    if let Some(host) = &head.host {
        // Some programs leave the port out of Host.
        let host = target::authority(host, Some(target.port())).map_err(named)?;
        if host != target {
            return Err(named(Refusal::NamesDiffer));
        }
    }
    Ok(target)
}

pub(super) async fn connect(
    connection: &Connection,
    mut client: Wire<TcpStream>,
    target: &HostPort,
) -> Result<(), Stop> {
    if tls::is_terminated(connection, target) {
        return inside_or_tunnel(connection, client, target).await;
    }
    let grant = match connection.ask_either(tunnel::wish(target)).await {
        Ok(Allowed::Out(grant)) => grant,
        Ok(Allowed::Models(end)) => {
            return match established(connection, &mut client, target).await? {
                Follows::Tls => models::relay(connection, client, target, end).await,
                Follows::Other => Err(Stop::refused_for(Refusal::NotUnderstood, target.to_string())),
                Follows::Nothing => Ok(()),
            };
        }
        Err(stop) => {
            answer::refuse(&mut client, &stop).await;
            return Err(stop.naming(|| target.to_string()));
        }
    };
    let work = async {
        match connection.dial(target, &grant).await {
            Ok(reached) => {
                client.stream.write_all(ESTABLISHED).await?;
                connection.activity.touch();
                tunnel::carry_gated(connection, &grant, client, reached.stream, target).await
            }
            Err(stop) => {
                answer::refuse(&mut client, &stop).await;
                Err(stop)
            }
        }
    };
    connection.under(&grant, work).await?;
    grant.end_done();
    Ok(())
}

/// A host that gets a credential: if TLS follows it ends here, and each request in it is asked for. Anything else on another
/// port is a tunnel like others.
async fn inside_or_tunnel(connection: &Connection, mut client: Wire<TcpStream>, target: &HostPort) -> Result<(), Stop> {
    match established(connection, &mut client, target).await? {
        Follows::Tls => tls::terminate(connection, client, target).await,
        Follows::Other if target.port() == HTTPS_PORT => {
            Err(Stop::refused_for(Refusal::NotUnderstood, target.to_string()))
        }
        Follows::Other => {
            let grant = connection.ask(tunnel::wish(target)).await?;
            tunnel::open(connection, &mut client, target, grant).await
        }
        Follows::Nothing => Ok(()),
    }
}

/// What a program begins with once it was told that the tunnel stands.
enum Follows {
    /// For the target and nobody else.
    Tls,
    Other,
    Nothing,
}

async fn established(
    connection: &Connection,
    client: &mut Wire<TcpStream>,
    target: &HostPort,
) -> Result<Follows, Stop> {
    client.stream.write_all(ESTABLISHED).await?;
    match gate::first(connection, &mut client.reader()).await? {
        First::Tls(hello) => {
            if let Err(stop) = gate::check_name(&hello, target, true) {
                tls::deny(client).await;
                return Err(stop);
            }
            Ok(Follows::Tls)
        }
        First::Other => Ok(Follows::Other),
        First::Nothing => Ok(Follows::Nothing),
    }
}
