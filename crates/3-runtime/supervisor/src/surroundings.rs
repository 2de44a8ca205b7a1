//! What one life of an agent has around its processes: the group that bounds and counts them, and the workspace. Made before
//! the sandbox, taken away after it. All of it reads and makes files: not for async threads.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, OnceLock},
};

use agentos_limits::{
    Group, GroupLimits, Resource,
    quota::{QuotaDriver, Workspace},
};
use agentos_protocol::sandbox::{Descriptor, Mount};
use agentos_sandbox::Evidence;
use agentos_types::{
    Code, Fault, Manifest, Result,
    agent::{Control, Enforcement, Usage},
    manifest::{LimitEnforcement, Limits},
};

use tokio::{
    task::spawn_blocking,
    time::{Duration, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{SupervisorOptions, beside::Beside, model_doors::ModelDoor, processes, ways_out::WayOut};

/// With less than this a workspace counts as full: the next write of a program does not fit.
const DISK_REST_BYTES: u64 = 64 << 10;
/// One part of so many that a file system keeps back for itself: ext4 does with a fiftieth.
const DISK_REST_PART: u64 = 32;

/// Whoever holds them beside their life does so for one measurement or one order.
const HOLDERS_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Surroundings {
    group: Group,
    workspace: Workspace,
    cpu_seconds_max: u64,
    host_id: Option<u32>,
    /// The life is over: commands that it had asked for end with it, where no group ends them.
    over: CancellationToken,
    /// A command of this life has lost its launcher.
    command_lost: CancellationToken,
    beside: Beside,
    /// Open from the birth of the sandbox, where its manifest leads anywhere.
    way_out: OnceLock<WayOut>,
    /// Open as long, where its manifest names models.
    model_door: OnceLock<ModelDoor>,
    /// Fires when group and workspace are gone: the last of the fields is dropped last.
    gone: CancellationToken,
    _last: DropGuard,
}

impl Surroundings {
    pub(crate) fn make(options: &SupervisorOptions, manifest: &Manifest, host_id: Option<u32>) -> Result<Self> {
        let enforcement = manifest.limits.enforcement.unwrap_or(options.enforcement);
        let (name, bytes) = (manifest.name.as_str(), manifest.limits.workspace_bytes);
        let (held, why) = options.workspaces.driver().standing();
        if enforcement == LimitEnforcement::Strict && held != Enforcement::Enforced {
            return Err(Fault::new(
                Code::LIMIT_UNENFORCEABLE,
                format!("limits.workspace_bytes cannot be enforced on this machine: {why}"),
            )
            .hint("agent-os doctor says what the machine lacks; sandbox.workspace = tmpfs is exact everywhere and does not last"));
        }
        let workspace = options.workspaces.prepare(name, bytes, host_id)?;
        let limits = GroupLimits::of_manifest(&manifest.limits).writing_to(workspace.path());
        let group = options.cgroups.create(name, &limits, enforcement)?;
        let gone = CancellationToken::new();
        Ok(Self {
            group,
            workspace,
            cpu_seconds_max: manifest.limits.cpu_seconds,
            host_id,
            over: CancellationToken::new(),
            command_lost: CancellationToken::new(),
            beside: Beside::default(),
            way_out: OnceLock::new(),
            model_door: OnceLock::new(),
            _last: gone.clone().drop_guard(),
            gone,
        })
    }

    /// Takes them away once nobody holds them any more; the group waits for its last process. Returns when they are gone, so
    /// that no two lives have the same workspace: a command that was being made, or a reader of figures, may still hold them.
    pub(crate) async fn remove(surroundings: Arc<Self>) {
        surroundings.over.cancel();
        let gone = surroundings.gone.clone();
        // Fails only when the runtime goes down, and then it is dropped there.
        let _ = spawn_blocking(move || drop(surroundings)).await;
        if timeout(HOLDERS_PATIENCE, gone.cancelled()).await.is_err() {
            tracing::warn!("something still holds what was around a life");
        }
    }

    /// The user of this agent on the host.
    pub(crate) fn host_id(&self) -> Option<u32> {
        self.host_id
    }

    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// Once in a life.
    pub(crate) fn hold(&self, way_out: WayOut) -> Result<()> {
        self.way_out.set(way_out).map_err(|_| Fault::internal("a life has two ways out"))
    }

    /// Once in a life.
    pub(crate) fn hold_model_door(&self, door: ModelDoor) -> Result<()> {
        self.model_door.set(door).map_err(|_| Fault::internal("a life has two doors to models"))
    }

    /// Nothing of the life is left that could use it.
    pub(crate) async fn end_way_out(&self) {
        if let Some(way_out) = self.way_out.get() {
            way_out.end().await;
        }
    }

    /// Onto `/workspace`.
    pub(crate) fn mount(&self) -> Mount {
        self.workspace.mount()
    }

    /// For a group below this one.
    pub(crate) fn limits(&self, limits: &Limits) -> GroupLimits {
        GroupLimits::of_manifest(limits).writing_to(self.workspace.path())
    }

    /// What the sandbox is born into.
    pub(crate) fn descriptors(&self) -> Result<Vec<(Descriptor, OwnedFd)>> {
        self.group.descriptors()
    }

    /// Whether all processes together have this limit.
    pub(crate) fn bounds(&self, resource: Resource) -> bool {
        self.group.missing().iter().all(|(missing, _)| *missing != resource)
    }

    /// Limits of the manifest that this machine does not enforce, as readers see them.
    pub(crate) fn degraded(&self) -> Vec<Control> {
        let row = |(resource, why): &(Resource, String)| Control {
            name: resource.limit().to_owned(),
            enforcement: Enforcement::NotEnforced,
            reason: why.clone(),
        };
        let (enforcement, reason) = self.workspace.driver().standing();
        let workspace = (enforcement != Enforcement::Enforced).then(|| Control {
            name: "limits.workspace_bytes".to_owned(),
            enforcement,
            reason: reason.to_owned(),
        });
        self.group.missing().iter().map(row).chain(workspace).collect()
    }

    pub(crate) fn beside(&self) -> &Beside {
        &self.beside
    }

    /// The agent's processes and those of its commands, where somebody has to ask them what they hold: a kernel that bounds the
    /// workspace knows by itself. `init` is the first process of the sandbox.
    fn holders(&self, init: u32) -> Vec<u32> {
        if self.workspace.driver() != QuotaDriver::Watchdog {
            return Vec::new();
        }
        self.beside.running().into_iter().chain([init]).flat_map(processes::tree).collect()
    }

    /// A reading of this life. What no group counts is read from `/proc`, and told by the launcher for commands that have
    /// ended. A workspace that cannot be measured is as it was `before`.
    pub(crate) fn reading(&self, init: u32, before: &Usage) -> Usage {
        let usage = self.group.usage();
        let moved = self.way_out.get().map(WayOut::bytes).unwrap_or_default();
        let own = match (usage.cpu, usage.memory, usage.processes, usage.disk) {
            (Some(_), Some(_), Some(_), Some(_)) => Usage::default(),
            _ => processes::sample(init),
        };
        Usage {
            cpu_ms: usage.cpu.map_or_else(|| self.beside.cpu_ms(own.cpu_ms), |cpu| cpu.total_us / 1_000),
            memory_bytes: usage.memory.map_or(own.memory_bytes, |memory| memory.bytes),
            memory_peak_bytes: usage
                .memory
                .map_or(own.memory_peak_bytes.max(self.beside.memory_peak_bytes()), |memory| {
                    memory.peak_bytes.unwrap_or(memory.bytes)
                }),
            disk_read_bytes: usage.disk.map_or(own.disk_read_bytes, |disk| disk.read_bytes),
            disk_write_bytes: usage.disk.map_or(own.disk_write_bytes, |disk| disk.write_bytes),
            processes: usage.processes.map_or(own.processes, |processes| processes.count),
            processes_peak: usage
                .processes
                .map_or(own.processes, |processes| processes.peak.unwrap_or(processes.count)),
            oom_kills: usage.memory.map_or(0, |memory| memory.oom_kills),
            throttled_ms: usage.cpu.map_or(0, |cpu| cpu.throttled_us / 1_000),
            workspace_bytes: self
                .workspace
                .used_by(&self.holders(init))
                .map_or(before.workspace_bytes, |used| used.bytes),
            egress_in_bytes: moved.r#in,
            egress_out_bytes: moved.out,
        }
    }

    /// What speaks for one end or another. `is_killed`: it was us.
    pub(crate) fn evidence(&self, is_killed: bool) -> Evidence {
        let usage = self.group.usage();
        Evidence {
            oom_kills: usage.memory.map_or(0, |memory| memory.oom_kills),
            processes_refused: usage.processes.map_or(0, |processes| processes.refused),
            is_disk_full: self.is_disk_full(),
            cpu_seconds_max: Some(self.cpu_seconds_max),
            is_killed,
        }
    }

    /// Above its bound, where nobody but us holds it.
    pub(crate) fn check_workspace(&self, init: u32) -> Result<()> {
        self.workspace.check(&self.holders(init)).map(drop)
    }

    pub(crate) fn over(&self) -> CancellationToken {
        self.over.clone()
    }

    pub(crate) fn command_lost(&self) -> CancellationToken {
        self.command_lost.clone()
    }

    pub(crate) fn is_disk_full(&self) -> bool {
        let usage = self.workspace.usage();
        let full = |used: u64, max: u64, rest: u64| max > 0 && used.saturating_add(rest) >= max;
        full(usage.bytes, usage.bytes_max, DISK_REST_BYTES.max(usage.bytes_max / DISK_REST_PART))
            || full(usage.files, usage.files_max, 1)
    }

    /// Everything in the group, wherever it is.
    pub(crate) fn kill(&self) {
        self.over.cancel();
        self.group.kill();
    }
}
