//! HTTP/1.1 of programs: at the proxy's own port, caught on port 80, and inside TLS that ends here. Each request is read
//! strictly, asked for by itself, written anew and sent on.

mod answer;
mod body;
mod connect;
mod exchange;
mod fields;
pub mod head;
mod upstream;

pub(super) use answer::end;
pub use body::chunk_size;

use std::time::Duration;

use agentos_dialer::{CheckedUrl, HostPort};
use agentos_protocol::egress::{HTTP_PORT, Refusal, Wish};
use tokio::net::TcpStream;

use self::{
    exchange::After,
    head::{Defect, RequestHead, Scan},
    upstream::Kept,
};
use super::{
    guest::Connection,
    stop::Stop,
    target,
    wire::{Stream, Wire},
};

/// From the first byte of a head to its last.
const HEAD: Duration = Duration::from_secs(10);
/// Requests of one connection. Its life ends at some time anyway; this bounds what one program can do within it.
const REQUESTS_MAX: usize = 100_000;

/// Where the program has knocked, and what follows for the name of its target.
pub(super) enum Door {
    /// The proxy's own port: the request names it.
    Proxy,
    /// Caught on port 80: the Host header names it, and has to agree with the address if that stood for a name.
    Plain(Option<HostPort>),
    /// Inside TLS for this target.
    Inside(HostPort),
}

/// What is left to do after the requests.
enum Next {
    Nothing,
    Connect(HostPort),
}

/// One request, as far as it concerns who may do what.
struct Target {
    host: HostPort,
    is_tls: bool,
    /// What is sent on: path and query in one spelling.
    path_and_query: String,
    path: String,
}

pub(super) async fn serve_proxy(connection: &Connection, mut client: Wire<TcpStream>) -> Result<(), Stop> {
    match serve(connection, &mut client, &Door::Proxy).await? {
        Next::Nothing => Ok(()),
        Next::Connect(target) => connect::connect(connection, client, &target).await,
    }
}

pub(super) async fn serve_inside(
    connection: &Connection,
    mut client: Wire<impl Stream>,
    door: Door,
) -> Result<(), Stop> {
    serve(connection, &mut client, &door).await.map(drop)
}

async fn serve(connection: &Connection, client: &mut Wire<impl Stream>, door: &Door) -> Result<Next, Stop> {
    let mut kept = None;
    for number in 0..REQUESTS_MAX {
        let outcome = match next_head(connection, client, number == 0).await {
            Ok(None) => return Ok(Next::Nothing),
            Ok(Some(head)) if head.method == "CONNECT" => match connect::target_of(&head, door) {
                Ok(target) => return Ok(Next::Connect(target)),
                Err(stop) => Err(stop.into()),
            },
            Ok(Some(head)) => one(connection, client, door, &head, &mut kept).await,
            Err(stop) => Err(stop),
        };
        match outcome {
            Ok(After::GoOn) => {}
            Ok(After::Close) => {
                answer::end(client).await;
                break;
            }
            Err(Failed { stop, is_answered }) => {
                if !is_answered {
                    answer::refuse(client, &stop).await;
                }
                return Err(stop);
            }
        }
    }
    Ok(Next::Nothing)
}

/// Why a request failed, and whether the program has seen the head of an answer already.
struct Failed {
    stop: Stop,
    is_answered: bool,
}

impl<T: Into<Stop>> From<T> for Failed {
    fn from(stop: T) -> Self {
        Failed { stop: stop.into(), is_answered: false }
    }
}

/// The next request; nothing when there is none, which between two requests may take as long as the connection may idle.
async fn next_head(
    connection: &Connection,
    client: &mut Wire<impl Stream>,
    is_first: bool,
) -> Result<Option<RequestHead>, Failed> {
    let mut reader = client.reader();
    let begun = tokio::select! {
        begun = connection.word(reader.has_some()) => match begun {
            Err(stop @ Stop::Refused { .. }) => return Err(stop.into()),
            begun => begun.unwrap_or(false),
        },
        // One who never says anything is too slow; one who has said all that he wanted is not.
        () = connection.activity.expired(), if !is_first => false,
    };
    if !begun {
        return Ok(None);
    }
    connection.activity.touch();
    let head = async {
        let mut seen = 0;
        loop {
            match head::scan(reader.buffer, seen) {
                Scan::Hopeless(defect) => return Err(Stop::refused(defect.into())),
                Scan::End(end) if end <= head::REQUEST_BYTES_MAX => return Ok(reader.buffer.split_to(end)),
                Scan::Incomplete if reader.buffer.len() < head::REQUEST_BYTES_MAX => {}
                Scan::End(_) | Scan::Incomplete => return Err(Stop::refused(Refusal::NotUnderstood)),
            }
            seen = reader.buffer.len();
            if reader.more().await? == 0 {
                return Err(Stop::refused(Refusal::NotUnderstood));
            }
        }
    };
    let bytes = connection.within(HEAD, head).await?;
    connection.activity.touch();
    Ok(Some(RequestHead::parse(&bytes).map_err(|defect| Stop::from(Refusal::from(defect)))?))
}

