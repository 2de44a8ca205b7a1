//! TLS for the gateway: one crypto provider (ring), TLS 1.3 and 1.2, HTTP/1.1.

use std::{fs, path::Path, sync::Arc};

use agentos_base::fs::read_private;
use agentos_types::{Code, Fault, Result, fault::OrFault};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::{TLS12, TLS13},
};

/// Reads a certificate chain and its private key. The key file must be readable by its owner only.
pub fn server_config(cert_pem_path: &Path, key_pem_path: &Path) -> Result<ServerConfig> {
    let unusable = |path: &Path, what: &str| format!("{} is not {what}", path.display());
    let chain = fs::read(cert_pem_path)
        .or_fault(Code::CONFIG_INVALID_VALUE, unusable(cert_pem_path, "readable"))
        .and_then(|pem| {
            CertificateDer::pem_slice_iter(&pem)
                .collect::<std::result::Result<Vec<_>, _>>()
                .or_fault(Code::CONFIG_INVALID_VALUE, unusable(cert_pem_path, "a certificate chain in PEM form"))
        })?;
    if chain.is_empty() {
        return Err(Fault::new(Code::CONFIG_INVALID_VALUE, unusable(cert_pem_path, "a certificate chain in PEM form")));
    }
    let key = PrivateKeyDer::from_pem_slice(&read_private(key_pem_path, Code::CONFIG_INVALID_VALUE)?)
        .or_fault(Code::CONFIG_INVALID_VALUE, unusable(key_pem_path, "a private key in PEM form"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(Fault::internal)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .or_fault(Code::CONFIG_INVALID_VALUE, unusable(key_pem_path, "the key of the certificate"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // The order of the suites is ours: strongest first.
    config.ignore_client_order = true;
    Ok(config)
}
