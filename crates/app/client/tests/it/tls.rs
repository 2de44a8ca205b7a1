//! TLS: an unknown certificate is refused with a way out, and the named authority is trusted.

use std::sync::Arc;

use agentos_client::Client;
use agentos_types::Code;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

/// Serves `/health` as nonsense text over TLS and returns the URL and the certificate as PEM.
async fn serve() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    (url, made.cert.pem())
}

#[tokio::test]
async fn only_a_trusted_server_gets_the_token() {
    let (url, pem) = serve().await;
    // A machine without any authority refuses even earlier, with the same code.
    let refused = match Client::new(&url, Some("token".into()), None) {
        Ok(stranger) => stranger.metrics().await.unwrap_err(),
        Err(fault) => fault,
    };
    assert_eq!(refused.code, Code::CONNECT_FAILED, "{refused}");
    let trusting = Client::new(&url, Some("token".into()), Some(pem.into_bytes())).unwrap();
    assert_eq!(trusting.metrics().await.unwrap(), "hello");
}

#[tokio::test]
async fn a_file_without_a_certificate_is_refused() {
    for pem in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let fault = Client::new("https://127.0.0.1:1", None, Some(pem.into())).unwrap_err();
        assert_eq!(fault.code, Code::USAGE, "{fault}");
    }
}
