//! Bounds and credentials of what leaves through the egress proxy.

use serde::{Deserialize, Serialize};

/// Limits of what goes out through the egress proxy, and the credentials that the proxy puts in. Where to is a matter of
/// grants: `category = "net", actions = ["connect"], resources = ["tcp://HOST:PORT"]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// Connections at once.
    pub connections: u32,
    /// Both directions together in one life of the process; 0 means no limit.
    pub bytes: u64,
    /// Both directions together; 0 means no limit.
    pub bytes_per_second: u64,
    /// A connection on which nothing moves is ended.
    pub idle_ms: u64,
    /// Longest life of one connection.
    pub connection_ms: u64,
    pub credentials: Vec<EgressCredential>,
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            connections: 64,
            bytes: 0,
            bytes_per_second: 0,
            idle_ms: 60_000,
            connection_ms: 3_600_000,
            credentials: Vec::new(),
        }
    }
}

/// One header that the proxy sets on every request to one host. The program inside never sees the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EgressCredential {
    /// Exact host name; needs the grants `net:connect` to it and `secret:use NAME@HOST`.
    pub host: String,
    /// Name of the header, for example `authorization`.
    pub header: String,
    /// Its value with one `${secret:NAME}` in it, for example `Bearer ${secret:github-token}`.
    pub value: String,
}
