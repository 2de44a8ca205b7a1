//! By which door a program inside of a sandbox has come: the loopback of its own network, or a connection that was caught on
//! its way to a provider. Behind the second one a request has to be for that very host, and its path is one of the provider's
//! own; what is no operation of a model is served by nobody, and the kernel is told.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use agentos_types::{Code, Fault, Result};
use agentos_wire::Protocol;
use axum::http::{HeaderMap, Uri, header, uri::PathAndQuery};

use super::{edge::is_operation, told};

/// The port that needs not be named.
const HTTPS: &str = ":443";
/// Characters of a path in what is told of it.
const PATH_CHARS_MAX: usize = 200;

/// Where a provider has its operations.
#[derive(Clone, Debug)]
pub struct CapturedHost {
    /// Canonical.
    pub name: String,
    /// Of errors about what is no operation.
    pub protocol: Protocol,
    /// What stands in its paths in the place of our `/v1`.
    pub bases: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Door {
    Loopback,
    Captured(Arc<CapturedHost>),
}

impl Door {
    /// The path as the routes have it. What is refused behind a captured host is to be recorded.
    pub fn path(&self, uri: &Uri, headers: &HeaderMap) -> Result<String> {
        match self {
            Door::Loopback => Ok(uri.path().to_owned()),
            Door::Captured(host) => {
                host.is_meant(uri, headers)?;
                host.own_path(uri.path()).ok_or_else(|| {
                    let message = format!("{} is reached through the models of this agent, which have no such path", host.name);
                    Fault::new(Code::CAPTURED_PATH, message).hint(format!(
                        "ask for chat, responses, messages, embeddings or the list of models, or grant `net:connect` to `tcp://{}:443` and bring the provider's key",
                        host.name
                    ))
                })
            }
        }
    }

    /// In which protocol the client reads an error.
    pub fn protocol(&self, uri: &Uri, headers: &HeaderMap) -> Protocol {
        let of = |uri: &Uri| told::protocol_of(uri, headers);
        match self {
            Door::Loopback => of(uri).unwrap_or(Protocol::Chat),
            Door::Captured(host) => {
                let own = host.own_path(uri.path()).and_then(|path| path.parse::<PathAndQuery>().ok());
                own.and_then(|path| of(&path.into())).unwrap_or(host.protocol)
            }
        }
    }

    /// What a record of a refusal is about; nothing where there is none.
    pub fn target(&self, uri: &Uri) -> Option<String> {
        let Door::Captured(host) = self else { return None };
        let path: String =
            uri.path().chars().filter(|character| !character.is_control()).take(PATH_CHARS_MAX).collect();
        Some(format!("https://{}{HTTPS}{path}", host.name))
    }
}

impl CapturedHost {
    fn own_path(&self, path: &str) -> Option<String> {
        let below = |base: &String| path.strip_prefix(base.as_str()).filter(|rest| rest.starts_with('/'));
        let mut own = self.bases.iter().filter_map(below).map(|rest| format!("/v1{rest}"));
        own.find(|path| is_operation(path))
    }