impl From<Defect> for Refusal {
    fn from(defect: Defect) -> Self {
        match defect {
            Defect::Malformed => Refusal::NotUnderstood,
            Defect::Ambiguous => Refusal::Smuggling,
        }
    }
}

async fn one(
    connection: &Connection,
    client: &mut Wire<impl Stream>,
    door: &Door,
    head: &RequestHead,
    kept: &mut Option<Kept>,
) -> Result<After, Failed> {
    fields::check(head)?;
    let target = read_target(head, door).map_err(|stop| stop.naming(|| head.host.clone().unwrap_or_default()))?;
    let grant = connection.ask(target.wish(&head.method)).await?;
    let mut is_answered = false;
    let work = exchange::run(connection, client, head, &target, &grant, kept, &mut is_answered);
    let outcome = connection.under(&grant, Box::pin(work)).await;
    outcome.map_err(|stop| Failed { stop, is_answered })
}

impl Target {
    fn wish(&self, method: &str) -> Wish {
        Wish::Request {
            host: self.host.name().unwrap_or_default().to_owned(),
            port: self.host.port(),
            is_tls: self.is_tls,
            method: method.to_owned(),
            path: self.path.clone(),
        }
    }

    /// Value of the Host header: the port only where it is not the one of the scheme.
    fn host_value(&self) -> String {
        let usual = if self.is_tls { agentos_protocol::egress::HTTPS_PORT } else { HTTP_PORT };
        let name = self.host.name().unwrap_or_default();
        if self.host.port() == usual { name.to_owned() } else { self.host.to_string() }
    }
}

/// What the request is for. All places that name a host have to name the same.
fn read_target(head: &RequestHead, door: &Door) -> Result<Target, Stop> {
    let (is_tls, port) = match door {
        Door::Proxy | Door::Plain(_) => (false, HTTP_PORT),
        Door::Inside(target) => (true, target.port()),
    };
    let host = head.host.as_deref().map(|host| target::authority(host, Some(port))).transpose()?;
    let (host, path_and_query) = match (door, head.target.strip_prefix('/')) {
        (Door::Proxy, Some(_)) => return Err(Refusal::NotUnderstood.into()),
        (_, Some(_)) => (host, head.target.as_str()),
        (_, None) => {
            let (named, path_and_query) = absolute(&head.target, is_tls, port)?;
            if host.as_ref().is_some_and(|host| *host != named) {
                return Err(Stop::refused_for(Refusal::NamesDiffer, named.to_string()));
            }
            (Some(named), path_and_query)
        }
    };
    let host = host.ok_or(Refusal::NoName)?;
    let expected = match door {
        Door::Proxy => None,
        Door::Plain(expected) => expected.as_ref(),
        Door::Inside(expected) => Some(expected),
    };
    let is_other = expected.is_some_and(|expected| *expected != host);
    if is_other || (matches!(door, Door::Plain(_)) && host.port() != HTTP_PORT) {
        return Err(Stop::refused_for(Refusal::NamesDiffer, host.to_string()));
    }
    one_spelling(host, is_tls, path_and_query)
}

/// `http://host/path` as at a proxy.
fn absolute(text: &str, is_tls: bool, port: u16) -> Result<(HostPort, &str), Stop> {
    let scheme = if is_tls { "https://" } else { "http://" };
    let (found, rest) = text.split_at_checked(scheme.len()).ok_or(Refusal::NotUnderstood)?;
    if !found.eq_ignore_ascii_case(scheme) {
        return Err(Refusal::NotUnderstood.into());
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path_and_query) = rest.split_at(end);
    if authority.contains('@') {
        return Err(Refusal::Smuggling.into());
    }
    Ok((target::authority(authority, Some(port))?, path_and_query))
}

/// The path that is judged is the path that is sent.
fn one_spelling(host: HostPort, is_tls: bool, path_and_query: &str) -> Result<Target, Stop> {
    let scheme = if is_tls { "https" } else { "http" };
    let slash = if path_and_query.starts_with('/') { "" } else { "/" };
    let url = CheckedUrl::parse(&format!("{scheme}://{host}{slash}{path_and_query}"))
        .map_err(|_| Stop::refused_for(Refusal::Smuggling, host.to_string()))?;
    let after_host = |text: &str| -> Option<String> {
        let rest = text.split_once("://")?.1;
        rest.find('/').and_then(|at| rest.get(at..)).map(str::to_owned)
    };
    let path_and_query = after_host(url.as_str()).ok_or(Refusal::NotUnderstood)?;
    let path = after_host(url.without_query()).ok_or(Refusal::NotUnderstood)?;
    Ok(Target { host, is_tls, path_and_query, path })
}
