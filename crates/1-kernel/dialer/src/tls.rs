//! TLS to the name that the URL holds. One provider (ring), the certificate authorities of the system and the operator.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use agentos_types::{Code, Fault, Result};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, sync::OnceCell, task};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::HostPort;

/// Reading the system's hundred-odd certificates takes milliseconds, so it waits for the first https request and does
/// not delay the start. A failure is not remembered: installing certificates needs no restart.
pub struct Tls {
    extra_roots: RootCertStore,
    config: OnceCell<Arc<ClientConfig>>,
}

impl Tls {
    /// Unusable files of the operator refuse the start.
    pub fn new(files: &[PathBuf]) -> Result<Self> {
        let mut extra_roots = RootCertStore::empty();
        for path in files {
            add_file(&mut extra_roots, path)?;
        }
        Ok(Self { extra_roots, config: OnceCell::new() })
    }

    /// Reads the system's certificates now: for a program that will lose sight of the files.
    pub async fn load(&self) -> Result<()> {
        self.config.get_or_try_init(|| build(self.extra_roots.clone())).await.map(drop)
    }

    /// The name is checked against the certificate and sent as SNI; an address is checked and not sent.
    pub async fn wrap(&self, stream: TcpStream, target: &HostPort) -> Result<TlsStream<TcpStream>> {
        let name = match (target.address(), target.name()) {
            (Some(address), _) => ServerName::from(address),
            (None, name) => ServerName::try_from(name.unwrap_or_default().to_owned())
                .map_err(|source| Fault::new(Code::URL_INVALID, "the host is not a name for TLS").detail(source))?,
        };
        let config = self.config.get_or_try_init(|| build(self.extra_roots.clone())).await?;
        TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(|source| {
            let is_certificate = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let message = match is_certificate {
                Some(rustls::Error::InvalidCertificate(_)) => format!("the TLS certificate of {target} is not valid"),
                _ => format!("no TLS connection to {target}"),
            };
            Fault::new(Code::CONNECT_FAILED, message)
                .hint("a private certificate authority can be added to `dialer.extra_roots`")
                .detail(source)
        })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("extra_roots", &self.extra_roots.len()).finish_non_exhaustive()
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<()> {
    let unusable = |reason: String| {
        let message = format!("`dialer.extra_roots`: {} is not usable: {reason}", path.display());
        Fault::new(Code::CONFIG_INVALID_VALUE, message).hint("name a PEM file with certificates of an authority")
    };
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|source| unusable(source.to_string()))? {
        let certificate = certificate.map_err(|source| unusable(source.to_string()))?;
        roots.add(certificate).map_err(|source| unusable(source.to_string()))?;
    }
    if roots.len() == before { Err(unusable("no certificate in it".to_owned())) } else { Ok(()) }
}

async fn build(mut roots: RootCertStore) -> Result<Arc<ClientConfig>> {
    let native = task::spawn_blocking(rustls_native_certs::load_native_certs).await.map_err(Fault::internal)?;
    for error in &native.errors {
        tracing::warn!(%error, "a system certificate cannot be read");
    }
    // Systems ship a few certificates that strict parsers refuse; the others are still good.
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        return Err(Fault::new(Code::CONNECT_FAILED, "this machine trusts no certificate authority")
            .hint("install the package ca-certificates, or name a file in `dialer.extra_roots`"));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Fault::internal)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
