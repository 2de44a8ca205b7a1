//! An installation with providers of the test, and a program's token for its models.

use std::fs;

use agentos_api::body::CHECK_EGRESS;
use agentos_kit::{ModelServer, TestOs, Volume, eventually};
use agentos_scratch::Scratch;
use reqwest::{Client, Response};
use serde_json::{Map, Value, json};

/// A provider as the document of models names it.
pub struct Provider<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    /// With the path that its kind wants.
    pub base_url: String,
    /// Further fields of its table.
    pub more: Value,
}

impl<'a> Provider<'a> {
    /// OpenAI's protocol at a server of the kit.
    pub fn openai(name: &'a str, server: &ModelServer) -> Self {
        Self { name, kind: "openai", base_url: format!("{}/v1", server.url()), more: Value::Null }
    }

    pub fn anthropic(name: &'a str, server: &ModelServer) -> Self {
        Self {
            name,
            kind: "anthropic",
            base_url: server.url(),
            more: json!({"models": {"small": facts(), "large": facts()}}),
        }
    }

    pub fn gemini(name: &'a str, server: &ModelServer) -> Self {
        Self { name, kind: "gemini", base_url: server.url(), more: Value::Null }
    }

    pub fn with(self, more: Value) -> Self {
        Self { more, ..self }
    }

    /// What its secret holds.
    pub fn key(name: &str) -> String {
        format!("key-of-{name}-5fb1c0ffee")
    }

    fn table(&self) -> Value {
        // Half a dollar and a dollar for a million: 500 and 1,000 nano-USD for a token.
        let mut table = json!({
            "kind": self.kind, "base_url": self.base_url, "keys": [format!("{}-key", self.name)],
            "price": {"input": "0.5", "output": "1"},
        });
        for (name, value) in self.more.as_object().into_iter().flatten() {
            table[name] = value.clone();
        }
        table
    }

    fn place(&self) -> &str {
        let rest = self.base_url.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }
}

/// This protocol wants a limit for each answer, and nobody knows that of a test's model.
fn facts() -> Value {
    json!({"context": 100_000, "output_max": 4_096})
}

/// A route of the document: name and `PROVIDER/MODEL`s, in the order in which they are asked.
pub type Route<'a> = (&'a str, &'a [&'a str]);

pub struct Scene {
    pub os: TestOs,
    pub token: String,
    pub token_id: String,
    http: Client,
}

impl Scene {
    pub async fn open(providers: &[Provider<'_>], routes: &[Route<'_>]) -> Self {
        Self::open_in(TestOs::initialised().await, "", providers, routes).await
    }

    /// On a store that holds nothing yet.
    pub async fn open_on(scratch: &Scratch, providers: &[Provider<'_>], routes: &[Route<'_>]) -> Self {
        let Some((url, admin)) = scratch.urls() else { return Self::open(providers, routes).await };
        let mut os = TestOs::bare(&[("DATABASE_URL", url), ("DATABASE_ADMIN_URL", admin)]);
        os.cli_ok(&["init"]).await;
        os.unset_env("DATABASE_ADMIN_URL");
        Self::open_in(os, "", providers, routes).await
    }

    /// With further text of the configuration, in sections of its own.
    pub async fn open_with(config: &str, providers: &[Provider<'_>], routes: &[Route<'_>]) -> Self {
        Self::open_in(TestOs::initialised().await, config, providers, routes).await
    }

    /// With the official clients where every sandbox sees them. For stories of `mounted_sdks`: where the machine cannot
    /// mount they are left out and counted, by `scripts/test.sh`.
    pub async fn open_with_sdks(providers: &[Provider<'_>], routes: &[Route<'_>]) -> (Self, Volume) {
        let volume =
            Volume::memory(1).unwrap_or_else(|reason| panic!("{reason}; leave it out by: not test(mounted_sdks::)"));
        volume.show(&agentos_kit::sdks(), SDKS);
        let mut os = TestOs::initialised().await;
        let entrance = volume.entrance();
        os.enter_through(&entrance.iter().map(String::as_str).collect::<Vec<_>>());
        (Self::open_in(os, "", providers, routes).await, volume)
    }

