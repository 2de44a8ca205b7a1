//! A provider whose certificate nobody trusts: a connection that failed, told as such, and not a byte of the key. With its
//! authority among the roots of the installation it is a provider like any other.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use agentos_kit::{ModelServer, TestOs};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::scene::{Provider, Scene};

/// TLS in front of a provider: it knows how many came, and how many of them said anything.
struct Front {
    port: u16,
    authority: String,
    came: Arc<AtomicUsize>,
    trusted: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Front {
    /// With a certificate for this name.
    async fn of(server: &ModelServer, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (came, trusted) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (counted, passed, behind) = (came.clone(), trusted.clone(), server.address());
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, counted, passed) = (acceptor.clone(), counted.clone(), passed.clone());
                tokio::spawn(async move {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    // A client may tell only after the handshake that it is none; what counts is what it says then.
                    let mut first = [0; 1];
                    if !matches!(tokio::io::AsyncReadExt::read(&mut stream, &mut first).await, Ok(1)) {
                        return;
                    }
                    passed.fetch_add(1, Ordering::SeqCst);
                    let mut to = TcpStream::connect(behind).await.unwrap();
                    tokio::io::AsyncWriteExt::write_all(&mut to, &first).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut to).await;
                });
            }
        });
        Self { port, authority: issuer.pem(), came, trusted, serving }
    }

    fn provider<'a>(&self, name: &'a str) -> Provider<'a> {
        let base_url = format!("https://127.0.0.1:{}/v1", self.port);
        Provider { name, kind: "openai", base_url, more: json!({"timeouts": {"connect_ms": 20_000}}) }
    }

    fn counts(&self) -> (bool, usize) {
        (self.came.load(Ordering::SeqCst) > 0, self.trusted.load(Ordering::SeqCst))
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tokio::test]
async fn a_certificate_of_nobody_we_trust_or_for_another_name_gets_no_key() {
    let server = ModelServer::start().await;
    let (foreign, other) = (Front::of(&server, "127.0.0.1").await, Front::of(&server, "elsewhere.test").await);
    let os = TestOs::initialised().await;
    // The second one is of an authority that is trusted, and for a name that is not its own.
    let roots = os.home().join("other.pem");
    std::fs::write(&roots, &other.authority).unwrap();
    let config = format!("extra_roots = [\"{}\"]\n", roots.display());
    let providers = [foreign.provider("foreign"), other.provider("other"), Provider::openai("well", &server)];
    let routes: &[(&str, &[&str])] = &[("any", &["foreign/small", "other/small", "well/small"])];
    let scene = Scene::open_in(os, &config, &providers, routes).await;
    for (name, front) in [("foreign", &foreign), ("other", &other)] {
        for stream in [false, true] {
            let answer = scene.chat(&format!("{name}/small"), stream).await;
            assert_eq!(answer.status(), 502, "{name}");
            let told: Value = answer.json().await.unwrap();
            let facts = &told["error"]["agent_os"];
            assert_eq!((&facts["code"], &facts["class"]), (&json!("AOS-2032"), &json!("connect")), "{told}");
            assert!(!told.to_string().contains(&Provider::key(name)), "{told}");
        }
        assert_eq!(front.counts(), (true, 0), "{name}: it was reached, and told nothing");
    }
    assert!(server.asked().is_empty(), "nothing has passed");
    let tested = scene.os.cli(&["provider", "test", "foreign"]).await;
    assert_ne!(tested.code, 0, "{}", tested.stdout);
    assert_eq!(foreign.counts().1, 0, "a look sends no key either");
    for outcome in scene.records_of("outcome").await {
        let facts = &outcome["facts"];
        assert_eq!((&facts["class"], &facts["nano_usd"]), (&json!("connect"), &json!(0)), "{outcome:#}");
    }
    let answer = scene.chat("any", false).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-agent-os-target"]),
        (200, &"well/small".parse().unwrap())
    );
}

#[tokio::test]
async fn a_provider_of_an_authority_of_the_operator_is_one_like_any_other() {
    let server = ModelServer::start().await;
    let front = Front::of(&server, "127.0.0.1").await;
    let os = TestOs::initialised().await;
    let roots = os.home().join("own.pem");
    std::fs::write(&roots, &front.authority).unwrap();
    let config = format!("extra_roots = [\"{}\"]\n", roots.display());
    let scene = Scene::open_in(os, &config, &[front.provider("own")], &[]).await;
    for stream in [false, true] {
        let answer = scene.chat("own/small", stream).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.text().await.unwrap().contains("three"));
    }
    assert!(server.generations().iter().all(|asked| asked.key() == Provider::key("own")));
    assert_eq!(server.generations().len(), 2);
}
