//! TLS to a provider: its certificate decides, and a wrong one is a connection that failed.

use std::{path::PathBuf, sync::Arc, time::Duration};

use agentos_dialer::{Reach, SystemResolver, Tls};
use agentos_models::{Upstream, UpstreamOptions};
use agentos_router::Kind;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::{
    house::{House, answer, header, hello, target, whole},
    provider::{Play, Provider},
};

/// A provider behind a certificate of its own for 127.0.0.1, which answers everything with the answer; and its file.
async fn secured(directory: &std::path::Path) -> (String, PathBuf) {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let file = directory.join("authority.pem");
    std::fs::write(&file, certified.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut buffer = vec![0; 64 * 1024];
                while matches!(stream.read(&mut buffer).await, Ok(1..)) {
                    let text = answer();
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
                    let _ = stream.write_all(format!("{head} {}\r\n\r\n{text}", text.len()).as_bytes()).await;
                    let _ = stream.flush().await;
                }
            });
        }
    });
    (format!("https://{address}/v1"), file)
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_a_connection_that_failed() {
    let directory = tempfile::tempdir().unwrap();
    let (url, file) = secured(directory.path()).await;
    let well = Provider::always(Play::Whole(200, "", answer())).await;
    let mut first = target(Kind::Openai, &well);
    first.base_url.clone_from(&url);
    first.waits.connect = Duration::from_secs(20);
    let targets = vec![first, target(Kind::OpenaiCompatible, &well)];
    let house = House::new(targets.clone()).await;
    let reply = house.chat(hello(false)).await;
    assert_eq!((reply.status, header(&reply, "x-agent-os-target")), (200, Some("openai-compatible/m1")));
    let reports = house.reports.lock().unwrap().clone();
    assert!(format!("{:?}", reports[0]).contains("connect"), "{reports:?}");

    let upstream = Upstream::new(UpstreamOptions {
        reach: Reach::new(Arc::new(SystemResolver::default())),
        tls: Tls::new(&[file]).unwrap(),
        private_exceptions: vec![url[8..].trim_end_matches("/v1").parse().unwrap()],
    });
    let house = House::through(targets, upstream).await;
    let reply = house.chat(hello(false)).await;
    assert_eq!(header(&reply, "x-agent-os-target"), Some("openai/m1"));
    assert_eq!(whole(reply), answer());
}
