//! Many agents of one program: packages are signed in this process, because a thousand runs of the command line would take
//! longer than everything that is measured, and sent to the server as the command line sends them.

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use agentos_api::body::DeployAgent;
use agentos_trust::{SigningKeyFile, package};
use agentos_types::{AgentName, agent::Agent};
use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Duration, sleep};

use super::{Installation, Server, is_up, manifest_name};

/// Where `agent-os init` leaves the key that signs packages.
const PUBLISHER_KEY: &str = "keys/publisher.key";
/// Between two looks at all agents, and as much more for each as keeps the answers from being most of what the server does.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOOK_EVERY_OF_EACH: Duration = Duration::from_micros(250);

/// Deployments under way at the same time: a package is copied while another one waits for the disk.
const AT_ONCE: usize = 4;

/// Agents by their names.
pub type Fleet = BTreeMap<AgentName, Agent>;

impl Installation {
    /// Deploys a package of this program under each manifest and does not wait until an agent is ready.
    pub async fn deploy_all(
        &self,
        server: &Server,
        program: &Path,
        manifests: impl IntoIterator<Item = String>,
    ) -> Result<Vec<AgentName>> {
        let key = SigningKeyFile::load(&self.directory().join(PUBLISHER_KEY))?;
        let directory = tempfile::Builder::new().prefix("package-").tempdir_in(self.directory())?;
        let name = program.file_name().context("the program has no name")?;
        fs::copy(program, directory.path().join(name))?;
        let shown = directory.path().to_str().context("the scratch directory is not UTF-8")?;
        let (mut names, mut bodies) = (Vec::new(), Vec::new());
        for manifest in manifests {
            names.push(manifest_name(&manifest)?);
            fs::write(directory.path().join(package::MANIFEST_FILE), &manifest)?;
            let envelope = String::from_utf8(package::sign_package(directory.path(), &key)?)?;
            bodies.push(DeployAgent { envelope, package: shown.to_owned() });
        }
        let deploys = stream::iter(&bodies).map(|body| server.client.deploy_agent(body));
        deploys.buffer_unordered(AT_ONCE).try_for_each(|_| std::future::ready(Ok(()))).await?;
        Ok(names)
    }
}

impl Server {
    /// Looks at all agents until there are `count` and `wanted` holds for each.
    pub async fn wait_for_all(
        &self,
        count: usize,
        patience: Duration,
        wanted: impl Fn(&Agent) -> bool,
    ) -> Result<Fleet> {
        let began = Instant::now();
        let pause = LOOK_EVERY.max(LOOK_EVERY_OF_EACH * u32::try_from(count)?);
        loop {
            let agents = self.client.list_agents().await?;
            let waiting = agents.iter().filter(|agent| !wanted(agent)).count();
            if agents.len() >= count && waiting == 0 {
                return Ok(agents.into_iter().map(|agent| (agent.name.clone(), agent)).collect());
            }
            if began.elapsed() > patience {
                let late = agents.iter().find(|agent| !wanted(agent));
                let why = late.map(|agent| format!("{} is {}: {:?}", agent.name, agent.state, agent.reason));
                bail!("{waiting} of {} agents are not ready: {}", agents.len(), why.unwrap_or_default());
            }
            sleep(pause).await;
        }
    }

    /// All of them ready.
    pub async fn wait_until_up(&self, count: usize, patience: Duration) -> Result<Fleet> {
        self.wait_for_all(count, patience, is_up).await
    }
}