    /// In an installation that does not run yet. `config` begins with further fields of `[dialer]`.
    pub async fn open_in(mut os: TestOs, config: &str, providers: &[Provider<'_>], routes: &[Route<'_>]) -> Self {
        let exceptions: Vec<String> = providers.iter().map(|provider| format!("{:?}", provider.place())).collect();
        let exceptions = exceptions.join(", ");
        let config = format!(
            "[models]\nprobe_interval_s = 0\n[log]\nlevel = \"debug\"\n[dialer]\nprivate_exceptions = [{exceptions}]\n{config}"
        );
        fs::write(os.home().join("agent-os.toml"), config).unwrap();
        let document = document_of(providers, routes);
        // SQLite opens nothing through the root of another process, which is the way to a volume of a test.
        let is_at_hand = os.home().join("agent-os.db").exists() && !os.home().starts_with("/proc");
        if is_at_hand {
            set_document(&os, &document);
        }
        os.up().await;
        if !is_at_hand {
            let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
            fs::write(file.path(), document.to_string()).unwrap();
            os.cli_ok(&["model", "config", "apply", file.path().to_str().unwrap()]).await;
        }
        for Provider { name, .. } in providers {
            let input = format!("{}\n", Provider::key(name));
            let set = os.cli_with_input(&["secret", "set", &format!("{name}-key")], &input).await;
            assert_eq!(set.code, 0, "{}", set.stderr);
        }
        let made = os.cli_json(&["token", "create", "program", "--role", "model-caller"]).await;
        let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { os, token: text("token"), token_id: text("id"), http: Client::new() }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.os.url())
    }

    /// Sends the bytes as they are.
    pub async fn send(&self, path: &str, body: impl Into<reqwest::Body>) -> Response {
        let request = self.http.post(self.url(path)).bearer_auth(&self.token);
        request.header("content-type", "application/json").body(body).send().await.expect("the gateway answers")
    }

    pub async fn ask(&self, path: &str, body: &Value) -> Response {
        self.send(path, body.to_string()).await
    }

    /// A question for chat completions under an idempotency key.
    pub async fn keyed(&self, key: &str, body: &Value) -> Response {
        self.try_keyed(key, body).await.expect("the gateway answers")
    }

    /// Of a server that may die meanwhile.
    pub async fn try_keyed(&self, key: &str, body: &Value) -> reqwest::Result<Response> {
        let request = self.http.post(self.url("/v1/chat/completions")).bearer_auth(&self.token);
        request.header("idempotency-key", key).json(body).send().await
    }

    pub async fn chat(&self, model: &str, stream: bool) -> Response {
        self.ask("/v1/chat/completions", &said(model, stream)).await
    }

    /// The egress proxy, once it answers.
    pub async fn proxy_pid(&self) -> u32 {
        eventually("a proxy", || async {
            let health = self.os.client().health().await.map_err(|fault| fault.to_string())?;
            let row = health.checks.iter().find(|check| check.name == CHECK_EGRESS).ok_or("no such row")?;
            row.message.strip_prefix("process ").and_then(|pid| pid.parse().ok()).ok_or_else(|| row.message.clone())
        })
        .await
    }

    /// Records of calls of models, oldest first.
    pub async fn records(&self) -> Vec<Value> {
        let listed = self.os.cli_json(&["audit", "query", "--limit", "500"]).await;
        let items = listed.as_array().or_else(|| listed["items"].as_array()).expect("a list of records");
        let mut found: Vec<Value> = items.iter().map(|record| record.get("event").unwrap_or(record).clone()).collect();
        found.retain(|record| record["action"] == "model.call");
        found.sort_by_key(|record| record["at"].to_string());
        found
    }

    pub async fn records_of(&self, phase: &str) -> Vec<Value> {
        self.records().await.into_iter().filter(|record| record["phase"] == phase).collect()
    }

    pub fn payer(&self) -> String {
        format!("token:{}", self.token_id)
    }

    /// How the first budget of a scope stands.
    pub async fn standing(&self, scope: &str) -> Value {
        let shown = self.os.cli_json(&["budget", "show", scope]).await;
        shown.as_array().or_else(|| shown["items"].as_array()).expect("a list of budgets")[0].clone()
    }

    /// Sets one of the token.
    pub async fn budget(&self, words: &[&str]) {
        let scope = self.payer();
        let words: Vec<&str> = ["budget", "set", &scope].into_iter().chain(words.iter().copied()).collect();
        self.os.cli_ok(&words).await;
    }
}

/// Where the clients are inside of sandboxes: below what every sandbox sees, and empty on most machines.
pub const SDKS: &str = "/usr/local/src";

pub fn said(model: &str, stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": "one two three"}]);
    json!({"model": model, "messages": messages, "stream": stream, "max_tokens": 40})
}

pub fn document_of(providers: &[Provider<'_>], routes: &[Route<'_>]) -> Value {
    let providers: Map<String, Value> =
        providers.iter().map(|provider| (provider.name.to_owned(), provider.table())).collect();
    let route =
        |targets: &[&str]| json!({"targets": targets.iter().map(|to| json!({"model": to})).collect::<Vec<_>>()});
    let routes: Map<String, Value> =
        routes.iter().map(|(name, targets)| ((*name).to_owned(), route(targets))).collect();
    json!({"providers": providers, "routes": routes})
}

/// As a revision that was stored before the start.
fn set_document(os: &TestOs, document: &Value) {
    let database = rusqlite::Connection::open(os.home().join("agent-os.db")).unwrap();
    let insert = "INSERT INTO model_config (revision, document, set_by, set_at) VALUES (1, ?1, '{}', 0)";
    database.execute(insert, [document.to_string()]).unwrap();
}

/// Nothing of the text may stand anywhere below the directory.
pub fn is_nowhere(directory: &std::path::Path, text: &str) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            is_nowhere(&path, text);
        } else if let Ok(bytes) = fs::read(&path) {
            assert!(!bytes.windows(text.len()).any(|part| part == text.as_bytes()), "{} shows it", path.display());
        }
    }
}