    /// All places that name a host have to name the one of the connection.
    fn is_meant(&self, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        let is_this = |text: &str| {
            let text = text.strip_suffix(HTTPS).unwrap_or(text);
            text.strip_suffix('.').unwrap_or(text).eq_ignore_ascii_case(&self.name)
        };
        let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let is_absolute_right = uri.authority().is_none_or(|authority| is_this(authority.as_str()));
        if named.is_some_and(is_this) && is_absolute_right {
            return Ok(());
        }
        let message = format!("this connection is for {}, and the request on it names another host", self.name);
        Err(Fault::new(Code::CAPTURED_HOST, message).hint("open a connection for each host"))
    }
}

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorCounts {
    pub requests: u64,
    /// Open now.
    pub connections: u64,
}

/// What went through the doors of all sandboxes.
#[derive(Debug, Default)]
pub struct EdgeCounts {
    loopback: Counter,
    captured: Counter,
}

#[derive(Debug, Default)]
struct Counter {
    requests: AtomicU64,
    connections: AtomicU64,
}

/// While a connection is open.
pub(crate) struct Counted {
    counts: Arc<EdgeCounts>,
    door: Door,
}

impl EdgeCounts {
    /// By the name of the door.
    pub fn read(&self) -> [(&'static str, DoorCounts); 2] {
        let of = |counter: &Counter| DoorCounts {
            requests: counter.requests.load(Ordering::Relaxed),
            connections: counter.connections.load(Ordering::Relaxed),
        };
        [("loopback", of(&self.loopback)), ("captured", of(&self.captured))]
    }

    pub(crate) fn request(&self, door: &Door) {
        self.of(door).requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection(self: &Arc<Self>, door: &Door) -> Counted {
        self.of(door).connections.fetch_add(1, Ordering::Relaxed);
        Counted { counts: Arc::clone(self), door: door.clone() }
    }

    fn of(&self, door: &Door) -> &Counter {
        match door {
            Door::Loopback => &self.loopback,
            Door::Captured(_) => &self.captured,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.of(&self.door).connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Door {
        let bases = ["/v1", "/api/v1", "/v1beta/openai"].map(str::to_owned).into();
        Door::Captured(Arc::new(CapturedHost { name: "api.example".into(), protocol: Protocol::Gemini, bases }))
    }

    fn headers(host: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::HOST, host.parse().unwrap())])
    }

    #[test]
    fn operations_are_found_below_the_bases_of_the_host_and_nowhere_else() {
        let check = |path: &str, expected: Option<&str>| {
            let found = door().path(&path.parse().unwrap(), &headers("api.example"));
            assert_eq!(found.as_deref().ok(), expected, "{path}");
            assert!(found.err().is_none_or(|fault| fault.code == Code::CAPTURED_PATH), "{path}");
        };
        check("/v1/chat/completions", Some("/v1/chat/completions"));
        check("/api/v1/embeddings?x=1", Some("/v1/embeddings"));
        check("/v1beta/openai/models", Some("/v1/models"));
        check("https://api.example/v1/messages", Some("/v1/messages"));
        for path in [
            "/",
            "/v1",
            "/v1/",
            "/v1/files",
            "/v1x/models",
            "/models",
            "/v1/models/x",
            "/v1beta/models/x:generateContent",
            "/api/v1/tasks",
        ] {
            check(path, None);
        }
    }

    #[test]
    fn every_place_that_names_a_host_names_that_of_the_connection() {
        let check = |uri: &str, host: &str, is_right: bool| {
            let found = door().path(&uri.parse().unwrap(), &headers(host));
            assert_eq!(found.is_ok(), is_right, "{uri} {host}");
            assert!(found.err().is_none_or(|fault| fault.code == Code::CAPTURED_HOST), "{uri} {host}");
        };
        check("/v1/models", "API.example:443", true);
        check("/v1/models", "api.example.", true);
        check("https://api.example/v1/models", "api.example", true);
        for (uri, host) in [
            ("/v1/models", "other.example"),
            ("/v1/models", "api.example:444"),
            ("/v1/models", "api.example.other.example"),
            ("/v1/models", ""),
            ("https://other.example/v1/models", "api.example"),
            ("https://u@api.example/v1/models", "api.example"),
        ] {
            check(uri, host, false);
        }
        assert!(door().path(&"/v1/models".parse().unwrap(), &HeaderMap::new()).is_err());
    }

    #[test]
    fn errors_are_in_the_protocol_of_the_path_or_of_the_host() {
        let protocol = |path: &str| door().protocol(&path.parse().unwrap(), &headers("api.example"));
        assert_eq!(protocol("/api/v1/messages"), Protocol::Messages);
        assert_eq!(protocol("/v1beta/openai/chat/completions"), Protocol::Chat);
        assert_eq!(protocol("/v1beta/models/x:generateContent"), Protocol::Gemini);
        let target = door().target(&"/v1/files?key=secret".parse().unwrap());
        assert_eq!(target.as_deref(), Some("https://api.example:443/v1/files"));
        assert_eq!(Door::Loopback.target(&"/v1/files".parse().unwrap()), None);
    }
}
