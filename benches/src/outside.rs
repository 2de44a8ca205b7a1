//! Figures that are measured from outside, on the real programs: an installation of its own for each group, a server on
//! loopback, the command line for what an operator does, HTTP and WebSocket for what a client does.

pub mod backlog;
pub mod bombs;
pub mod crash;
pub mod density;
mod doctor;
mod echo;
mod fleet;
mod launcher;
pub mod memory;
pub mod session;
pub mod size;
pub mod start;
pub mod websocket;

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use agentos_client::Client;
use agentos_types::{
    AgentName,
    agent::{Agent, AgentState},
};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{task::block_in_place, time::sleep};

pub use self::echo::manifest as echo_manifest;
use crate::place::{Place, Programs};

/// A start or a stop that takes longer is a defect, and no figure.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that is awaited; an error of at most this much in what is timed by looking.
const LOOK_EVERY: Duration = Duration::from_micros(500);
/// Load of the benches must be limited by the benches.
const REQUESTS_PER_SECOND: &str = "gateway.requests_per_second=1000000";

/// A data directory made by `agent-os init`, removed when dropped.
pub struct Installation {
    directory: TempDir,
    programs: Programs,
    /// Of the server, as `--set` takes them.
    settings: Vec<String>,
}

/// A server in the foreground, stopped when dropped.
pub struct Server {
    child: Child,
    address: SocketAddr,
    token: String,
    pub client: Client,
}

impl Installation {
    pub fn make(place: &Place) -> Result<Self> {
        Self::make_with(place, &[])
    }

    pub fn make_with(place: &Place, settings: &[&str]) -> Result<Self> {
        Self::in_directory(place.fresh("data-")?, place, settings)
    }

    /// Whose disk costs nothing, for what is to be measured without it.
    pub fn in_memory(place: &Place, settings: &[&str]) -> Result<Self> {
        Self::in_directory(place.in_memory()?, place, settings)
    }

    fn in_directory(directory: TempDir, place: &Place, settings: &[&str]) -> Result<Self> {
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let installation = Self { directory, programs: place.programs()?, settings };
        installation.run(&["init"])?;
        Ok(installation)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// One command line of `agent-os` on this installation.
    pub fn run(&self, words: &[&str]) -> Result<()> {
        let output = block_in_place(|| self.command().args(words).stdin(Stdio::null()).output()).context("agent-os")?;
        if !output.status.success() {
            bail!("agent-os {} failed: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.programs.agent_os);
        // Settings of the person who measures must not change what is measured.
        command.env_clear().arg("--data-dir").arg(self.directory());
        command
    }

    /// From the call of exec to the first 200 of `/ready`.
    pub fn up(&self) -> Result<(Server, Duration)> {
        let address = free_address()?;
        let log = File::create(self.directory().join("bench-server.log"))?;
        let mut command = self.command();
        command.arg("up").args(self.settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
        command.args(["--set", REQUESTS_PER_SECOND, "--port"]).arg(address.port().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let began = Instant::now();
        let child = command.spawn().context("agent-os up")?;
        let token = fs::read_to_string(self.directory().join("cli.token"))?.trim().to_owned();
        let client = Client::new(format!("http://{address}"), Some(token.clone()), None)?;
        let mut server = Server { child, address, token, client };
        block_in_place(|| server.wait_until_ready(began))
            .with_context(|| format!("the server says: {}", self.last_words()))?;
        Ok((server, began.elapsed()))
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.directory().join("bench-server.log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(3).collect();
        last.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }

    /// Makes a package of one program, signs and deploys it, and waits until the agent is ready.
    pub async fn deploy(&self, server: &Server, program: &Path, manifest: &str) -> Result<Agent> {
        let package = tempfile::Builder::new().prefix("package-").tempdir_in(self.directory())?;
        let name = program.file_name().context("the program has no name")?;
        fs::copy(program, package.path().join(name))?;
        fs::write(package.path().join("agent.toml"), manifest)?;
        let shown = package.path().to_str().context("the scratch directory is not UTF-8")?;
        self.run(&["sign", shown])?;
        self.run(&["agent", "deploy", shown])?;
        let name = manifest_name(manifest)?;
        server.wait_for(&name, "ready", is_up).await
    }
}

/// The names in the manifests of the benches stand on a line of their own.
fn manifest_name(manifest: &str) -> Result<AgentName> {
    let line = manifest.lines().find_map(|line| line.strip_prefix("name = \"")).context("the manifest has no name")?;
    Ok(line.trim_end_matches('"').parse()?)
}

pub fn is_up(agent: &Agent) -> bool {
    matches!(agent.state, AgentState::Ready | AgentState::Running) && agent.pid.is_some()
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    fn wait_until_ready(&mut self, began: Instant) -> Result<()> {
        loop {
            if is_ready(self.address) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended before it was ready: {status}");
            }
            anyhow::ensure!(began.elapsed() < PATIENCE, "the server was not ready within {} s", PATIENCE.as_secs());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Looks at the agent until `wanted` holds.
    pub async fn wait_for(&self, name: &AgentName, what: &str, wanted: impl Fn(&Agent) -> bool) -> Result<Agent> {
        let began = Instant::now();
        loop {
            let agent = self.client.get_agent(name).await?;
            if wanted(&agent) {
                return Ok(agent);
            }
            if began.elapsed() > PATIENCE {
                bail!("agent {name} is {} and not {what}: {}", agent.state, agent.reason.unwrap_or_default());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// At once, in the middle of whatever it does. Its agents end with it.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// In good order, as an operator would.
    pub fn stop(self) -> Result<()> {
        self.stop_within(PATIENCE)
    }

    /// A server with very many agents has very many to end.
    fn stop_within(mut self, patience: Duration) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            anyhow::ensure!(began.elapsed() < patience, "the server did not stop within {} s", patience.as_secs());
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already after `stop` and `kill`. A group that fails must leave no workspace mounted, so it is asked first.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let began = Instant::now();
            while began.elapsed() < PATIENCE && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody else could take it before the server does; then the start fails and says so.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        connection
            .write_all(format!("GET /ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut status = [0; 12];
        connection.read_exact(&mut status)?;
        Ok(&status == b"HTTP/1.1 200")
    };
    // Refused until the server listens.
    ask().unwrap_or(false)
}
