//! The processes around ours: the mock provider, the two floors, and LiteLLM if it is installed here.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::{task::block_in_place, time::sleep};

use super::load::{Target, check};
use crate::{outside::memory::processes, place::Place};

/// The name of the model at the mock, and at whoever only forwards.
const MODEL: &str = "gpt-4o-mini";
/// It reads a megabyte of Python before it listens.
const LITELLM_PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A process that ends when this is dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    pub target: Target,
    /// Its home, if it needs one.
    _home: Option<TempDir>,
}

impl Peer {
    pub fn mock(place: &Place) -> Result<Self> {
        Self::start(place, &["mock"])
    }

    /// Forwards bytes to the mock.
    pub fn pass_through(place: &Place, mock: SocketAddr) -> Result<Self> {
        Self::start(place, &["pass-through", &mock.to_string()])
    }

    /// Parses and writes anew what it forwards to the mock.
    pub fn rewrite(place: &Place, mock: SocketAddr) -> Result<Self> {
        Self::start(place, &["rewrite", &mock.to_string()])
    }

    fn start(place: &Place, words: &[&str]) -> Result<Self> {
        let mut command = Command::new(place.program("model-peer")?);
        command.env_clear().args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("model-peer")?;
        let out = child.stdout.take().context("model-peer has no output")?;
        let mut line = String::new();
        block_in_place(|| BufReader::new(out).read_line(&mut line))?;
        let mut peer = Self { child, target: target(([127, 0, 0, 1], 0).into()), _home: None };
        peer.target.address = line.trim().parse().with_context(|| format!("model-peer {words:?} says {line:?}"))?;
        Ok(peer)
    }

    /// Of the release that the script installs, with an empty environment, a fixed price list, and the mock as its provider.
    /// The error says why there is none.
    pub async fn litellm(place: &Place, mock: SocketAddr) -> Result<Self> {
        let program = litellm_program(place);
        if !program.is_file() {
            bail!("not installed; scripts/bench-litellm.sh does it");
        }
        let directory = place.fresh("litellm-")?;
        let config = directory.path().join("config.yaml");
        std::fs::write(
            &config,
            format!(
                "model_list:\n  - model_name: {MODEL}\n    litellm_params:\n      model: openai/{MODEL}\n      \
                 api_base: http://{mock}/v1\n      api_key: none\nlitellm_settings:\n  telemetry: false\n"
            ),
        )?;
        let address = crate::outside::free_address()?;
        let mut command = Command::new(&program);
        command.env_clear().env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("HOME", directory.path());
        command.env("PATH", program.parent().context("the directory of LiteLLM")?);
        command.arg("--config").arg(&config).args(["--host", "127.0.0.1", "--num_workers", "1", "--port"]);
        command.arg(address.port().to_string()).current_dir(directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("litellm")?;
        let mut peer = Self { child, target: target(address), _home: Some(directory) };
        peer.wait(LITELLM_PATIENCE).await?;
        Ok(peer)
    }

    async fn wait(&mut self, patience: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            match check(&self.target).await {
                Ok(()) => return Ok(()),
                Err(error) if began.elapsed() > patience => return Err(error.context("it was not ready in time")),
                Err(_) => sleep(LOOK_EVERY).await,
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended before it was ready: {status}");
            }
        }
    }

    /// Resident megabytes of it and all that it has started.
    pub fn resident(&self) -> Result<f64> {
        Ok(processes(self.child.id())?.iter().map(|process| process.rss).sum())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn target(address: SocketAddr) -> Target {
    Target { address, token: "bench".into(), model: MODEL.into() }
}

/// Where the script puts it: beside the builds.
fn litellm_program(place: &Place) -> PathBuf {
    place.builds().join("peers/litellm/bin/litellm")
}
