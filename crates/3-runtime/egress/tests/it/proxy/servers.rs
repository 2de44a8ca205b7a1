//! The outside world of a test: servers on loopback addresses of their own, and clients that say exactly what they are told.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{PrivateKeyDer, ServerName},
};
use tempfile::NamedTempFile;

use super::{network::tcp_listener, stage::PATIENCE};

/// Where the targets of the tests are. Not 127.0.0.1, so that a mistake shows.
pub const OUTSIDE: &str = "127.88.0.1";
pub const PROXY: &str = "127.0.0.1:3128";

/// Serves each connection with the function, in a thread of its own.
pub fn serve(address: &str, port: u16, work: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let ip: IpAddr = address.parse().unwrap();
    let listener = TcpListener::from(tcp_listener((ip, port).into()));
    let address = listener.local_addr().unwrap();
    let work = Arc::new(work);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), work) = (stream, Arc::clone(&work)) else { return };
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            thread::spawn(move || work(stream));
        }
    });
    address
}

/// Gives back what it gets.
pub fn echo(address: &str, port: u16) -> SocketAddr {
    serve(address, port, |mut stream| {
        let mut reader = stream.try_clone().unwrap();
        let _ = io::copy(&mut reader, &mut stream);
    })
}

/// Answers each request with the text given, and tells what it has read.
pub fn http(address: &str, port: u16, answer: &str) -> mpsc::Receiver<String> {
    let (told, requests) = mpsc::channel();
    let answer = answer.to_owned();
    serve(address, port, move |mut stream| {
        while let Ok(head) = read_head(&mut stream) {
            if head.is_empty() {
                return;
            }
            let _ = told.send(head);
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    requests
}

pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Up to the empty line; empty at the end.
pub fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            break;
        }
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head).unwrap())
}

pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Says it, closes its side, and reads all that comes back. A reset at the end is an end.
pub fn say(address: &str, text: impl AsRef<[u8]>) -> String {
    let mut stream = connect(address);
    // Who is refused early may be cut off while he still speaks.
    let _ = stream.write_all(text.as_ref());
    read_rest(&mut stream)
}

pub fn read_rest(stream: &mut impl Read) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Opens a tunnel and gives it back with the answer.
pub fn tunnel(target: &str) -> (TcpStream, String) {
    let mut stream = connect(PROXY);
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).unwrap();
    let answer = read_head(&mut stream).unwrap();
    (stream, answer)
}

/// A certificate authority of the test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "An authority");
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    pub fn file(&self) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(self.pem().as_bytes()).unwrap();
        file
    }

    pub fn server(&self, name: &str) -> Arc<ServerConfig> {
        self.server_speaking(name, &[])
    }

    /// One that prefers these protocols in this order.
    pub fn server_speaking(&self, name: &str, protocols: &[&str]) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    pub fn client(&self, name: &str, stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
        self.client_speaking(name, stream, &[])
    }

    pub fn client_speaking(
        &self,
        name: &str,
        stream: TcpStream,
        protocols: &[&str],
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
    }
}

pub fn over_tls(config: &Arc<ServerConfig>, stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
    StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), stream)
}

/// A server of TLS that answers each request with "ok" and tells what it has read.
pub fn https(authority: &Authority, name: &str, address: &str, port: u16) -> mpsc::Receiver<String> {
    let (told, requests) = mpsc::channel();
    let config = authority.server(name);
    serve(address, port, move |stream| {
        let mut stream = over_tls(&config, stream);
        while let Ok(head) = read_head(&mut stream) {
            if head.is_empty() || told.send(head).is_err() || stream.write_all(OK.as_bytes()).is_err() {
                return;
            }
        }
    });
    requests
}

/// The next one that came, within a time in which everything on this machine arrives.
pub fn next<T>(requests: &mpsc::Receiver<T>) -> T {
    requests.recv_timeout(PATIENCE).expect("a request at the target")
}

/// Nothing has come. Asked after the proxy has answered, so there is nothing to wait for.
pub fn none<T>(requests: &mpsc::Receiver<T>) -> bool {
    requests.recv_timeout(Duration::ZERO).is_err()
}
