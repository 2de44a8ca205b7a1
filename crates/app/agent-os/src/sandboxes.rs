//! What the server needs to put agents behind walls, bound from the settings: launchers, groups, users of the host.

use std::{path::Path, sync::Arc};

use agentos_base::config::Config;
use agentos_limits::{
    Cgroups, CgroupsOptions,
    quota::{QuotaChoice, WorkspaceOptions, Workspaces},
};
use agentos_sandbox::{
    AppArmor, AppArmorMode, Backend, SandboxOptions, Sandboxes,
    plan::HostRoot,
    probe::{self, Bounds},
};
use agentos_supervisor::agents::AGENTS_MAX;
use agentos_types::{Code, Fault, Result, machine::Machine, manifest::LimitEnforcement};

use crate::layout::Layout;

/// Which numbers of users there are where this process runs: `FIRST OUTSIDE COUNT` in each line.
const USER_NUMBERS: &str = "/proc/self/uid_map";

/// Users of the host that agents can have; one more is the proxy's.
const AGENTS: u32 = AGENTS_MAX as u32;

pub struct Walls {
    pub sandboxes: Sandboxes,
    pub host: Arc<HostRoot>,
    pub cgroups: Cgroups,
    pub workspaces: Workspaces,
    pub enforcement: LimitEnforcement,
    pub first_host_id: Option<u32>,
    /// The user of the egress proxy on the host: the number after those of the agents.
    pub proxy_host_id: Option<u32>,
}

impl Walls {
    /// `node` is the name under which groups of a dead server are found again.
    pub fn open(config: &Config, layout: &Layout, launcher: &Path, node: &str) -> Result<Self> {
        let (first_host_id, apparmor) = (first_host_id(config)?, apparmor(config)?);
        let workspaces = Workspaces::open(workspace_options(config, layout));
        Self::with(
            config,
            launcher,
            Given { cgroups: cgroups(config, layout, node), workspaces, first_host_id, apparmor },
        )
    }

    /// To look at: workspaces stay untouched, and groups are under a name that no server has. Users that do not exist and
    /// profiles that are missing are the matter of checks of their own.
    pub fn survey(config: &Config, layout: &Layout, launcher: &Path) -> Result<Self> {
        let name = format!("doctor-{}", std::process::id());
        let without = || AppArmor::probe(AppArmorMode::Off, backend(config));
        let given = Given {
            cgroups: cgroups(config, layout, &name),
            workspaces: Workspaces::survey(&workspace_options(config, layout)),
            first_host_id: first_host_id(config).unwrap_or_default(),
            apparmor: apparmor(config).or_else(|_| without())?,
        };
        Self::with(config, launcher, given)
    }

    /// What of all this holds on this machine: a sandbox is started for it.
    pub async fn examine(&self) -> Machine {
        let bounds = Bounds::of(&self.cgroups, &self.workspaces);
        probe::examine(&self.sandboxes, self.host.clone(), self.first_host_id, &bounds).await
    }

    fn with(config: &Config, launcher: &Path, given: Given) -> Result<Self> {
        let options = SandboxOptions { launcher: launcher.to_owned(), backend: backend(config) };
        Ok(Self {
            sandboxes: Sandboxes::open(options)?.with_apparmor(given.apparmor),
            host: Arc::new(HostRoot::survey(Path::new("/"))?),
            cgroups: given.cgroups,
            workspaces: given.workspaces,
            enforcement: enforcement(config),
            first_host_id: given.first_host_id,
            proxy_host_id: given.first_host_id.map(|first| first.saturating_add(AGENTS)),
        })
    }
}

/// What differs between a server and who only looks.
struct Given {
    cgroups: Cgroups,
    workspaces: Workspaces,
    first_host_id: Option<u32>,
    apparmor: AppArmor,
}

fn enforcement(config: &Config) -> LimitEnforcement {
    match config.sandbox_is_strict() {
        true => LimitEnforcement::Strict,
        false => LimitEnforcement::Degraded,
    }
}

fn cgroups(config: &Config, layout: &Layout, node: &str) -> Cgroups {
    Cgroups::open(&CgroupsOptions {
        node: node.to_owned(),
        subtree: config.sandbox_cgroup(),
        workspaces: Some(layout.work()),
        disk_bytes_per_second: config.sandbox_disk_bytes_per_second(),
    })
}

fn workspace_options(config: &Config, layout: &Layout) -> WorkspaceOptions {
    WorkspaceOptions {
        root: layout.work(),
        // The table of settings admits no other name.
        choice: QuotaChoice::parse(config.sandbox_workspace()).unwrap_or_default(),
        is_strict: config.sandbox_is_strict(),
    }
}

/// The table of settings admits no other name.
pub fn backend(config: &Config) -> Backend {
    Backend::parse(config.sandbox_backend()).unwrap_or_default()
}

/// Refuses when profiles are required and cannot be had.
pub fn apparmor(config: &Config) -> Result<AppArmor> {
    AppArmor::probe(AppArmorMode::parse(config.sandbox_apparmor()).unwrap_or_default(), backend(config))
}

/// Root alone may give users away, and without walls there is nobody to give them to.
pub fn first_host_id(config: &Config) -> Result<Option<u32>> {
    if !rustix::process::geteuid().is_root() || backend(config) == Backend::None {
        return Ok(None);
    }
    let first = config.sandbox_first_host_id();
    let map = std::fs::read_to_string(USER_NUMBERS).map_err(Fault::internal)?;
    let count = AGENTS + 1;
    if has_numbers(&map, first, count) {
        return Ok(Some(first));
    }
    let last = first.saturating_add(count - 1);
    Err(Fault::new(
        Code::CONFIG_INVALID_VALUE,
        format!("sandbox.first_host_id: users {first} to {last} do not exist here; {USER_NUMBERS} has no such numbers"),
    )
    .hint("set it to the first of 10,001 numbers that exist in this container and that nobody else uses"))
}

fn has_numbers(map: &str, first: u32, count: u32) -> bool {
    let (first, last) = (u64::from(first), u64::from(first) + u64::from(count) - 1);
    map.lines().any(|line| {
        let mut words = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(from)), Some(Ok(_)), Some(Ok(length))) = (words.next(), words.next(), words.next()) else {
            return false;
        };
        first >= from && last < from.saturating_add(length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_fewer_users_than_a_machine() {
        for (map, first, exists) in [
            ("         0          0 4294967295\n", 1_879_048_192, true),
            ("0 100000 65536\n", 1_879_048_192, false),
            ("0 100000 65536\n", 50_000, true),
            ("0 100000 65536\n", 55_537, false),
            ("0 1000 1\n1 100000 65536\n", 55_537, true),
            ("", 10_000, false),
            ("garbage\n", 10_000, false),
        ] {
            assert_eq!(has_numbers(map, first, 10_000), exists, "{first} in {map}");
        }
    }
}
