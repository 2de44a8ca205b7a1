//! Who is behind the listeners of one sandbox.

use std::sync::Arc;

use agentos_authority::{Caller, Credential};
use agentos_protocol::{
    egress::{CertificateAuthority, DNS_PORT, EgressLimits, HTTP_PORT, HTTPS_PORT, PROXY_PORT},
    sandbox::{Listener, MODEL_PORT},
};
use agentos_types::{Manifest, Result, Timestamp, manifest};

use super::authority;

/// Ports that have a listener of their own kind, which a grant cannot take for something else. What is granted there is
/// reached through the proxy's port.
const TAKEN: [u16; 3] = [DNS_PORT, PROXY_PORT, MODEL_PORT];

/// One sandbox with a way out: whose it is, and what is put into its requests. Made before the sandbox, because the
/// sandbox is built with its listeners and the certificate of its authority.
#[derive(Clone)]
pub struct Guest {
    pub caller: Caller,
    pub credentials: Arc<[Credential]>,
    authority: Option<Arc<CertificateAuthority>>,
}

impl Guest {
    /// `None`: nothing of the manifest leads out, so that the sandbox gets no listener at all.
    pub fn of(caller: Caller, manifest: &Manifest, now: Timestamp) -> Result<Option<Self>> {
        let credentials = Credential::compile(manifest, &caller.grants)?;
        Self::new(caller, credentials, now)
    }

    pub fn new(caller: Caller, credentials: Vec<Credential>, now: Timestamp) -> Result<Option<Self>> {
        if !caller.grants.connects() {
            return Ok(None);
        }
        let hosts = terminated(&credentials);
        let authority = if hosts.is_empty() { None } else { Some(Arc::new(authority::make(&hosts, now)?)) };
        Ok(Some(Self { caller, credentials: credentials.into(), authority }))
    }

    /// What the sandbox has to listen at.
    pub fn listeners(&self) -> Vec<Listener> {
        let always = [
            Listener::Tcp(PROXY_PORT),
            Listener::Tcp(HTTP_PORT),
            Listener::Tcp(HTTPS_PORT),
            Listener::Udp(DNS_PORT),
            Listener::Tcp(DNS_PORT),
        ];
        let granted = self.caller.grants.connect_ports().into_iter().filter(|port| !TAKEN.contains(port));
        always.into_iter().chain(granted.map(Listener::Tcp)).collect()
    }

    /// PEM of the authority that programs inside have to trust, where a credential is put in.
    pub fn certificate(&self) -> Option<&str> {
        self.authority.as_deref().map(|authority| authority.certificate.as_str())
    }

    /// Exact hosts whose TLS ends at the proxy.
    pub(super) fn terminated_hosts(&self) -> Vec<String> {
        terminated(&self.credentials)
    }

    pub(super) fn authority(&self) -> Option<&CertificateAuthority> {
        self.authority.as_deref()
    }
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").field("agent", &self.caller.agent).finish_non_exhaustive()
    }
}

/// The limits of a manifest as the proxy takes them.
pub fn limits_of(egress: &manifest::Egress) -> EgressLimits {
    EgressLimits {
        connections: egress.connections,
        bytes: egress.bytes,
        bytes_per_second: egress.bytes_per_second,
        idle_ms: egress.idle_ms,
        connection_ms: egress.connection_ms,
    }
}

fn terminated(credentials: &[Credential]) -> Vec<String> {
    let mut hosts: Vec<String> = credentials.iter().map(|credential| credential.host.clone()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}
