//! What crosses the socket between the server and the egress proxy.
//!
//! SOCK_SEQPACKET as descriptor 3 of the proxy; one message is one packet of JSON, at most
//! [`crate::sandbox::PACKET_BYTES_MAX`]. The proxy decides nothing: it asks for each connection and each request, and carries
//! out what is granted once. When the socket closes, it ends, and with it every way out.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub const EGRESS_VERSION: u32 = 3;

/// Ports inside a sandbox at which the proxy listens: CONNECT and absolute-form HTTP, then what is caught unasked.
pub const PROXY_PORT: u16 = 3128;
pub const HTTP_PORT: u16 = 80;
pub const HTTPS_PORT: u16 = 443;
pub const DNS_PORT: u16 = 53;

/// Names of one sandbox that have an address in it. A program needs a few; more are a scan.
pub const NAMES_MAX: usize = 4_096;

/// From the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToProxy {
    /// A sandbox has begun. Descriptors: its listeners, in the order of `listeners`.
    Attach(Box<Attachment>),
    /// It has ended: close its listeners and connections, and send what is left to report.
    Detach { sandbox: u64 },
    /// The answer to an [`FromProxy::Ask`]. With [`Verdict::Models`] comes one descriptor, otherwise none.
    Verdict { ask: u64, verdict: Verdict },
    /// Are you there? Answered by a [`FromProxy::Moved`] for each sandbox on which something moved since the last ping, then
    /// by a [`FromProxy::Pong`] with the same number. A proxy that stays silent is replaced.
    Ping { n: u64 },
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// Unique in the life of the server.
    pub sandbox: u64,
    pub listeners: Vec<crate::sandbox::Listener>,
    pub limits: EgressLimits,
    /// Hosts whose TLS ends at the proxy, because a credential is put in there; `authority` signs for them, and for those of
    /// providers of models, which are asked for one by one.
    pub terminated_hosts: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<CertificateAuthority>,
    /// Names that earlier proxies were given for this sandbox, in the order of their numbers, from 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the key of the authority.
        f.debug_struct("Attachment")
            .field("sandbox", &self.sandbox)
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

/// Of one sandbox, trusted inside that sandbox alone. PEM.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateAuthority {
    pub certificate: String,
    pub key: String,
}

/// Of one sandbox. 0 means no limit for bytes and rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressLimits {
    /// Connections at once.
    pub connections: u32,
    /// Both directions together, in the life of the sandbox.
    pub bytes: u64,
    /// Both directions together.
    pub bytes_per_second: u64,
    pub idle_ms: u64,
    /// Longest life of one connection.
    pub connection_ms: u64,
}

/// From the proxy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromProxy {
    /// Once, before anything else.
    Ready {
        version: u32,
    },
    /// May this happen? Nothing happens before the answer.
    Ask {
        ask: u64,
        sandbox: u64,
        wish: Wish,
    },
    /// Refused by the proxy itself, before anything could be asked: no server name, a smuggled request, a limit.
    Refused {
        sandbox: u64,
        target: Option<String>,
        reason: Refusal,
    },
    /// Bytes of a sandbox since it was attached, those of open connections included.
    Moved {
        sandbox: u64,
        bytes_out: u64,
        bytes_in: u64,
    },
    Pong {
        n: u64,
    },
    /// What came of a granted wish. Once for each that was allowed, but names and what ends at the models here.
    Closed {
        ask: u64,
        sandbox: u64,
        bytes_out: u64,
        bytes_in: u64,
        duration_ms: u64,
        end: WishEnd,
    },
}

/// One thing that a program inside wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Wish {
    /// An address for a name. Answered from a reserved pool; the name never leaves the machine for it.
    Name { host: String },
    /// A TCP connection whose content stays closed to us: TLS that ends at the target, or a port that was granted.
    Connect { host: String, port: u16 },
    /// One HTTP request, in plain text or inside TLS that ends at the proxy.
    Request { host: String, port: u16, is_tls: bool, method: String, path: String },
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verdict {
    /// For this wish, once. Headers replace those of the program; their values are secrets.
    Allowed {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        headers: Vec<(String, String)>,
        /// Addresses that an operator opened for this target although they are private.
        #[serde(default, skip_serializing_if = "is_false")]
        private_allowed: bool,
    },
    /// To a [`Wish::Name`]: programs may know this name, by the address that goes with its number. A number is never given
    /// to a second name of the sandbox, whatever happens to proxies; without one the sandbox has had all that it may have.
    Named {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<u32>,
    },
    /// To a [`Wish::Connect`] to port 443: the host is one of a provider of models, and nothing goes there. TLS ends at the
    /// proxy, and what is inside of it goes to the stream socket that comes with this message and is the server's.
    Models,
    Denied {
        /// For example `AOS-1402`.
        code: String,
        /// For the program inside, without internals.
        message: String,
    },
}

impl std::fmt::Debug for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Allowed { headers, .. } => write!(f, "Allowed with {} headers", headers.len()),
            Verdict::Named { number } => write!(f, "Named({number:?})"),
            Verdict::Models => write!(f, "Models"),
            Verdict::Denied { code, .. } => write!(f, "Denied({code})"),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Why the proxy itself let nothing happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Neither a TLS ClientHello nor an HTTP request within the limits of size and time.
    NotUnderstood,
    NoServerName,
    /// The name is hidden (encrypted ClientHello).
    HiddenServerName,
    /// Server name, Host and CONNECT target are not the same.
    NamesDiffer,
    /// Ambiguous framing, control characters, repeated Host: what two readers would read differently.
    Smuggling,
    /// An address literal where only names are granted, or an address of the pool that no name has.
    NoName,
    ConnectionLimit,
    ByteLimit,
    TooSlow,
}

/// How a granted wish ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum WishEnd {
    /// Both sides were done.
    Done {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
    /// The target could not be reached, or its address is not allowed. `address` is the one that was dialed, if any.
    Unreachable {
        code: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
    },
    /// It broke off in the middle.
    Broken,
    /// A limit of the sandbox or of time ended it.
    Limited { limit: Refusal },
    /// The sandbox ended.
    Detached,
}
