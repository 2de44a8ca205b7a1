//! Certificates for hosts whose TLS ends here, signed by an authority that only the one sandbox trusts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentos_base::Ambient;
use agentos_protocol::egress::CertificateAuthority;
use agentos_types::{Code, Fault, Result, Timestamp};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    SerialNumber, date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// Clocks inside and outside are the same one, but programs may round.
const EARLIER: Duration = Duration::from_secs(60 * 60);
const LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// A certificate is made anew long before it ends.
const REUSE: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// One key for all hosts of the sandbox: who had it could sign for none of them elsewhere.
    key: KeyPair,
    made: Mutex<HashMap<String, Made>>,
}

struct Made {
    config: Arc<ServerConfig>,
    until: Timestamp,
}

impl Authority {
    pub fn new(given: &CertificateAuthority) -> Result<Self> {
        let unusable = |source: String| {
            Fault::new(Code::CONFIG_INVALID_VALUE, "the authority of a sandbox is not usable").detail(source)
        };
        let key = KeyPair::from_pem(&given.key).map_err(|error| unusable(error.to_string()))?;
        let certificate = CertificateDer::from_pem_slice(given.certificate.as_bytes())
            .map_err(|error| unusable(error.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| unusable(error.to_string()))?;
        let key = KeyPair::generate().map_err(Fault::internal)?;
        Ok(Self { issuer, certificate, key, made: Mutex::default() })
    }

    /// How to answer as `host`. The caller has checked that it is one of the few that end here.
    pub fn config(&self, host: &str, ambient: &Ambient) -> Result<Arc<ServerConfig>> {
        let now = ambient.now();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.get(host).filter(|known| now < known.until) {
            return Ok(Arc::clone(&known.config));
        }
        let config = Arc::new(self.make(host, ambient)?);
        made.insert(host.to_owned(), Made { config: Arc::clone(&config), until: now.after(REUSE) });
        Ok(config)
    }

    fn make(&self, host: &str, ambient: &Ambient) -> Result<ServerConfig> {
        let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(Fault::internal)?;
        let now =
            date_time_ymd(1970, 1, 1) + Duration::from_millis(u64::try_from(ambient.now().as_millis()).unwrap_or(0));
        params.not_before = now - EARLIER;
        params.not_after = now + LIFE;
        params.distinguished_name = DistinguishedName::new();
        // The field holds 64 characters; clients look at the alternative name.
        params.distinguished_name.push(DnType::CommonName, "AgentOS egress");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let mut serial: [u8; 16] = ambient.random();
        // Positive, and not shortened.
        serial[0] = (serial[0] & 0x7f) | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let leaf = params.signed_by(&self.key, &self.issuer).map_err(Fault::internal)?;
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).map_err(Fault::internal)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Fault::internal)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(Fault::internal)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}
