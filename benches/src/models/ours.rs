//! Ours, as an operator sets it up: an installation, the provider in its document of models, a token of a caller of models, and
//! budgets that are far away, so that each call is reserved and settled and none is refused.

use std::{fs, net::SocketAddr};

use agentos_api::body::CreateToken;
use anyhow::{Context, Result};
use serde_json::{from_value, json};

use super::{Who, load::Target};
use crate::{
    outside::{Installation, Server, memory::processes},
    place::Place,
};

const PROVIDER: &str = "bench";
const MODEL: &str = "gpt-4o-mini";
/// Far above what a run spends.
const BUDGET_USD: &str = "1000000";
const BUDGET_TOKENS: &str = "1000000000000";
/// One client of the benches is a thousand.
const CONNECTIONS: [&str; 2] = ["gateway.connections_max=4096", "gateway.strangers_per_address_max=4096"];

pub struct Ours {
    who: Who,
    target: Target,
    server: Server,
    _installation: Installation,
}

impl Ours {
    pub async fn start(place: &Place, mock: SocketAddr, who: Who) -> Result<Self> {
        let exception = format!("dialer.private_exceptions=127.0.0.1:{}", mock.port());
        let settings: Vec<&str> = CONNECTIONS.into_iter().chain([exception.as_str()]).collect();
        let installation = match who {
            Who::Disk => Installation::make_with(place, &settings)?,
            _ => Installation::in_memory(place, &settings)?,
        };
        let (server, _) = installation.up()?;
        let document = installation.directory().join("models.json");
        fs::write(&document, document_of(mock))?;
        let document = document.to_str().context("the scratch directory is not UTF-8")?;
        installation.run(&["model", "config", "apply", document])?;
        let made = server.client.create_token(&caller()?).await.context("a token")?;
        if who != Who::Memory {
            let scope = format!("token:{}", made.info.id);
            installation.run(&["budget", "set", &scope, "--per", "day", "--usd", BUDGET_USD])?;
            installation.run(&["budget", "set", &scope, "--per", "minute", "--tokens", BUDGET_TOKENS])?;
        }
        let target = Target { address: server.address(), token: made.token, model: format!("{PROVIDER}/{MODEL}") };
        Ok(Self { who, target, server, _installation: installation })
    }

    pub fn who(&self) -> Who {
        self.who
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Megabytes of the server and its launchers.
    pub fn resident(&self) -> Result<f64> {
        Ok(processes(self.server.pid())?.iter().map(|process| process.rss).sum())
    }
}

fn caller() -> Result<CreateToken> {
    Ok(from_value(json!({"name": "bench", "role": "model-caller"}))?)
}

/// An invented provider of OpenAI's protocol with the prices of a small model of today.
fn document_of(mock: SocketAddr) -> String {
    let model = json!({"context": 128_000, "output_max": 16_384, "price": {"input": "0.15", "output": "0.60"}});
    let provider =
        json!({"kind": "openai-compatible", "base_url": format!("http://{mock}/v1"), "models": {MODEL: model}});
    json!({"providers": {PROVIDER: provider}}).to_string()
}
