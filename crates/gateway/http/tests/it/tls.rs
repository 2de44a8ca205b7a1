//! TLS: a round trip, what is not offered, and what is not accepted.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};

use agentos_gateway::{GatewayOptions, tls::server_config};
use agentos_types::{Code, Scope};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use crate::{
    harness::{Stage, options, stage_with, until_closed},
    kernel::token_of,
};

struct Files {
    directory: tempfile::TempDir,
    certificate_pem: String,
}

impl Files {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = Self { directory: tempfile::tempdir().unwrap(), certificate_pem: made.cert.pem() };
        fs::write(files.certificate(), &files.certificate_pem).unwrap();
        fs::write(files.key(), made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(files.key(), fs::Permissions::from_mode(0o600)).unwrap();
        files
    }

    fn certificate(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    async fn stage(&self, change: impl FnOnce(&mut GatewayOptions)) -> Stage {
        let config = server_config(&self.certificate(), &self.key()).unwrap();
        let mut options = GatewayOptions { tls: Some(Arc::new(config)), ..options() };
        change(&mut options);
        stage_with(options).await
    }

    fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

async fn round_trip(files: &Files, stage: &Stage) -> String {
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = files.connector().connect(name, stage.connect().await).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    stream.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_round_trip_over_tls_and_nothing_over_plain_http() {
    let files = Files::new();
    let stage = files.stage(|_| {}).await;
    let answer = round_trip(&files, &stage).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"status":"ok"}"#), "{answer}");
    let mut plain = stage.connect().await;
    plain.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes).await;
    assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");
}

#[tokio::test]
async fn a_full_server_says_so_inside_tls() {
    let files = Files::new();
    let stage = files.stage(|options| options.connections_max = 1).await;
    let name = ServerName::try_from("localhost").unwrap();
    let mut known = files.connector().connect(name, stage.connect().await).await.unwrap();
    let ask =
        format!("GET /api/v1/agents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", token_of(Scope::Read));
    known.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    known.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    // A token holds the only place, so the next one is refused, in TLS.
    let answer = round_trip(&files, &stage).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("AOS-1709"), "{answer}");
}

#[tokio::test]
async fn a_silent_handshake_is_cut_and_makes_room_before() {
    let files = Files::new();
    let change = |options: &mut GatewayOptions| {
        options.connections_max = 1;
        options.request_timeout = Duration::from_millis(500);
    };
    let stage = files.stage(change).await;
    let mut silent = stage.connect().await;
    assert!(round_trip(&files, &stage).await.starts_with("HTTP/1.1 200"), "the silent connection has no right to stay");
    assert_eq!(until_closed(&mut silent).await, "");
    let mut silent = stage.connect().await;
    assert_eq!(until_closed(&mut silent).await, "", "nor for longer than a handshake may take");
}

#[test]
fn unusable_files_are_refused() {
    let check = |change: fn(&Files), code: Code, part: &str| {
        let files = Files::new();
        change(&files);
        let fault = server_config(&files.certificate(), &files.key()).unwrap_err();
        assert_eq!(fault.code, code, "{fault}");
        assert!(fault.message.contains(part), "{fault} lacks {part}");
    };
    let invalid = Code::CONFIG_INVALID_VALUE;
    check(|files| fs::remove_file(files.certificate()).unwrap(), invalid, "cert.pem");
    check(|files| fs::write(files.certificate(), "").unwrap(), invalid, "certificate chain");
    check(|files| fs::remove_file(files.key()).unwrap(), invalid, "key.pem");
    check(|files| fs::write(files.key(), "x").unwrap(), invalid, "private key");
    check(|files| assert!(fs::copy(Files::new().key(), files.key()).is_ok()), invalid, "key of the certificate");
    check(|files| fs::set_permissions(files.key(), fs::Permissions::from_mode(0o644)).unwrap(), Code::FILE_MODE, "644");
}
