//! Who is behind the listeners of one sandbox.

use std::{os::fd::OwnedFd, sync::Arc};

use agentos_authority::{Caller, Credential};
use agentos_monitor::egress::{Captured, Terms};
use agentos_protocol::{
    egress::{CertificateAuthority, DNS_PORT, EgressLimits, HTTP_PORT, HTTPS_PORT, PROXY_PORT},
    sandbox::{Listener, MODEL_PORT},
};
use agentos_types::{Fault, Manifest, Result, Timestamp, manifest};

use super::authority::{self, Signs};

/// Ports that have a listener of their own kind, which a grant cannot take for something else. What is granted there is
/// reached through the proxy's port.
const TAKEN: [u16; 3] = [DNS_PORT, PROXY_PORT, MODEL_PORT];
/// Names that an authority is kept from by its certificate, which travels in each handshake. A manifest with more has no
/// further ones kept: they are still asked for one by one.
const UNTOUCHED_MAX: usize = 64;

/// One sandbox with a way out: whose it is, and what is put into its requests. Made before the sandbox, because the
/// sandbox is built with its listeners and the certificate of its authority.
#[derive(Clone)]
pub struct Guest {
    pub caller: Caller,
    credentials: Arc<[Credential]>,
    models: Option<Arc<dyn ModelHosts>>,
    authority: Option<Arc<CertificateAuthority>>,
}

/// Hosts of providers of models, whose connections end at the models that one agent may call here.
pub trait ModelHosts: Send + Sync {
    /// Whether the canonical name is one of them at this moment.
    fn is_provider(&self, host: &str) -> bool;

    /// All of them at this moment.
    fn hosts(&self) -> Vec<String>;

    /// Serves the connection that was caught. What is inside of its TLS comes by the end that is returned.
    fn serve(&self, captured: &Captured) -> Result<OwnedFd>;
}

impl Guest {
    /// `None`: nothing of the manifest leads out, so that the sandbox gets no listener at all.
    pub fn of(
        caller: Caller,
        manifest: &Manifest,
        models: Option<Arc<dyn ModelHosts>>,
        now: Timestamp,
    ) -> Result<Option<Self>> {
        let credentials = Credential::compile(manifest, &caller.grants)?;
        Self::new(caller, credentials, models, now)
    }

    pub fn new(
        caller: Caller,
        credentials: Vec<Credential>,
        models: Option<Arc<dyn ModelHosts>>,
        now: Timestamp,
    ) -> Result<Option<Self>> {
        if !caller.grants.connects() && models.is_none() {
            return Ok(None);
        }
        let hosts = terminated(&credentials);
        let signs = match &models {
            None if hosts.is_empty() => None,
            None => Some(Signs::For(hosts)),
            Some(models) => Some(Signs::AllBut(untouched(&caller, hosts, models.as_ref()))),
        };
        let authority = signs.map(|signs| authority::make(signs, now)).transpose()?.map(Arc::new);
        Ok(Some(Self { caller, credentials: credentials.into(), models, authority }))
    }

    /// What the monitor has to know of it for a decision.
    pub(super) fn decided_by<'t>(&'t self, is_provider: &'t (dyn Fn(&str) -> bool + Send + Sync)) -> Terms<'t> {
        Terms { credentials: &self.credentials, is_provider }
    }

    pub(super) fn is_provider(&self, host: &str) -> bool {
        self.models.as_ref().is_some_and(|models| models.is_provider(host))
    }

    /// The proxy's end of a connection that was caught.
    pub(super) fn serve(&self, captured: &Captured) -> Result<OwnedFd> {
        let models = self.models.as_ref().ok_or_else(|| Fault::internal("a guest without models was caught"))?;
        models.serve(captured)
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

    /// PEM of the authority that programs inside have to trust, where a credential is put in or models are called.
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

/// Names whose TLS passes through closed, which the authority must not be able to open. Left out are those below which a host
/// lies that it signs for now: what is excluded is so with all that lies below it.
fn untouched(caller: &Caller, mut signed: Vec<String>, models: &dyn ModelHosts) -> Vec<String> {
    signed.extend(models.hosts().into_iter().filter(|host| !caller.grants.names_host(host, HTTPS_PORT)));
    let is_below =
        |host: &String, name: &str| host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let names = caller.grants.connect_names().into_iter();
    let untouched = names.filter(|name| !signed.iter().any(|host| is_below(host, name)));
    untouched.take(UNTOUCHED_MAX).map(str::to_owned).collect()
}

fn terminated(credentials: &[Credential]) -> Vec<String> {
    let mut hosts: Vec<String> = credentials.iter().map(|credential| credential.host.clone()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}
