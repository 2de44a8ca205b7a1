//! The judge of the server with a real store, log and secrets: what is granted gets its secret, and nothing else does.

use std::sync::Arc;

use agentos_audit::{Filter, LogIdentity, LogWriter, query};
use agentos_authority::{Authorized, Caller, Credential, GrantSet};
use agentos_base::{Ambient, redact::Redactor};
use agentos_monitor::{Call, Executors, Monitor, Rules};
use agentos_protocol::egress::{Refusal, Verdict, Wish};
use agentos_secrets::{SecretString, Secrets, SecretsKey};
use agentos_store::{Store, StoreOptions, Tx};
use agentos_tasks::{Tasks, TasksOptions};
use agentos_types::{Actor, Fault, Manifest, Result, Timestamp, audit::AuditEvent};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::fake::caller;
use crate::control::{Guest, Judge, MonitorJudge};

const LOG: &str = "node-1";
const SECRET: &str = "correct-horse-battery";
const START: Timestamp = Timestamp(1_800_000_000_000_000);

/// Calls are not what is tested here.
struct NoCalls;

#[async_trait]
impl Executors for NoCalls {
    fn local(&self, _: &mut Tx<'_>, _: Authorized<Call>) -> Result<Value> {
        Err(Fault::internal("no calls"))
    }

    async fn outward(&self, _: Authorized<Call>) -> Result<Value> {
        Err(Fault::internal("no calls"))
    }
}

struct Door {
    judge: MonitorJudge,
    store: Store,
    redactor: Redactor,
    _directory: tempfile::TempDir,
}

impl Door {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (ambient, _) = Ambient::fake(3, START);
        let identity = LogIdentity::new(LOG, &[5; 32]).unwrap();
        let store = Store::open(StoreOptions {
            directory: directory.path().into(),
            database: None,
            queue_max: 64,
            readers: 1,
            sequencer: Some(Box::new(LogWriter::new(identity, ambient.clone()))),
            ambient: ambient.clone(),
        })
        .unwrap();
        let redactor = Redactor::default();
        let key = SecretsKey::new([9; 32]);
        let secrets = Secrets::open(store.clone(), ambient.clone(), key, redactor.clone()).await.unwrap();
        let options = TasksOptions {
            node: LOG.into(),
            attempts_max: 1,
            lease: std::time::Duration::from_secs(1),
            queue_max: 1,
            interval_min: std::time::Duration::from_secs(1),
        };
        let tasks = Tasks::new(store.clone(), ambient.clone(), options);
        let monitor =
            Monitor::new(store.clone(), tasks, ambient, Box::new(NoCalls), redactor.clone(), Rules::default());
        Self { judge: MonitorJudge { monitor, secrets }, store, redactor, _directory: directory }
    }

    async fn secret(&self, value: &str) {
        let value = SecretString::from(value.to_owned());
        self.judge.secrets.set(&Actor::System, &"key".parse().unwrap(), value).await.unwrap();
    }

    async fn verdict(&self, guest: &Guest, wish: &Wish) -> Verdict {
        self.judge.judge(guest, wish).await.verdict
    }

    async fn records(&self) -> Vec<AuditEvent> {
        let filter = Filter { limit: 500, ascending: true, ..Filter::default() };
        let found = self.store.read(move |conn| query(conn, LOG, &filter)).await.unwrap();
        found
            .into_iter()
            .map(|stored| stored.record.event)
            .filter(|event| event.action.starts_with("egress."))
            .collect()
    }
}

fn guest() -> Guest {
    let manifest: Manifest = serde_json::from_value(json!({
        "schema": 1, "name": "web", "version": "1.0.0", "command": ["x"],
        "grants": [
            {"category": "net", "actions": ["connect"], "resources": ["tcp://*.example.com:443", "tcp://*.example.com:80"]},
            {"category": "secret", "actions": ["use"], "resources": ["key@api.example.com"]},
        ],
        "egress": {"credentials": [
            {"host": "api.example.com", "header": "Authorization", "value": "Bearer ${secret:key}"},
        ]},
    }))
    .unwrap();
    let grants = Arc::new(GrantSet::compile(&manifest.grants).unwrap());
    assert!(Credential::compile(&manifest, &grants).is_ok());
    Guest::of(Caller { grants, ..caller("web", &[]) }, &manifest, None, START).unwrap().unwrap()
}

