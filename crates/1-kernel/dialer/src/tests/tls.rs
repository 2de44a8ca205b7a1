//! TLS with an authority of our own.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use agentos_types::Code;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;

use super::{
    server::{Server, ok, redirect},
    stage::{PUBLIC, Stage, get},
};
use crate::{Dialer, DialerOptions};

/// Hands out one certificate and remembers the names that were asked for.
#[derive(Debug)]
struct OneCertificate {
    key: Arc<CertifiedKey>,
    names: Arc<Mutex<Vec<Option<String>>>>,
}

impl ResolvesServerCert for OneCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.names.lock().unwrap().push(hello.server_name().map(str::to_owned));
        Some(Arc::clone(&self.key))
    }
}

struct Authority {
    file: NamedTempFile,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(params.self_signed(&key).unwrap().pem().as_bytes()).unwrap();
        Self { file, issuer: Issuer::new(params, key) }
    }

    fn options(&self) -> DialerOptions {
        DialerOptions { extra_roots: vec![self.file.path().to_owned()], ..DialerOptions::default() }
    }

    /// An acceptor with a certificate for `name`, and the names that clients send.
    fn acceptor(&self, name: &str) -> (TlsAcceptor, Arc<Mutex<Vec<Option<String>>>>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let provider = ring::default_provider();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let names = Arc::new(Mutex::new(Vec::new()));
        let certified = CertifiedKey::from_der(chain, private, &provider).unwrap();
        let resolver = OneCertificate { key: Arc::new(certified), names: Arc::clone(&names) };
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        (TlsAcceptor::from(Arc::new(config)), names)
    }
}

#[tokio::test]
async fn an_extra_authority_is_trusted_for_its_names() {
    let authority = Authority::new();
    let (acceptor, names) = authority.acceptor("a.test");
    let server = Server::start_tls(acceptor, |_| ok("sealed")).await;
    let stage = |options: DialerOptions| {
        Stage::with(options).name("a.test", &[PUBLIC]).name("b.test", &[PUBLIC]).route(PUBLIC, server.address)
    };
    assert_eq!(stage(authority.options()).get("https://A.test./").await.as_deref(), Ok("sealed"));
    assert_eq!(*names.lock().unwrap(), [Some("a.test".to_owned())], "SNI is the URL's name");
    assert!(server.requests()[0].contains("\r\nhost: a.test\r\n"));

    let other_name = stage(authority.options()).send(get("https://b.test/")).await.unwrap_err();
    assert_eq!(other_name.code, Code::CONNECT_FAILED);
    assert_eq!(other_name.message, "the TLS certificate of b.test:443 is not valid");
    let unknown_authority = stage(Authority::new().options()).get("https://a.test/").await;
    assert_eq!(unknown_authority, Err(Code::CONNECT_FAILED));
    assert_eq!(server.requests().len(), 1, "nothing was sent to an unproven server");
}

#[tokio::test]
async fn a_certificate_for_an_address() {
    let authority = Authority::new();
    let (acceptor, names) = authority.acceptor("127.0.0.1");
    let server = Server::start_tls(acceptor, |_| ok("sealed")).await;
    let private_exceptions = vec![server.address.to_string().parse().unwrap()];
    let dialer = Dialer::new(DialerOptions { private_exceptions, ..authority.options() }).unwrap();
    let response = dialer.send(get(&format!("https://{}/", server.address)), &|_| true).await.unwrap();
    assert_eq!(response.body, b"sealed");
    assert_eq!(*names.lock().unwrap(), [None], "an address is not sent as SNI");
}

#[tokio::test]
async fn a_redirect_does_not_leave_https() {
    let authority = Authority::new();
    let (acceptor, _) = authority.acceptor("a.test");
    let server = Server::start_tls(acceptor, |_| redirect(302, "http://a.test/")).await;
    let stage = Stage::with(authority.options()).name("a.test", &[PUBLIC]).route(PUBLIC, server.address);
    let fault = stage.send(get("https://a.test/")).await.unwrap_err();
    assert_eq!(fault.code, Code::REDIRECT_DENIED);
    assert_eq!(fault.message, "the redirect from a.test:443 to a.test:80 leaves https");
    assert_eq!(stage.dialed(), [format!("{PUBLIC}:443")]);
}

#[tokio::test]
async fn a_server_without_tls_is_no_https_server() {
    let authority = Authority::new();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stage = Stage::with(authority.options()).name("a.test", &[PUBLIC]).route(PUBLIC, server.local_addr().unwrap());
    let sent = tokio::spawn(async move { stage.get("https://a.test/").await });
    let (mut stream, _) = server.accept().await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    assert_eq!(sent.await.unwrap(), Err(Code::CONNECT_FAILED));
}

#[test]
fn unusable_authorities_refuse_the_start() {
    let start = |path: std::path::PathBuf| {
        let options = DialerOptions { extra_roots: vec![path], ..DialerOptions::default() };
        Dialer::new(options).unwrap_err().code
    };
    let mut empty = NamedTempFile::new().unwrap();
    assert_eq!(start(empty.path().to_owned()), Code::CONFIG_INVALID_VALUE);
    empty.write_all(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert_eq!(start(empty.path().to_owned()), Code::CONFIG_INVALID_VALUE);
    assert_eq!(start("/nonexistent/roots.pem".into()), Code::CONFIG_INVALID_VALUE);
}
