//! Figures of the wall alone, without a server: how soon a program runs in a full sandbox and what each wall adds to it, and
//! what a sandbox holds of the machine. Everything is measured over the crates that the server uses, on the real launcher.

pub mod elsewhere;
pub mod idle;
mod layers;
pub mod peers;
pub mod run;
pub mod spawn;

use std::{
    io::{BufRead, BufReader, Write},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    time::Duration,
};

use agentos_limits::{Cgroups, Group, GroupLimits};
use agentos_protocol::sandbox::{Descriptor, Listener, Profile, SandboxOrder};
use agentos_sandbox::{
    Backend, Running, SandboxOptions, Sandboxes,
    plan::{HostRoot, Plan},
};
use agentos_types::manifest::LimitEnforcement;
use anyhow::{Context, Result};
use rustix::pipe::pipe;
use tokio::{task::spawn_blocking, time::timeout};

/// A sandbox that is not there by now is a defect, and no figure.
const PATIENCE: Duration = Duration::from_secs(30);
/// Users of the host for sandboxes of the benches, far from those of people and from those of a server's agents.
pub const FIRST_HOST_ID: u32 = 0x6000_0000;
const MEMORY_BYTES: u64 = 256 << 20;

/// Everything that makes sandboxes.
pub struct Workbench {
    pub sandboxes: Sandboxes,
    pub cgroups: Option<Cgroups>,
    host: Arc<HostRoot>,
    package: std::path::PathBuf,
    is_root: bool,
}

/// One program in its sandbox, with the ends of its pipes.
pub struct Inmate {
    running: Running,
    /// Removed with it.
    group: Option<Group>,
    input: std::fs::File,
    output: BufReader<std::fs::File>,
}

impl Workbench {
    /// `programs` holds the launcher and `first-word`.
    pub fn open(programs: &Path, with_cgroups: bool) -> Result<Self> {
        let options = SandboxOptions { launcher: programs.join("agent-os-launch"), backend: Backend::Native };
        Self::with(options, programs, with_cgroups)
    }

    fn with(options: SandboxOptions, programs: &Path, with_cgroups: bool) -> Result<Self> {
        Ok(Self {
            sandboxes: Sandboxes::open(options)?,
            cgroups: with_cgroups.then(|| Cgroups::probe("bench")),
            host: Arc::new(HostRoot::survey(Path::new("/"))?),
            package: std::fs::canonicalize(programs)?,
            is_root: rustix::process::geteuid().is_root(),
        })
    }

    /// The sandbox of an ordinary agent: all namespaces, proxy listeners, root file system, filter, Landlock.
    pub fn plan(&self, number: u32, kind: &str) -> Plan {
        let mut plan = Plan::new(self.host.clone(), vec!["/app/first-word".into(), kind.into()]);
        plan.package = Some(self.package.clone());
        plan.listeners = vec![Listener::Tcp(3128), Listener::Tcp(80), Listener::Tcp(443)];
        plan.host_id = self.is_root.then(|| FIRST_HOST_ID + number);
        plan.descriptors = vec![Descriptor::Stdin, Descriptor::Stdout];
        plan
    }

    pub fn group(&self, number: u32, limits: &GroupLimits) -> Result<Option<Group>> {
        let Some(cgroups) = &self.cgroups else { return Ok(None) };
        let name = format!("bench-{number}");
        Ok(Some(cgroups.create(&name, limits, LimitEnforcement::Degraded)?))
    }

    /// Returns when the program has said its first word.
    pub async fn start(&self, plan: &Plan, group: Option<Group>) -> Result<Inmate> {
        self.carry_out(plan.order()?, group).await
    }

    async fn carry_out(&self, order: SandboxOrder, group: Option<Group>) -> Result<Inmate> {
        let (input_end, input) = pipe()?;
        let (output, output_end) = pipe()?;
        let (order, descriptors) = with_group(order, vec![input_end, output_end], group.as_ref())?;
        let running = self.sandboxes.spawn(Profile::Agent, order, descriptors).await?;
        let mut inmate =
            Inmate { running, group, input: input.into(), output: BufReader::new(std::fs::File::from(output)) };
        let word = inmate.line().await.context("the first word")?;
        anyhow::ensure!(word == "ready", "the first word is '{word}'");
        Ok(inmate)
    }
}

fn with_group(
    mut order: SandboxOrder,
    mut descriptors: Vec<OwnedFd>,
    group: Option<&Group>,
) -> Result<(SandboxOrder, Vec<OwnedFd>)> {
    for (kind, descriptor) in group.map_or(Ok(Vec::new()), Group::descriptors)? {
        order.descriptors.push(kind);
        descriptors.push(descriptor);
    }
    Ok((order, descriptors))
}

pub fn usual_limits() -> GroupLimits {
    GroupLimits {
        memory_bytes: Some(MEMORY_BYTES),
        cpu_percent: Some(100),
        processes: Some(64),
        disk_bytes_per_second: None,
        disk: None,
    }
}

impl Inmate {
    /// One line of its output. The pipe is read on another thread, because it blocks.
    async fn line(&mut self) -> Result<String> {
        let mut output = std::mem::replace(&mut self.output, BufReader::new(std::fs::File::open("/dev/null")?));
        let read = spawn_blocking(move || {
            let mut line = String::new();
            output.read_line(&mut line).map(|_| (line, output))
        });
        let (line, output) = timeout(PATIENCE, read).await.context("no word within the time")???;
        self.output = output;
        Ok(line.trim_end().to_owned())
    }

    pub fn make_ahead(&self) {
        if let Some(group) = &self.group {
            group.make_ahead();
        }
    }

    pub async fn ping(&mut self) -> Result<()> {
        self.input.write_all(b"ping\n")?;
        let answer = self.line().await?;
        anyhow::ensure!(answer == "ping", "the answer is '{answer}'");
        Ok(())
    }

    /// Killed, and gone.
    pub async fn end(mut self) -> Result<()> {
        self.running.kill();
        timeout(PATIENCE, self.running.ended()).await.context("the sandbox did not end")?;
        Ok(())
    }
}
