//! Models in the load: a provider that bills each answer alike and writes down what it was asked, clients of the gateway that use
//! their budget up to its end, and an operator who then gives them a little more.

use agentos_client::Client;
use agentos_judge::Ask;
use agentos_kit::{Act, Asked, ModelServer, TestOs};
use agentos_types::{Code, Fault, Result};
use serde_json::{Value, json};

/// 500 and 1,000 nano-USD for a token: what the document below says.
const USAGE: (u64, u64) = (10, 40);
const COST_NANO_USD: i64 = 45_000;
/// Room for some ten calls; what a death forfeits is part of it.
const MORE_NANO_USD: i64 = 500_000;
/// Room for some four calls of one task.
const RUN_USD: &str = "0.00025";
/// First word of the questions of clients, and how the steps of those from inside of a sandbox begin.
const CLIENT: &str = "client";
const INSIDE: &str = "inside";

pub struct Thinking {
    server: ModelServer,
    http: reqwest::Client,
    token: String,
    token_id: String,
    asked: u64,
    /// Requests whose whole answer has come.
    answers: Vec<String>,
    amount: i64,
    is_short: bool,
}

impl Thinking {
    pub async fn new() -> Self {
        let server = ModelServer::start().await;
        server.always(Act::Usage(USAGE.0, USAGE.1));
        // Refused when another test of this process was first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (token, token_id) = (String::new(), String::new());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { server, http, token, token_id, asked: 0, answers: Vec::new(), amount: 0, is_short: true }
    }

    pub fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// On a server that runs.
    pub async fn open(&mut self, os: &TestOs) {
        let document = json!({
            "providers": {"alpha": {
                "kind": "openai", "base_url": format!("{}/v1", self.server.url()), "keys": ["alpha-key"],
                "price": {"input": "0.5", "output": "1"},
            }},
            "routes": {"fast": {"targets": [{"model": "alpha/small"}]}},
        });
        let file = os.home().join("models.json");
        std::fs::write(&file, document.to_string()).unwrap();
        os.cli_ok(&["model", "config", "apply", file.to_str().unwrap()]).await;
        let set = os.cli_with_input(&["secret", "set", "alpha-key"], "key-of-alpha").await;
        assert_eq!(set.code, 0, "{}", set.stderr);
        let made = os.cli_json(&["token", "create", "thinker", "--role", "model-caller"]).await;
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (self.token, self.token_id) = (text("token"), text("id"));
        for scope in ["runs-of:steady", "runs-of:lone"] {
            os.cli_ok(&["budget", "set", scope, "--usd", RUN_USD]).await;
        }
    }

    /// Two questions at once, one of them for a stream. Fails when the server has stopped to answer.
    pub async fn ask(&mut self, client: &Client, url: &str) -> Result<()> {
        if self.is_short {
            self.give_more(client).await?;
        }
        let first = self.asked;
        self.asked += 2;
        let (one, other) = tokio::join!(self.question(url, first, false), self.question(url, first + 1, true));
        for answered in [one, other] {
            match answered.map_err(|error| Fault::new(Code::CONNECTION_LOST, error.to_string()))? {
                (200, id, text) if is_whole(&text) => self.answers.push(id),
                // The head was read before the death, and the end was not.
                (200, _, _) => return Err(Fault::new(Code::CONNECTION_LOST, "half an answer")),
                (402, ..) => self.is_short = true,
                (503, ..) => {}
                (status, _, text) => panic!("{status}: {text}"),
            }
        }
        Ok(())
    }

    /// The operator's word may be lost with the server; the next one says more.
    async fn give_more(&mut self, client: &Client) -> Result<()> {
        self.amount += MORE_NANO_USD;
        let scope = format!("token:{}", self.token_id);
        let body = json!({"scope": scope, "period": "total", "unit": "nano-usd", "amount": self.amount});
        client.set_budget(&serde_json::from_value(body).unwrap()).await?;
        self.is_short = false;
        Ok(())
    }

    async fn question(&self, url: &str, number: u64, stream: bool) -> reqwest::Result<(u16, String, String)> {
        let messages = json!([{"role": "user", "content": format!("{CLIENT} {number}")}]);
        let body = json!({"model": "fast", "messages": messages, "stream": stream, "max_tokens": USAGE.1});
        let request = self.http.post(format!("{url}/v1/chat/completions")).bearer_auth(&self.token);
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await?;
        let id = answer.headers().get("x-agent-os-request-id").map(|id| id.to_str().unwrap().to_owned());
        Ok((answer.status().as_u16(), id.unwrap_or_default(), answer.text().await?))
    }

    /// What the provider has received and what clients have, for the judge.
    pub fn told(&self) -> (Vec<Ask>, Vec<String>) {
        (self.server.generations().iter().map(|asked| self.ask_of(asked)).collect(), self.answers.clone())
    }

    fn ask_of(&self, asked: &Asked) -> Ask {
        let body = asked.json();
        let text = body["messages"][0]["content"].as_str().unwrap().to_owned();
        let (key, step) = text.split_once(' ').unwrap();
        // Of a stream whose client went away the provider's bill is its own; an answer that is out is billed.
        let is_billed = asked.is_finished && !asked.is_stream();
        let cost_nano_usd = if is_billed { COST_NANO_USD } else { 0 };
        if key == CLIENT {
            return Ask { payer: Some(format!("token:{}", self.token_id)), cost_nano_usd, ..Ask::default() };
        }
        let (task_key, is_inside) = (key.to_owned(), step.starts_with(INSIDE));
        Ask { task_key, step: step.to_owned(), is_inside, payer: None, cost_nano_usd }
    }
}

/// The answer, or the stream up to its end; an error inside of a stream is none.
fn is_whole(text: &str) -> bool {
    let whole = |text: &str| serde_json::from_str::<Value>(text).is_ok_and(|body| body["choices"].is_array());
    text.trim_end().ends_with("data: [DONE]") || whole(text)
}
