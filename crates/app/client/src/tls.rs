//! TLS with the one provider of this house (ring), named explicitly: the HTTP library is built without any, and a
//! process-wide default would depend on who was first.

use std::sync::Arc;

use agentos_types::{Code, Fault, Result};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

/// `wanted` is false for plain HTTP: reading the system's certificates takes milliseconds that nobody would use.
pub(crate) fn config(wanted: bool, extra_root_pem: Option<&[u8]>) -> Result<ClientConfig> {
    let roots = if wanted { roots(extra_root_pem)? } else { RootCertStore::empty() };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Fault::internal)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// The system's authorities and the one that was named. Systems ship a few certificates that strict parsers refuse; the
/// others are still good.
fn roots(extra_root_pem: Option<&[u8]>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = extra_root_pem {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            certificate.map_err(unusable).and_then(|certificate| roots.add(certificate).map_err(unusable))?;
        }
        if roots.len() == before {
            return Err(unusable("no certificate in it"));
        }
    }
    if roots.is_empty() {
        return Err(Fault::new(Code::CONNECT_FAILED, "this machine trusts no certificate authority")
            .hint("install the package ca-certificates, or name the server's authority"));
    }
    Ok(roots)
}

fn unusable(why: impl std::fmt::Display) -> Fault {
    Fault::new(Code::USAGE, format!("the certificate file of the server's authority is not usable: {why}"))
        .hint("name a PEM file with the certificate of the authority")
}
