//! A site of several names on one loopback address of its own: plain at port 80, over TLS at port 443. It keeps the head of
//! every request.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use agentos_kit::eventually;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// Heads above this size are none of these tests.
const HEAD_BYTES_MAX: usize = 64 * 1024;

pub struct Site {
    address: IpAddr,
    authority: String,
    heads: Arc<Mutex<Vec<String>>>,
    servers: Vec<JoinHandle<()>>,
}

impl Site {
    pub async fn open(names: &[&str]) -> Self {
        let (acceptor, authority) = certified(names);
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (address, plain, secure) = listen().await;
        let kept = heads.clone();
        let plain = tokio::spawn(async move {
            while let Ok((stream, _)) = plain.accept().await {
                tokio::spawn(serve(stream, kept.clone()));
            }
        });
        let kept = heads.clone();
        let secure = tokio::spawn(async move {
            while let Ok((stream, _)) = secure.accept().await {
                let (acceptor, kept) = (acceptor.clone(), kept.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, kept).await;
                    }
                });
            }
        });
        Self { address, authority, heads, servers: vec![plain, secure] }
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// PEM of who signed its certificate.
    pub fn authority(&self) -> String {
        self.authority.clone()
    }

    /// Heads of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// `PATH#N`: the path was asked for that often.
    pub async fn has_seen(&self, wanted: &str) {
        let (path, times) = wanted.split_once('#').unwrap();
        let times: usize = times.parse().unwrap();
        eventually(wanted, || async {
            let seen = self.requests();
            let count = seen.iter().filter(|head| head.contains(&format!(" {path} "))).count();
            if count >= times { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

/// Both ports on one address of 127/8, all of which is this machine; the first that is free.
async fn listen() -> (IpAddr, TcpListener, TcpListener) {
    let own = std::process::id();
    for attempt in 0..100_u32 {
        let number = own.wrapping_mul(31).wrapping_add(attempt);
        let octet = |shift: u32| u8::try_from((number >> shift) % 250 + 1).unwrap();
        let address: IpAddr = Ipv4Addr::new(127, 90, octet(8), octet(0)).into();
        let bind = |port: u16| TcpListener::bind(SocketAddr::new(address, port));
        if let (Ok(plain), Ok(secure)) = (bind(80).await, bind(443).await) {
            return (address, plain, secure);
        }
    }
    panic!("no loopback address has its ports 80 and 443 free");
}

fn certified(names: &[&str]) -> (TlsAcceptor, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "An authority of the test");
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), issuer.pem())
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, heads: Arc<Mutex<Vec<String>>>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) if head.len() < HEAD_BYTES_MAX => head.push(byte),
                _ => return,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        heads.lock().unwrap().push(head.clone());
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let host = head.lines().find_map(|line| line.to_lowercase().strip_prefix("host: ").map(str::to_owned));
        let method = head.split(' ').next().unwrap_or_default();
        let answer = match target.as_str() {
            // Never answered.
            "/slow" => std::future::pending().await,
            "/redirect" => {
                "HTTP/1.1 302 Found\r\nlocation: https://evil.test/caught\r\ncontent-length: 0\r\n\r\n".to_owned()
            }
            _ => {
                let body = format!("{method} {target} at {}", host.unwrap_or_default());
                // What came is sent back as well.
                let echo =
                    head.lines().find(|line| line.to_lowercase().starts_with("x-api-key")).unwrap_or("x-none: 1");
                format!("HTTP/1.1 200 OK\r\n{echo}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            }
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