fn request(host: &str, port: u16, is_tls: bool) -> Wish {
    Wish::Request { host: host.into(), port, is_tls, method: "POST".into(), path: "/v1".into() }
}

#[tokio::test]
async fn a_secret_is_revealed_for_its_host_over_tls_and_for_nothing_else() {
    let door = Door::open().await;
    door.secret(SECRET).await;
    let guest = guest();
    assert!(guest.certificate().unwrap().contains("BEGIN CERTIFICATE"));
    for (wish, expected) in [
        (request("api.example.com", 443, true), Some(vec![("authorization".to_owned(), format!("Bearer {SECRET}"))])),
        (request("API.Example.com.", 443, true), Some(vec![("authorization".to_owned(), format!("Bearer {SECRET}"))])),
        (request("api.example.com", 80, false), Some(Vec::new())),
        (request("other.example.com", 443, true), Some(Vec::new())),
        (Wish::Connect { host: "api.example.com".into(), port: 443 }, Some(Vec::new())),
        (Wish::Name { host: "api.example.com".into() }, Some(Vec::new())),
        // Where a redirect of the granted host could send the program.
        (request("evil.example", 443, true), None),
        (request("api.example.com.evil.example", 443, true), None),
    ] {
        let verdict = door.verdict(&guest, &wish).await;
        assert!(!format!("{verdict:?}").contains(SECRET), "{verdict:?}");
        match (verdict, expected) {
            (Verdict::Allowed { headers, .. }, Some(expected)) => assert_eq!(headers, expected, "{wish:?}"),
            (Verdict::Denied { code, .. }, None) => assert_eq!(code, "AOS-1401"),
            (verdict, _) => panic!("{wish:?}: {verdict:?}"),
        }
    }
}

/// A server that echoes the secret into what the program then asks for makes it visible nowhere that we write.
#[tokio::test]
async fn an_echoed_secret_is_masked_in_every_record() {
    let door = Door::open().await;
    door.secret(SECRET).await;
    let guest = guest();
    let path = format!("/back/{SECRET}");
    for host in ["api.example.com", "evil.example"] {
        let wish =
            Wish::Request { host: host.into(), port: 443, is_tls: true, method: "GET".into(), path: path.clone() };
        door.verdict(&guest, &wish).await;
    }
    let leaking = format!("{SECRET}.evil.example");
    for wish in [Wish::Name { host: leaking.clone() }, Wish::Connect { host: leaking.clone(), port: 443 }] {
        let Verdict::Denied { message, .. } = door.verdict(&guest, &wish).await else { panic!("{wish:?}") };
        assert!(!message.contains(SECRET), "{message}");
    }
    door.judge.refused(&guest, Some(&leaking), Refusal::NoName).await;
    let records = door.records().await;
    assert_eq!(records.len(), 5);
    for record in &records {
        let text = serde_json::to_string(record).unwrap();
        assert!(!text.contains(SECRET), "{text}");
    }
    assert_eq!(door.redactor.clean(SECRET), "[redacted]");
}

#[tokio::test]
async fn without_its_secret_a_request_is_refused_and_its_intent_has_an_outcome() {
    let door = Door::open().await;
    let guest = guest();
    let wish = request("api.example.com", 443, true);
    let Verdict::Denied { code, .. } = door.verdict(&guest, &wish).await else { panic!("no secret is set") };
    assert_eq!(code, "AOS-1801");
    // A secret that would write headers of its own.
    door.secret("first-line\r\nhost: evil.example").await;
    let Verdict::Denied { code, message } = door.verdict(&guest, &wish).await else { panic!("two lines") };
    assert_eq!(code, "AOS-1803");
    assert!(!message.contains("evil"), "{message}");
    let records = door.records().await;
    let phases: Vec<&str> = records.iter().map(|record| record.phase.as_str()).collect();
    assert_eq!(phases, ["intent", "outcome", "intent", "outcome"]);
    assert_eq!(records[1].facts["code"], json!("AOS-1801"));
}
