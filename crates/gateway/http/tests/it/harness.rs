//! A gateway that listens, and the clients that talk to it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use agentos_api::{Problem, problem::PROBLEM_JSON};
use agentos_base::{Ambient, Background, Loops, Room, ambient::FakeClock};
use agentos_gateway::{Gateway, GatewayOptions, Ports, TakenAddress};
use agentos_types::{Code, Fault, Scope};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

use crate::{
    kernel::{FakeKernel, token_of},
    models::ScriptedModels,
    samples,
};

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Stage {
    pub kernel: Arc<FakeKernel>,
    pub models: Arc<ScriptedModels>,
    pub address: SocketAddr,
    pub clock: Arc<FakeClock>,
    pub background: Background,
    pub served: JoinHandle<()>,
    client: reqwest::Client,
}

pub fn options() -> GatewayOptions {
    GatewayOptions {
        tls: None,
        body_bytes_max: 64 * 1024,
        model_body_bytes_max: 128 * 1024,
        model_room: Room::new(256 * 1024),
        connections_max: 64,
        strangers_per_address_max: 64,
        requests_per_second: 100_000,
        auth_failures_max: 100_000,
        request_timeout: Duration::from_secs(10),
        version: "test",
        loops: Loops::here(),
    }
}

pub async fn stage() -> Stage {
    stage_with(options()).await
}

pub async fn stage_with(options: GatewayOptions) -> Stage {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kernel = FakeKernel::new();
    let (ambient, clock) = Ambient::fake(1, samples::NOW);
    let background = Background::default();
    let address = TakenAddress::take("127.0.0.1:0".parse().unwrap()).unwrap();
    let models = ScriptedModels::new();
    let ports = Ports { kernel: kernel.clone(), models: Some(models.clone()) };
    let gateway = Gateway::new(address, options, ports, ambient, background.clone());
    let address = gateway.local_addr();
    let served = tokio::spawn(gateway.serve());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    Stage { kernel, models, address, clock, background, served, client }
}

impl Stage {
    pub fn bare(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("http://{}{path}", self.address)).timeout(PATIENCE)
    }

    pub fn with_token(&self, scope: Scope, method: &str, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(token_of(scope))
    }

    pub fn admin(&self, method: &str, path: &str) -> RequestBuilder {
        self.with_token(Scope::Admin, method, path)
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The page of metrics, for conditions that only the server can see.
    pub async fn metrics(&self) -> String {
        self.admin("GET", "/metrics").send().await.unwrap().text().await.unwrap()
    }

    pub async fn until_metrics_contain(&self, line: &str) {
        let looking = async { while !self.metrics().await.lines().any(|found| found == line) {} };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("the metrics never had: {line}"));
    }
}

/// The problem in the response, after checking its form and that the status fits its code.
pub async fn problem(response: Response) -> Problem {
    let status = response.status().as_u16();
    let request_id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    let problem: Problem = if response.url().path().starts_with("/v1/") {
        assert_eq!(kind, "application/json", "{status} {:?}", response.url());
        told(status, &response.json().await.unwrap())
    } else {
        assert_eq!(kind, PROBLEM_JSON, "{status} {:?}", response.url());
        response.json().await.unwrap()
    };
    assert_eq!(problem.status, status);
    assert_eq!(problem.code.entry().http_status, status);
    assert_eq!(problem.kind, problem.code.page());
    assert_eq!(problem.request_id.as_ref().map(ToString::to_string), Some(request_id));
    problem
}

/// The same of an error in a protocol of models.
fn told(status: u16, body: &Value) -> Problem {
    let error = &body["error"];
    let ours = error.get("agent_os").or_else(|| body.get("agent_os")).unwrap_or_else(|| panic!("{body}"));
    let code: Code = serde_json::from_value(ours["code"].clone()).unwrap();
    let mut fault = Fault::new(code, error["message"].as_str().unwrap());
    fault.hint = ours["hint"].as_str().map(str::to_owned);
    let problem = Problem::new(&fault, serde_json::from_value(ours["request_id"].clone()).unwrap());
    Problem { status, ..problem }
}

pub async fn expect_problem(request: RequestBuilder, code: Code) -> Problem {
    let problem = problem(request.send().await.unwrap()).await;
    assert_eq!(problem.code, code, "{problem:?}");
    problem
}

/// Sends raw bytes and returns everything until the server closes.
pub async fn raw(stage: &Stage, bytes: &[u8]) -> String {
    let mut stream = stage.connect().await;
    // The server may close before it has read everything; what it answered is what counts.
    let _ = stream.write_all(bytes).await;
    until_closed(&mut stream).await
}

pub async fn until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server never closed");
    String::from_utf8(answer).unwrap()
}
